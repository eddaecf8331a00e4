import json
from typing import Any
from urllib.parse import urlsplit

import anyio
import pika  # type: ignore[import-untyped]
import pytest
import redis

from llmgateway.jobs.queue.announcing import MOST_REMINDERS, BrokerQueue, shown
from llmgateway.jobs.queue.brokers import NAMESPACE, QUEUE
from tests.lines import Lines
from tests.services import Server


def messages(server: Server) -> list[dict[str, Any]]:
    """What lies in the queue, as it lies there; whoever looks at RabbitMQ takes it."""
    if urlsplit(server.url).scheme == "redis":
        with redis.Redis.from_url(server.url) as client:
            return [json.loads(body) for body in client.hgetall(f"{NAMESPACE}:{QUEUE}.msgs").values()]
    with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
        channel = connection.channel()
        bodies = iter(lambda: channel.basic_get(QUEUE, auto_ack=True)[2], None)
        return [json.loads(body) for body in bodies]


async def test_a_message_holds_the_id_of_a_job_and_nothing_else(broker: Server, lines: Lines) -> None:
    queue = BrokerQueue(broker.url, lines.logger)

    await queue.announce("0199-job")

    (message,) = await anyio.to_thread.run_sync(messages, broker)
    assert {name: message[name] for name in ("queue_name", "actor_name", "args", "kwargs")} == {
        "queue_name": "llmgateway-jobs",
        "actor_name": "run",
        "args": ["0199-job"],
        "kwargs": {},
    }
    assert set(message["options"]) <= {"redis_message_id"}
    assert set(message) == {"queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp"}
    await queue.close()


async def test_a_reminder_sends_as_many_messages_as_are_missing(broker: Server, lines: Lines) -> None:
    queue = BrokerQueue(broker.url, lines.logger)
    jobs = [f"job-{number}" for number in range(MOST_REMINDERS + 50)]
    for job in jobs[:3]:
        await queue.announce(job)

    await queue.remind([])
    await queue.remind(jobs[:2])
    assert queue.link().waiting() == 3
    await queue.remind(jobs[:5])
    await queue.remind(jobs[:5])
    assert queue.link().waiting() == 5
    await queue.remind(jobs)
    assert queue.link().waiting() == MOST_REMINDERS
    assert await queue.check() is True
    await queue.close()


async def test_a_queue_that_somebody_deleted_is_there_again(rabbitmq_queue: Server, lines: Lines) -> None:
    queue = BrokerQueue(rabbitmq_queue.url, lines.logger)
    await queue.announce("job-1")
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_queue.url)) as connection:
        connection.channel().queue_delete(QUEUE)

    await queue.remind(["job-1"])
    assert queue.link().waiting() == 1
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_queue.url)) as connection:
        connection.channel().queue_delete(QUEUE)
    await queue.announce("job-1")

    assert queue.link().waiting() == 1
    assert lines.all() == []
    await queue.close()


async def test_a_gateway_without_jobs_asks_no_broker(lines: Lines) -> None:
    queue = BrokerQueue("amqp://nobody.invalid:1", lines.logger)

    await queue.remind([])

    assert await queue.check() is True
    assert lines.all() == []
    await queue.close()


async def test_a_broker_that_is_away_is_told_of_once_and_so_is_its_return(redis_queue: Server, lines: Lines) -> None:
    url = redis_queue.url.replace("redis://", "redis://user:planted-secret@")
    queue = BrokerQueue(url, lines.logger)
    redis_queue.stop()

    await queue.announce("job-1")
    await queue.announce("job-2")
    await queue.remind(["job-1"])
    assert await queue.check() == "ConnectionError"
    assert lines.events() == ["queue_away"]
    assert "planted-secret" not in lines.text()
    assert f"127.0.0.1:{redis_queue.port}" in lines.text()

    redis_queue.start()
    queue = BrokerQueue(redis_queue.url, lines.logger)
    await queue.announce("job-3")
    assert await queue.check() is True
    await queue.close()


async def test_a_queue_hears_by_itself_that_its_broker_is_back(redis_queue: Server, lines: Lines) -> None:
    queue = BrokerQueue(redis_queue.url, lines.logger)
    redis_queue.stop()
    await queue.announce("job-1")
    redis_queue.start()

    await queue.remind(["job-1"])

    assert lines.events() == ["queue_away", "queue_back"]
    assert queue.link().waiting() == 1
    await queue.close()


async def test_nobody_waits_long_for_a_broker_that_hangs_and_nobody_else_waits_at_all(
    broker: Server, lines: Lines
) -> None:
    queue = BrokerQueue(broker.url, lines.logger, within_s=0.2)
    await queue.announce("job-1")

    with broker.hung():
        await queue.announce("job-2")
        with anyio.fail_after(10):  # twice as long if each of them waited
            for _ in range(100):
                await queue.announce("job-3")
        assert await queue.check() == "no answer"

    assert lines.events() == ["queue_away"]
    with anyio.fail_after(20):
        while await queue.check() is not True:  # noqa: ASYNC110  nothing tells but the answer
            await anyio.sleep(0.05)
    assert lines.events() == ["queue_away", "queue_back"]
    await queue.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:nonsense", "amqp://127.0.0.1:nonsense"])
async def test_an_address_that_is_none_keeps_nobody_from_ordering(url: str, lines: Lines) -> None:
    queue = BrokerQueue(url, lines.logger)

    await queue.announce("job")

    assert await queue.check() == "ValueError"
    assert lines.events() == ["queue_away"]
    await queue.close()


def test_an_address_is_shown_without_what_is_secret() -> None:
    assert shown("amqps://user:secret@queue:5671/vhost?key=secret") == "amqps://queue:5671"
