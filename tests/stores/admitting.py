"""A process that asks one Redis for leave as often as it can: `python -m tests.stores.admitting URL START SECONDS`.

It prints how often it passed, and when it asked first and heard last (Unix seconds).
"""

import sys
import time
from datetime import UTC, datetime

import anyio
import structlog

from llmgateway.stores.base import Ask, Rate, Rules
from llmgateway.stores.redis.limiter import RedisLimiter
from llmgateway.stores.redis.link import RedisLink

RULES = Rules(rates=(Rate("everyone", "rate:everyone", "requests", 30_000, 60.0, 200),))
_AT_ONCE = 4


class _Asking:
    def __init__(self, limiter: RedisLimiter, seconds: float) -> None:
        self.passed = 0
        self._limiter = limiter
        self._until = time.perf_counter() + seconds

    async def run(self) -> None:
        while time.perf_counter() < self._until:
            decision, _ = await self._limiter.reserve(Ask("x", RULES, 0, 0, 10.0))
            self.passed += decision.allowed
            if not decision.allowed:
                await anyio.sleep(decision.retry_after_s)


async def _main(url: str, start: float, seconds: float) -> None:
    link = RedisLink(url, logger=structlog.get_logger(), timeout_s=5.0)
    await link.connect()
    await anyio.sleep(max(start - _now(), 0))
    began = _now()
    asking = _Asking(RedisLimiter(link), seconds)
    async with anyio.create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(asking.run)
    sys.stdout.write(f"{asking.passed} {began} {_now()}\n")
    await link.close()


def _now() -> float:
    return datetime.now(UTC).timestamp()


if __name__ == "__main__":
    anyio.run(_main, sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
