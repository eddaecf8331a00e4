from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
import redis

from llmgateway.stores.redis.link import RedisLink
from tests.lines import Lines
from tests.services import Server, redis_server

StartLink = Callable[..., Awaitable[RedisLink]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture(scope="session")
def one_redis() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis_service(one_redis: Server) -> Iterator[Server]:
    """An empty Redis that a test may stop; it runs again afterwards."""
    one_redis.start()
    with redis.Redis.from_url(one_redis.url) as client:
        client.flushall()
        client.script_flush()
    yield one_redis
    one_redis.start()


@pytest.fixture
def client(redis_service: Server) -> Iterator["redis.Redis"]:
    """Somebody else who looks into the same Redis."""
    with redis.Redis.from_url(redis_service.url) as client:
        yield client


@asynccontextmanager
async def linked(link: RedisLink) -> AsyncIterator[RedisLink]:
    """Run a link."""
    await link.connect()
    async with anyio.create_task_group() as group:
        group.start_soon(link.run)
        yield link
        await link.close()
        group.cancel_scope.cancel()


@pytest.fixture
async def start_link(redis_service: Server, lines: Lines) -> AsyncIterator[StartLink]:
    """Run a link to the Redis of the test, or another: `await start_link(url, timeout_s=…)`."""
    async with AsyncExitStack() as stack:

        async def start(url: str = redis_service.url, **options: float) -> RedisLink:
            return await stack.enter_async_context(linked(RedisLink(url, logger=lines.logger, **options)))

        yield start


@pytest.fixture
async def link(start_link: StartLink) -> RedisLink:
    return await start_link(probe_every_s=0.1)
