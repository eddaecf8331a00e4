import anyio

from llmgateway.jobs.working.local import LocalConsumers
from llmgateway.storage.queries import StorageAwayError
from tests.jobs.working.desk import Desk
from tests.lines import Lines


async def test_each_call_runs_what_waits_and_no_more_than_there_is_room_for(lines: Lines) -> None:
    desk = Desk(f"job-{number}" for number in range(10))
    consumers = LocalConsumers(desk.run_next, 3, lines.logger)
    async with anyio.create_task_group() as group:
        consumers.start(group)
        consumers.wake(10)
        await desk.running(3)
        assert len(desk.waiting) == 7

        desk.go_on()
        await desk.ended(10)
        group.cancel_scope.cancel()

    assert desk.most_at_once == 3
    assert sorted(desk.done) == sorted(f"job-{number}" for number in range(10))


async def test_one_call_is_enough_for_all_that_waits(lines: Lines) -> None:
    desk = Desk(["job-1", "job-2", "job-3"], held=False)
    consumers = LocalConsumers(desk.run_next, 8, lines.logger)
    async with anyio.create_task_group() as group:
        consumers.start(group)
        consumers.wake(1)
        await desk.ended(3)
        group.cancel_scope.cancel()

    assert desk.done == ["job-1", "job-2", "job-3"]


async def test_after_a_stop_no_job_is_taken_and_those_that_run_go_on(lines: Lines) -> None:
    desk = Desk(["job-1", "job-2"])
    consumers = LocalConsumers(desk.run_next, 1, lines.logger)
    async with anyio.create_task_group() as group:
        consumers.start(group)
        consumers.wake(1)
        await desk.running(1)

        consumers.stop()
        consumers.wake(1)
        desk.go_on()
        await desk.ended(1)
        await consumers.close()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    assert (desk.done, list(desk.waiting)) == (["job-1"], ["job-2"])


async def test_whoever_runs_jobs_outlives_whatever_goes_wrong(lines: Lines) -> None:
    desk = Desk(["job-1"], held=False)
    desk.faults = [StorageAwayError("away"), RuntimeError("a fault of the program")]
    consumers = LocalConsumers(desk.run_next, 1, lines.logger)
    async with anyio.create_task_group() as group:
        consumers.start(group)
        for _ in range(3):
            consumers.wake(1)
            await anyio.wait_all_tasks_blocked()
        await desk.ended(1)
        group.cancel_scope.cancel()

    assert [(line["event"], line["level"]) for line in lines.all()] == [("job_run_broke", "error")]
