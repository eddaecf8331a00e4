import pytest

from llmgateway.jobs.queue.announcing import BrokerQueue
from llmgateway.jobs.queue.local import LocalQueue
from llmgateway.jobs.queue.queues import queue_of
from tests.lines import Lines


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
async def test_a_url_names_a_broker_that_is_not_asked_before_it_is_needed(scheme: str, lines: Lines) -> None:
    queue = queue_of(f"{scheme}://nobody.invalid:1", lines.logger)

    assert isinstance(queue, BrokerQueue)
    await queue.close()
    assert lines.all() == []


def test_without_a_url_the_process_has_its_jobs_for_itself(lines: Lines) -> None:
    assert isinstance(queue_of(None, lines.logger), LocalQueue)
