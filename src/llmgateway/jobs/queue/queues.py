"""Which queue there is, by its URL."""

from structlog.typing import FilteringBoundLogger

from llmgateway.jobs.queue.announcing import BrokerQueue
from llmgateway.jobs.queue.local import LocalQueue


def queue_of(url: str | None, logger: FilteringBoundLogger) -> LocalQueue | BrokerQueue:
    """Make the queue: `redis://`, `rediss://`, `amqp://` and `amqps://` are a broker, `None` is this process alone.

    Nothing is imported or connected before it is used.
    """
    return LocalQueue() if url is None else BrokerQueue(url, logger)
