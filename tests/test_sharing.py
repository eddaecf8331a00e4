import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from typing_extensions import override
from uvicorn.server import ServerState

from llmgateway.server import bind
from llmgateway.sharing import Listening, Shares, SharingLoop

HOLDS_A_PLACE = """
import sys
from pathlib import Path
from llmgateway.sharing import Shares
shares = Shares(Path(sys.argv[1]))
shares.tell(int(sys.argv[2]))
print("there", flush=True)
sys.stdin.read()
"""


class Kept(asyncio.Protocol):
    """As uvicorn's: it is in the set of all that are open, as long as it is."""

    def __init__(self, state: ServerState) -> None:
        self.server_state = state
        self.connections = state.connections

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.connections.add(self)  # type: ignore[arg-type]  # it plays one of uvicorn's

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)


class Worker:
    """Listens as one process of several does."""

    def __init__(self, listening: socket.socket, shares: Shares) -> None:
        self.state = ServerState()
        self.server = Listening(asyncio.get_running_loop(), listening, lambda: Kept(self.state), shares)

    @property
    def count(self) -> int:
        return len(self.state.connections)


@asynccontextmanager
async def another(file: Path, connections: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process, with so many connections."""
    command = [sys.executable, "-c", HOLDS_A_PLACE, str(file), str(connections)]
    child = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        assert await child.stdout.readline() == b"there\n"
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@asynccontextmanager
async def clients(listening: socket.socket, count: int) -> AsyncIterator[None]:
    """So many who connect and stay."""
    opened = [socket.create_connection(listening.getsockname()) for _ in range(count)]
    try:
        yield
    finally:
        for each in opened:
            each.close()


async def until(condition: object, within_s: float = 5.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  the system takes its time
            await asyncio.sleep(0.001)


async def test_processes_have_places_of_their_own_and_the_dead_ones_is_taken_again(tmp_path: Path) -> None:
    file = tmp_path / "shares"
    own = Shares(file)
    own.tell(3)
    async with another(file, 0) as child:
        assert own.has_more()
        child.kill()
        await child.wait()
    async with another(file, 9):
        assert not own.has_more(), "it has the dead one's place"
        own.tell(20)
        assert own.has_more()
        own.tell(10)
        assert not own.has_more(), "as good as even"


async def test_who_takes_no_more_has_nothing_left_to_it(tmp_path: Path) -> None:
    file = tmp_path / "shares"
    own, state = Shares(file), ServerState()
    async with another(file, 4):
        with bind("127.0.0.1", 0) as listening:
            server = Listening(asyncio.get_running_loop(), listening, lambda: Kept(state), own)
            own.tell(9)
            assert own.has_more()

            server.close()
            server.close()
            await server.wait_closed()

            assert not own.has_more(), "it is nobody any more"


async def test_one_alone_takes_all_at_once_and_without_delay_of_small_packets(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as listening:
        worker = Worker(listening, Shares(tmp_path / "shares"))
        async with clients(listening, 40):
            await until(lambda: worker.count == 40)
            (*_, one) = worker.state.connections
            taken = one.transport.get_extra_info("socket")
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await until(lambda: worker.count == 0)
        worker.server.close()


async def test_who_has_more_waits_for_the_other_but_not_for_long(tmp_path: Path) -> None:
    file = tmp_path / "shares"
    async with another(file, 0):
        with bind("127.0.0.1", 0) as listening:
            worker = Worker(listening, Shares(file))
            began = asyncio.get_running_loop().time()
            async with clients(listening, 30):
                # The other never comes: each look that finds nobody takes more than the one before.
                await until(lambda: worker.count == 30)
            took_s = asyncio.get_running_loop().time() - began
            worker.server.close()

    assert 0.02 < took_s < 2


async def test_whoever_died_is_waited_for_by_nobody(tmp_path: Path) -> None:
    file = tmp_path / "shares"
    async with another(file, 100), another(file, 5) as second, another(file, 1) as third:
        for killed in (second, third):
            killed.kill()
            await killed.wait()

        shares = Shares(file)  # takes the second's place; nobody will ever take the third's
        shares.tell(100)

        assert not shares.has_more()


async def test_without_files_left_it_tries_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.sharing._NO_FILES_S", 0.05)
    tried: list[float] = []

    class Full(socket.socket):
        @override
        def accept(self) -> tuple[socket.socket, object]:
            tried.append(asyncio.get_running_loop().time())
            if len(tried) < 3:
                raise OSError(24, "Too many open files")
            return super().accept()

    with bind("127.0.0.1", 0) as bound, Full(fileno=bound.detach()) as listening:
        worker = Worker(listening, Shares(tmp_path / "shares"))
        async with clients(listening, 1):
            await until(lambda: worker.count == 1)
        worker.server.close()

    assert tried[1] - tried[0] >= 0.04


def test_its_loop_serves_as_uvloops_does(tmp_path: Path) -> None:
    async def serve() -> int:
        loop, state = asyncio.get_running_loop(), ServerState()
        assert isinstance(loop, uvloop.Loop)
        with bind("127.0.0.1", 0) as listening:
            server = await loop.create_server(lambda: Kept(state), sock=listening, ssl=None, backlog=5)
            async with clients(listening, 2):
                await until(lambda: len(state.connections) == 2)
                found = len(state.connections)
            server.close()
        return found

    with asyncio.Runner(loop_factory=lambda: SharingLoop(tmp_path / "shares")) as runner:
        assert runner.run(serve()) == 2
