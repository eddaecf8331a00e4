import anyio

from llmgateway.jobs.queue.queues import queue_of
from llmgateway.jobs.working.broker_threads import BrokerConsumers
from llmgateway.jobs.working.consumers import consumers_of
from tests.jobs.working.desk import Desk
from tests.lines import Lines


async def test_without_a_broker_an_ordered_job_begins_at_once(lines: Lines) -> None:
    queue, desk = queue_of(None, lines.logger), Desk(["job-1"], held=False)
    consumers = consumers_of(queue, desk.run_next, 2, lines.logger)
    async with anyio.create_task_group() as group:
        consumers.start(group)
        await queue.announce("job-1")
        await desk.ended(1)
        group.cancel_scope.cancel()

    assert desk.done == ["job-1"]


def test_a_broker_has_its_threads(lines: Lines) -> None:
    queue = queue_of("amqp://nobody.invalid", lines.logger)

    assert isinstance(consumers_of(queue, Desk().run_next, 2, lines.logger), BrokerConsumers)
