from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from tests.jobs.watching.processes import Process, processes
from tests.lines import Lines
from tests.services import Server, rabbitmq_server, redis_server


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture(scope="session")
def redis_broker() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_broker() -> Iterator[Server]:
    with rabbitmq_server() as server:
        yield server


@pytest.fixture
def redis_queue(redis_broker: Server) -> Server:
    """A Redis whose queue is empty."""
    redis_broker.start()
    with redis.Redis.from_url(redis_broker.url) as client:
        client.flushall()
    return redis_broker


@pytest.fixture
def rabbitmq_queue(rabbitmq_broker: Server) -> Server:
    """A RabbitMQ without queues."""
    import pika  # type: ignore[import-untyped]  # noqa: PLC0415  only these tests need it

    rabbitmq_broker.start()
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_broker.url)) as connection:
        for name in ("llmgateway-jobs", "llmgateway-jobs.DQ", "llmgateway-jobs.XQ"):
            connection.channel().queue_delete(name)
    return rabbitmq_broker


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Server:
    """Each broker in turn, empty; a test may stop it."""
    server = request.getfixturevalue(f"{request.param}_queue")
    assert isinstance(server, Server)
    return server


@pytest.fixture
async def process(lines: Lines) -> AsyncIterator[Process]:
    """Processes in which jobs are watched."""
    async with processes(lines) as start:
        yield start
