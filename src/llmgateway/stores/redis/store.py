"""The store that processes share."""

import anyio

from llmgateway.stores.base import Limiter
from llmgateway.stores.redis.bell import RedisBell
from llmgateway.stores.redis.board import RedisBoard
from llmgateway.stores.redis.feed import RedisFeed
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.values import RedisValues


class RedisStore:
    """Everything over one link, which it closes in the end."""

    shared = True

    def __init__(self, link: RedisLink, limiter: Limiter) -> None:
        self.link = link
        self.limiter = limiter
        self.values = RedisValues(link)
        self.board = RedisBoard(link)
        self.bell = RedisBell(link)
        self.feed = RedisFeed(link)

    @property
    def up(self) -> bool:
        return self.link.up

    async def check(self) -> str | bool:
        """Say whether Redis answers, for readiness; if not, why, without its address."""
        reason = self.bell.fault if self.link.up else self.link.fault or "no answer"
        return True if reason is None else reason.removeprefix(f"{self.link.address.shown}: ")

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.link.run)
            group.start_soon(self.bell.run)

    async def close(self) -> None:
        self.feed.close()
        await self.link.close()
