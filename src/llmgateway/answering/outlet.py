"""The way out of one connection: what is written leaves at the end of a turn, and waits while its client is slow."""

import asyncio

from typing_extensions import override

from llmgateway.turn import Turn


class Outlet(asyncio.Protocol):
    """What a connection writes to, and what tells it how fast its client reads.

    Attributes:
        turn: Puts writing off.
        is_slow: Nothing is to be written now: the client has to read first, or is gone.
        is_lost: The client is gone.
    """

    transport: asyncio.Transport

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.is_slow = self.is_lost = False
        self._drained: asyncio.Event | None = None

    def write(self, data: bytes) -> None:
        """Write what was put off until now."""
        # uvloop raises for a closed one.
        if not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        """End the connection once all that was said is written."""
        self.turn.end()
        self.transport.close()

    def lose(self) -> None:
        """Let nobody wait for a client that is gone."""
        self.is_lost = self.is_slow = True
        if self._drained is not None:
            self._drained.set()

    @override
    def eof_received(self) -> None:
        self.turn.end()  # the connection is closed after this

    @override
    def pause_writing(self) -> None:
        self.is_slow = True
        self._drained = asyncio.Event()

    @override
    def resume_writing(self) -> None:
        self.is_slow = False
        if self._drained is not None:
            self._drained.set()

    async def drained(self) -> None:
        """Wait until the client has read, or is gone."""
        if self._drained is not None:
            await self._drained.wait()
