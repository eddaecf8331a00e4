"""The store of a process that shares nothing."""

import asyncio

from llmgateway.stores.memory.bell import MemoryBell
from llmgateway.stores.memory.board import MemoryBoard
from llmgateway.stores.memory.feed import MemoryFeed
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.values import MemoryValues

_SWEEP_EVERY_S = 1.0


class MemoryStore:
    """Everything in this process.

    Args:
        sweep_every_s: How often a few of the values that are over are forgotten.
    """

    shared = False
    up = True

    def __init__(
        self, limiter: MemoryLimiter, values: MemoryValues | None = None, *, sweep_every_s: float = _SWEEP_EVERY_S
    ) -> None:
        self.limiter = limiter
        self.values = MemoryValues() if values is None else values
        self.board = MemoryBoard()
        self.bell = MemoryBell()
        self.feed = MemoryFeed()
        self.reserve_now = limiter.reserve_now
        self._sweep_every_s = sweep_every_s

    async def check(self) -> str | bool:
        """Say that it answers: memory always does."""
        return True

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_every_s)
            self.values.sweep()

    async def close(self) -> None:
        """Nothing is open."""
