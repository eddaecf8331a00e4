import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import dramatiq
import pytest
from anyio import to_thread

from llmgateway.jobs.queue.announcing import BrokerQueue
from llmgateway.jobs.working.broker_threads import BrokerConsumers
from tests.jobs.working.desk import Desk
from tests.lines import Lines
from tests.services import Server

# Redis finds out about dead workers by itself, once in a while; here at every command, after half a second.
QUICK = {"heartbeat_timeout": 500, "maintenance_chance": 1_000_000}
TAKES_AND_HANGS = """
import asyncio, sys, anyio, structlog
from llmgateway.jobs.queue.announcing import BrokerQueue
from llmgateway.jobs.working.broker_threads import BrokerConsumers

async def hang():
    print("taken", flush=True)
    await asyncio.sleep(3600)

async def main():
    logger = structlog.get_logger()
    options = {"heartbeat_timeout": 500} if sys.argv[1].startswith("redis") else {}
    consumers = BrokerConsumers(BrokerQueue(sys.argv[1], logger, **options), hang, 1, logger)
    async with anyio.create_task_group() as group:
        consumers.start(group)

anyio.run(main)
"""


@pytest.fixture(autouse=True)
def _comes_back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that lost its broker looks for it again after three seconds."""
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.05)
    monkeypatch.setattr(dramatiq.worker, "POST_PROCESS_MESSAGE_RETRY_DELAY_SECS", 0.05)


@asynccontextmanager
async def working(queue: BrokerQueue, desk: Desk, lines: Lines, threads: int = 2) -> AsyncIterator[BrokerConsumers]:
    consumers = BrokerConsumers(queue, desk.run_next, threads, lines.logger)
    async with anyio.create_task_group() as group:
        consumers.start(group)
        try:
            yield consumers
        finally:
            desk.go_on()
            with anyio.CancelScope(shield=True):
                await consumers.close()
                await queue.close()
        group.cancel_scope.cancel()


async def unclaimed(queue: BrokerQueue, count: int) -> None:
    """Wait until so many messages lie with the broker, taken by nobody."""
    with anyio.fail_after(20):
        while await to_thread.run_sync(queue.link().waiting) != count:  # noqa: ASYNC110  it tells nobody
            await anyio.sleep(0.02)


async def test_a_message_has_one_job_run_once(broker: Server, lines: Lines) -> None:
    queue, desk = BrokerQueue(broker.url, lines.logger), Desk(["job-1"], held=False)
    async with working(queue, desk, lines):
        await queue.announce("job-1")
        await desk.ended(1)
        await unclaimed(queue, 0)

    assert (desk.done, desk.calls) == (["job-1"], 1)
    assert lines.all() == []


async def test_a_worker_takes_as_many_messages_as_it_has_threads_and_leaves_the_others_to_others(
    broker: Server, lines: Lines
) -> None:
    queue, jobs = BrokerQueue(broker.url, lines.logger), [f"job-{number}" for number in range(11)]
    desk = Desk(jobs)
    async with working(queue, desk, lines, threads=8):
        for job in jobs:
            await queue.announce(job)
        await desk.running(8)
        await unclaimed(queue, 3)
        desk.go_on()
        await desk.ended(11)

    assert desk.most_at_once == 8
    assert sorted(desk.done) == sorted(jobs)


async def test_pitfall_112_a_message_that_is_delivered_twice_finds_nothing_the_second_time(
    broker: Server, lines: Lines
) -> None:
    queue, desk = BrokerQueue(broker.url, lines.logger), Desk(["job-1"], held=False)
    async with working(queue, desk, lines):
        await queue.announce("job-1")
        await queue.announce("job-1")
        await desk.called(2)
        await unclaimed(queue, 0)

    assert desk.done == ["job-1"]


async def test_jobs_run_while_the_broker_is_away_and_are_called_again_when_it_is_back(
    broker: Server, lines: Lines
) -> None:
    queue, desk = BrokerQueue(broker.url, lines.logger), Desk(held=False)
    async with working(queue, desk, lines) as consumers:
        desk.waiting.append("job-1")
        await queue.announce("job-1")
        await desk.ended(1)

        broker.stop()
        desk.waiting.extend(["job-2", "job-3"])
        await queue.announce("job-2")
        consumers.wake(2)  # as the sweep does
        await desk.ended(3)

        await to_thread.run_sync(broker.start)
        desk.waiting.append("job-4")
        await queue.remind(["job-4"])
        await desk.ended(4)

    assert desk.done == ["job-1", "job-2", "job-3", "job-4"]
    assert lines.events() == ["queue_away", "queue_back"]


async def test_a_worker_that_starts_without_its_broker_hears_of_it_later(redis_queue: Server, lines: Lines) -> None:
    redis_queue.stop()
    queue, desk = BrokerQueue(redis_queue.url, lines.logger), Desk(["job-1"], held=False)
    async with working(queue, desk, lines):
        redis_queue.start()
        await queue.announce("job-1")
        await desk.ended(1)

    assert desk.done == ["job-1"]


async def test_pitfall_113_the_message_of_a_killed_worker_comes_again(broker: Server, lines: Lines) -> None:
    options = QUICK if broker.url.startswith("redis") else {}
    queue, desk = BrokerQueue(broker.url, lines.logger, **options), Desk(["job-1"], held=False)
    await queue.announce("job-1")
    async with await anyio.open_process([sys.executable, "-c", TAKES_AND_HANGS, broker.url], stderr=None) as other:
        assert other.stdout is not None
        try:
            with anyio.fail_after(20):
                assert (await other.stdout.receive()).startswith(b"taken")
        finally:
            other.kill()

    async with working(queue, desk, lines):
        await desk.ended(1)

    assert desk.done == ["job-1"]


async def test_after_a_stop_what_was_not_begun_goes_back_and_what_runs_goes_on(broker: Server, lines: Lines) -> None:
    queue, desk = BrokerQueue(broker.url, lines.logger), Desk(["job-1", "job-2", "job-3"])
    async with working(queue, desk, lines, threads=1) as consumers:
        await queue.announce("job-1")
        await desk.running(1)

        consumers.stop()
        consumers.stop()
        await consumers.close()
        await queue.announce("job-2")
        consumers.wake(1)
        desk.go_on()
        await desk.ended(1)
        await anyio.wait_all_tasks_blocked()
        await unclaimed(queue, 1)

    assert (desk.done, list(desk.waiting)) == (["job-1"], ["job-2", "job-3"])


async def test_whatever_goes_wrong_in_a_job_its_message_is_done_with(redis_queue: Server, lines: Lines) -> None:
    queue, desk = BrokerQueue(redis_queue.url, lines.logger), Desk(["job-1"], held=False)
    desk.faults = [RuntimeError("a fault of the program")]
    async with working(queue, desk, lines):
        await queue.announce("job-1")
        await desk.called(1)
        await queue.announce("job-1")
        await desk.ended(1)

    assert lines.events() == ["job_run_broke"]


async def test_threads_are_let_go_when_the_process_ends_in_the_middle(redis_queue: Server, lines: Lines) -> None:
    queue, desk = BrokerQueue(redis_queue.url, lines.logger), Desk(["job-1"])
    consumers = BrokerConsumers(queue, desk.run_next, 1, lines.logger)
    async with anyio.create_task_group() as group:
        consumers.start(group)
        await queue.announce("job-1")
        await desk.running(1)
        group.cancel_scope.cancel()

    await consumers.close()
    await queue.close()
    assert (desk.now, desk.done) == ([], [])
