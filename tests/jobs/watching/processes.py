"""Processes in which jobs are watched, as it were: each with a store of its own, over one book."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from llmgateway.jobs.live import Live
from llmgateway.stores.base import Store
from llmgateway.stores.fallback import FallbackStore
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.store import MemoryStore
from llmgateway.stores.redis.limiter import RedisLimiter
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.store import RedisStore
from tests.jobs.watching.book import Book
from tests.lines import Lines

Process = Callable[..., Awaitable[Live]]


def memory() -> Store:
    return MemoryStore(MemoryLimiter())


@asynccontextmanager
async def running(live: Live, store: Store) -> AsyncIterator[Live]:
    async with anyio.create_task_group() as group:
        group.start_soon(store.run)
        group.start_soon(live.run)
        yield live
        await store.close()
        group.cancel_scope.cancel()


@asynccontextmanager
async def processes(lines: Lines) -> AsyncIterator[Process]:
    """Start somebody who watches: `await process(book)`, with a Redis `await process(book, url)`."""
    async with AsyncExitStack() as stack:

        async def start(book: Book, url: str | None = None, **options: float) -> Live:
            store = memory()
            if url is not None:
                link = RedisLink(url, logger=lines.logger, probe_every_s=0.05)
                await link.connect()
                store = FallbackStore(RedisStore(link, RedisLimiter(link)), store, fail_open=True)
            live = Live(book, store, lines.logger, **options)
            return await stack.enter_async_context(running(live, store))

        yield start
