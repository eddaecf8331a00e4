"""Who runs the jobs of a process, whatever tells him that there is work."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from anyio.abc import TaskGroup
from structlog.typing import FilteringBoundLogger

from llmgateway.jobs.queue.announcing import BrokerQueue
from llmgateway.jobs.queue.local import LocalQueue
from llmgateway.jobs.working.broker_threads import BrokerConsumers
from llmgateway.jobs.working.local import LocalConsumers

# Claims the most urgent job and runs it to its end; false when there is none.
RunNext = Callable[[], Awaitable[bool]]


class Consumers(Protocol):
    """Runs so many jobs at once as it has threads."""

    def start(self, group: TaskGroup) -> None:
        """Begin; what it needs runs in the group."""
        ...

    def wake(self, count: int) -> None:
        """Look for jobs in the database: there may be so many. Never waits, never raises; only on the event loop."""
        ...

    def stop(self) -> None:
        """Take no more; the jobs that run go on. Never waits, never raises."""
        ...

    async def close(self) -> None:
        """Give back what was taken from the queue and not begun."""
        ...


def consumers_of(
    queue: LocalQueue | BrokerQueue, run_next: RunNext, threads: int, logger: FilteringBoundLogger
) -> Consumers:
    """Make those who hear of this queue."""
    if isinstance(queue, BrokerQueue):
        return BrokerConsumers(queue, run_next, threads, logger)
    consumers = LocalConsumers(run_next, threads, logger)
    queue.listen(consumers.wake)
    return consumers
