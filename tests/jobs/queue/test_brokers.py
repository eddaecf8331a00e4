import logging

import pytest

from llmgateway.jobs.queue.brokers import QUEUE, Link, open_link, say
from tests.services import Server


def opened(server: Server) -> Link:
    return open_link(server.url)


def test_messages_that_nobody_took_are_counted(broker: Server) -> None:
    link = opened(broker)

    assert link.waiting() == 0
    say(link.broker, "job-1")
    say(link.broker, "job-2")
    assert link.waiting() == 2
    link.broker.close()


def test_a_count_finds_its_way_to_a_server_that_was_started_anew(redis_queue: Server) -> None:
    link = opened(redis_queue)
    assert link.waiting() == 0

    redis_queue.stop()
    with pytest.raises(Exception, match="Connection refused"):
        link.waiting()
    redis_queue.start()

    assert link.waiting() == 0


def test_nothing_is_ever_retried_delayed_or_aged_by_the_broker(redis_queue: Server) -> None:
    broker = opened(redis_queue).broker

    assert broker.middleware == []
    assert broker.get_declared_queues() == {QUEUE}
    assert broker.get_declared_delay_queues() == set()


def test_a_library_tells_the_same_thing_once_in_ten_minutes(redis_queue: Server) -> None:
    opened(redis_queue)
    opened(redis_queue)
    heard: list[str] = []
    logger = logging.getLogger(f"dramatiq.worker.ConsumerThread({QUEUE})")
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(listener)

    for number in range(3):
        logger.critical("Consumer encountered a connection error: %s", number)
    logger.critical("something else")

    logger.removeHandler(listener)
    assert heard == ["Consumer encountered a connection error: 0", "something else"]
    assert not logging.getLogger("pika.adapters").isEnabledFor(logging.CRITICAL)
