"""A gateway whose answers are given: for the face in front of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.gateway.gateway import Gateway

Answer = Callable[[Exchange, Call], Awaitable[Reply]]


class Answering:
    """A target that gives a reply, raises an error, or does as a function says; keeps its calls."""

    def __init__(self, play: Reply | Exception | Answer) -> None:
        self._play = play
        self.calls: list[Call] = []
        self.exchanges: list[Exchange] = []

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        self.calls.append(call)
        self.exchanges.append(exchange)
        if isinstance(self._play, Exception):
            raise self._play
        if callable(self._play):
            return await self._play(exchange, call)
        return self._play

    def gateway(self) -> Gateway:
        async def close() -> None:
            """Nothing is open."""

        return Gateway(self, close)


class Chunks:
    """The pieces of a stream: bytes are given, numbers are seconds of silence, an error is raised."""

    def __init__(self, *plays: bytes | float | Exception) -> None:
        self._plays = list(plays)
        self.given = 0
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while self._plays:
            play = self._plays.pop(0)
            if isinstance(play, Exception):
                raise play
            if isinstance(play, bytes):
                self.given += 1
                return play
            await asyncio.sleep(play)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1
