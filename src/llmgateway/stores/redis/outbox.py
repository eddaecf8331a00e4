"""What is sent to Redis and nobody waits for: it waits itself, and goes in one pipeline with all that waits."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from llmgateway.stores.redis.connection import Command, Lane
from llmgateway.stores.redis.scripts import Scripts

Then = Callable[[list[Any]], None]

_MOST_COMMANDS = 10_000
_MOST_BYTES = 32 * 1024 * 1024
_MOST_IN_ONE = 1000


class Health(Protocol):
    """Whoever knows whether Redis answers."""

    round_trips: int

    @property
    def up(self) -> bool: ...

    def answered(self) -> None: ...

    def failed(self, fault: str) -> None: ...


class Outbox:
    """Commands on their way.

    `dropped` counts those that found no room, or whose answer never came.

    Args:
        wanted: Called when something waits and there is no connection.
    """

    def __init__(self, lane: Lane, scripts: Scripts, health: Health, wanted: Callable[[], None]) -> None:
        self.dropped = 0
        self._lane = lane
        self._scripts = scripts
        self._health = health
        self._wanted = wanted
        self._waiting: deque[tuple[tuple[Command, ...], Then | None, int]] = deque()
        self._commands = self._bytes = 0
        self._flushing = False
        self._emptied = asyncio.Event()

    def put(self, commands: tuple[Command, ...], then: Then | None) -> None:
        """Take commands, or drop them when there is no room."""
        size_bytes = 0
        for command in commands:
            for part in command:
                if part.__class__ is bytes or part.__class__ is str:
                    size_bytes += len(part)
        if self._commands + len(commands) > _MOST_COMMANDS or self._bytes + size_bytes > _MOST_BYTES:
            self.dropped += len(commands)
            return
        self._waiting.append((commands, then, size_bytes))
        self._commands += len(commands)
        self._bytes += size_bytes
        self.schedule()

    def schedule(self) -> None:
        """Flush soon, not now: what others send in the same moment goes along."""
        if self._waiting and not self._flushing and self._health.up:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def drain(self, within_s: float) -> bool:
        """Wait until all is sent and answered; whether it was in time."""
        deadline = time.perf_counter() + within_s
        while self._waiting or self._flushing:
            self._emptied.clear()
            left_s = deadline - time.perf_counter()
            if left_s <= 0 or not self._health.up or not await set_within(self._emptied, left_s):
                return False
        return True

    def give_up(self) -> None:
        """Drop what waits."""
        self.dropped += self._commands
        self._waiting.clear()
        self._commands = self._bytes = 0

    def _flush(self) -> None:
        connection = self._lane.current
        if connection is None or not self._health.up:
            self._flushing = False
            self._wanted()
            return
        batch: list[tuple[int, Then | None]] = []
        commands: list[Command] = []
        while self._waiting and len(commands) < _MOST_IN_ONE:
            each, then, size_bytes = self._waiting.popleft()
            self._commands -= len(each)
            self._bytes -= size_bytes
            batch.append((len(each), then))
            commands += each
        self._health.round_trips += 1
        # The next pipeline goes when this one is answered: the busier Redis is, the more goes together.
        self._scripts.ask(connection, commands, lambda replies, fault: self._finish(replies, fault, batch))

    def _finish(self, replies: list[Any] | None, fault: str | None, batch: Sequence[tuple[int, Then | None]]) -> None:
        self._flushing = False
        if replies is None:
            self.dropped += sum(count for count, _ in batch)
            self._health.failed(fault or "no answer")
        else:
            self._health.answered()
            _hand_out(replies, batch)
        self.schedule()
        if not self._waiting:
            self._emptied.set()


def _hand_out(replies: list[Any], batch: Sequence[tuple[int, Then | None]]) -> None:
    loop = asyncio.get_running_loop()
    start = 0
    for count, then in batch:
        if then is not None:
            loop.call_soon(then, replies[start : start + count])  # so that its error is not ours
        start += count


async def set_within(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until an event is set; whether it was in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False
