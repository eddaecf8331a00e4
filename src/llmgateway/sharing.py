"""Several processes listen at one socket, and share what comes evenly.

Left to themselves they do not: whoever wakes first takes all that waits, and of two processes one may have three
quarters of the clients, who keep their connections for hours.
"""

import asyncio
import fcntl
import mmap
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import uvloop
from typing_extensions import override

# As many as there may be workers.
_PLACES, _PLACE_BYTES = 256, 8
# Who has more than another leaves what comes to it, and looks every so often whether it was taken. If nobody has come
# for it after some looks the other is busy, or has died: it is taken, and next time twice as many are.
_LOOK_S, _LOOKS, _MOST_LEFT = 0.001, 10, 64
# As good as even: nobody waits for an eighth. And of many that come together some are taken at once.
_NEARLY, _AT_ONCE = 8, 8
# What is open has to end first: as long as asyncio waits.
_NO_FILES_S = 1.0

Made = Callable[[], asyncio.BaseProtocol]


class Shares:
    """How many connections each process has, in a file that all of them map.

    A place in it is the process's that holds its lock, which the system takes back when the process ends.

    Raises:
        OSError: The file cannot be made, or it has no place left.
    """

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, _PLACES * _PLACE_BYTES)
        # Zero is nobody, one more than its connections a process that takes more.
        self._counts = memoryview(mmap.mmap(self._file, _PLACES * _PLACE_BYTES)).cast("Q")
        self._place = self._taken()

    def _taken(self) -> int:
        own = None
        for place in range(_PLACES):
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                # Whoever died there has left its count behind, and all others would wait for it.
                self._counts[place] = 0
                if own is None:
                    own = place
                else:
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
        if own is None:
            raise OSError(f"more than {_PLACES} processes listen at one socket")
        return own

    def tell(self, own: int) -> None:
        """Say how many this process has."""
        self._counts[self._place] = own + 1

    def has_more(self) -> bool:
        """Whether this process has clearly more than another one that takes them."""
        least = min(filter(None, self._counts), default=0)
        return self._counts[self._place] > least + least // _NEARLY

    def leave(self) -> None:
        """Take no more: nobody leaves anything to this process from now on."""
        self._counts[self._place] = 0


class _Open(set[Any]):
    """uvicorn's set of all connections that are open; tells of each change."""

    def __init__(self, told: Callable[[], None]) -> None:
        super().__init__()
        self._told = told

    @override
    def add(self, element: object) -> None:
        super().add(element)
        self._told()

    @override
    def discard(self, element: object) -> None:
        super().discard(element)
        self._told()


class Listening:
    """Takes connections from a socket that other processes listen at too, as long as it is this one's turn.

    Args:
        listening: Is closed by whoever opened it.
        make: Makes the protocol of a connection, which knows all that are open.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, listening: socket.socket, make: Made, shares: Shares) -> None:
        listening.setblocking(False)
        self._loop = loop
        self._listening = listening
        self._make = make
        self._shares = shares
        self._joining: set[asyncio.Task[None]] = set()
        self._open = _Open(self._tell)
        # Each protocol that is made from now on keeps itself in there.
        cast("Any", make()).server_state.connections = self._open
        self._resting: asyncio.TimerHandle | None = None
        self._looks, self._left = 0, 1
        self._serving = True
        self._tell()
        loop.add_reader(listening, self._come)

    def _tell(self) -> None:
        if self._serving:
            self._shares.tell(len(self._open) + len(self._joining))

    def _come(self) -> None:
        if self._shares.has_more():
            self._looks = 0
            self._rest(_LOOK_S)
            return
        self._left = 1
        for _ in range(_AT_ONCE):
            if not self._take() or self._shares.has_more():
                return

    def _take(self) -> bool:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:
            self._rest(_NO_FILES_S)
            return False
        connection.setblocking(False)
        task = self._loop.create_task(self._join(connection))
        self._joining.add(task)
        task.add_done_callback(self._joined)
        self._tell()
        return True

    def _joined(self, task: asyncio.Task[None]) -> None:
        self._joining.discard(task)
        self._tell()

    async def _join(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, connection)
        except OSError:  # it has gone by now
            connection.close()

    def _rest(self, rest_s: float) -> None:
        self._loop.remove_reader(self._listening)
        self._resting = self._loop.call_later(rest_s, self._rested)

    def _rested(self) -> None:
        self._looks += 1
        if self._shares.has_more() and self._looks < _LOOKS:
            self._resting = self._loop.call_later(_LOOK_S, self._rested)
            return
        self._resting = None
        if self._looks >= _LOOKS and all(self._take() for _ in range(self._left)):
            self._left = min(2 * self._left, _MOST_LEFT)
        # It rests again where no more files may be open.
        if self._resting is None:
            self._loop.add_reader(self._listening, self._come)

    def close(self) -> None:
        """Take no more; what is open stays."""
        if self._serving:
            self._serving = False
            self._shares.leave()
            if self._resting is None:
                self._loop.remove_reader(self._listening)
            else:
                self._resting.cancel()

    async def wait_closed(self) -> None:
        """Return at once: uvicorn itself waits for the connections."""


class SharingLoop(uvloop.Loop):
    """An event loop whose servers share their socket with those of other processes.

    Args:
        file: The same for all processes that listen at one socket.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    @override
    async def create_server(self, protocol_factory: Made, *, sock: socket.socket, **_: Any) -> Listening:  # type: ignore[override]  # what uvicorn gives and takes
        return Listening(self, sock, protocol_factory, Shares(self._file))
