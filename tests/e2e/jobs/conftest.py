from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from tests.e2e.jobs.servers import Servers, own_database
from tests.services import Server, postgres_server, redis_server


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Let the tests of a module share processes: they take longer to start than most tests."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_store() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
async def servers(postgres: Server, redis_store: Server) -> AsyncIterator[Servers]:
    """PostgreSQL and Redis; a test may stop and start both."""
    redis_store.start()
    with redis.Redis.from_url(redis_store.url) as client:
        client.flushall()
    async with own_database(postgres) as url:
        yield Servers(postgres, redis_store, url)
    redis_store.start()
