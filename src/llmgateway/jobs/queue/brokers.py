"""Dramatiq's brokers on Redis and RabbitMQ, as jobs need them: one queue, one actor, no retries, no results.

A message holds a job's id and nothing else, and means only that there is work. So none of a broker's promises are
needed: a message that is lost, late or delivered twice changes nothing about any job.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dramatiq
from dramatiq.broker import Broker
from typing_extensions import override

if TYPE_CHECKING:
    from dramatiq.brokers.rabbitmq import RabbitmqBroker
    from dramatiq.brokers.redis import RedisBroker

QUEUE = "llmgateway-jobs"
ACTOR = "run"
# Beside the keys of the shared store, and apart from other programs that use Dramatiq on the same Redis.
NAMESPACE = "llmgw:queue"

# Whoever does not answer in this time is away.
ANSWER_S = 2.0
# RabbitMQ ends a connection that says nothing for two of these.
_HEARTBEAT_S = 15
# Share of the commands to Redis that also look for the messages of dead workers: at four a second, every ten seconds.
_MAINTENANCE_PER_MILLION = 25_000
_SAID_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Link:
    """A broker, and how many of its messages no worker has taken: raises whatever the client library raises."""

    broker: Broker
    waiting: Callable[[], int]


def open_link(url: str, **options: Any) -> Link:
    """Make a broker with the queue of jobs; nothing is connected before it is used.

    Args:
        options: For the broker's class, instead of ours.

    Raises:
        ValueError: It is no URL of a broker.
    """
    _hush()
    link = _rabbitmq(url, options) if urlsplit(url).scheme in {"amqp", "amqps"} else _redis(url, options)
    link.broker.declare_queue(QUEUE)
    # Nothing is ever delayed, so that no thread needs to look there.
    link.broker.delay_queues.clear()
    return link


def say(broker: Broker, job_id: str) -> None:
    """Send a message: there is work. Raises whatever the client library raises."""
    broker.enqueue(dramatiq.Message(queue_name=QUEUE, actor_name=ACTOR, args=(job_id,), kwargs={}, options={}))


def _redis(url: str, options: dict[str, Any]) -> Link:
    import redis  # noqa: PLC0415  only who has it as a broker pays for it
    from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415  likewise

    client = redis.Redis.from_url(url, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S)
    ours = {"namespace": NAMESPACE, "maintenance_chance": _MAINTENANCE_PER_MILLION, **options}
    broker = RedisBroker(  # type: ignore[no-untyped-call]  # it has no annotations
        client=client, middleware=[], **ours
    )
    return Link(broker, partial(_waiting_in_redis, broker))


def _waiting_in_redis(broker: "RedisBroker") -> int:
    # Tells Redis that this process lives: one whose threads are all busy does not, and counts as dead after a minute.
    broker.do_qsize(QUEUE)
    return int(broker.client.llen(f"{broker.namespace}:{QUEUE}"))


def _rabbitmq(url: str, options: dict[str, Any]) -> Link:
    import pika  # type: ignore[import-untyped]  # noqa: PLC0415  as above
    from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: PLC0415  likewise

    # Confirmed: else a message to a queue that is gone is thrown away without a word.
    broker = RabbitmqBroker(url=url, confirm_delivery=True, middleware=[], **options)
    parameters = pika.URLParameters(url)
    parameters.heartbeat = _HEARTBEAT_S
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = ANSWER_S
    parameters.client_properties = {"connection_name": "llmgateway"}
    broker.parameters = parameters
    return Link(broker, partial(_waiting_in_rabbitmq, broker))


def _waiting_in_rabbitmq(broker: "RabbitmqBroker") -> int:
    try:
        return _counted(broker)
    except Exception:  # noqa: BLE001  the connection was idle, or its server is another one by now: a new one tells
        del broker.connection
        broker.queues_pending.add(QUEUE)  # its queue may be gone as well
        return _counted(broker)


def _counted(broker: "RabbitmqBroker") -> int:
    broker.declare_queue(QUEUE, ensure=True)
    return int(broker.channel.queue_declare(queue=QUEUE, passive=True).method.message_count)


class _Once(logging.Filter):
    """Lets a line pass once in ten minutes: of a broker that is away it comes every three seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._said.get(record.msg, -_SAID_AGAIN_S) < _SAID_AGAIN_S:
            return False
        self._said[record.msg] = now
        return True


def _hush() -> None:
    """Keep the libraries from telling again and again, each time with a stack, what we tell once."""
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
    for name in (f"ConsumerThread({QUEUE})", "WorkerThread"):
        logger = logging.getLogger(f"dramatiq.worker.{name}")
        if not any(isinstance(each, _Once) for each in logger.filters):
            logger.addFilter(_Once())
