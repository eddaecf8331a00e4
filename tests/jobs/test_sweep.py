from collections.abc import Sequence
from contextlib import suppress

import anyio

from llmgateway.jobs.sweep import Sweep
from llmgateway.storage.jobs.rows import Swept
from llmgateway.storage.queries import StorageAwayError
from tests.lines import Lines

Answer = Swept | Exception


class Jobs:
    """What each sweep finds, in turn; then nothing."""

    def __init__(self, *found: Answer, deleted: Sequence[str] = ()) -> None:
        self.found = list(found)
        self.deleted = list(deleted)
        self.sweeps = 0
        self.is_away = False
        self.spared: list[bool] = []
        self.cleans = 0
        self._changed = anyio.Event()

    async def sweep(self, *, spare: bool = False) -> Swept:
        self.sweeps += 1
        self.spared.append(spare)
        self._tell()
        found = self.found.pop(0) if self.found else Swept()
        if isinstance(found, Exception):
            raise found
        return found

    async def delete_expired(self) -> list[str]:
        self.cleans += 1
        self._tell()
        deleted, self.deleted = self.deleted, []
        return deleted

    async def swept(self, times: int) -> None:
        with anyio.fail_after(10):
            while self.sweeps < times or not self.cleans:
                await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class Queue:
    def __init__(self) -> None:
        self.reminded: list[Sequence[str]] = []

    async def remind(self, job_ids: Sequence[str]) -> None:
        self.reminded.append(job_ids)


async def test_jobs_that_wait_are_called_for_here_and_elsewhere(lines: Lines) -> None:
    queue, woken = Queue(), list[int]()
    sweep = Sweep(Jobs(Swept(queued=("job-1", "job-2"))), queue, lines.logger, wake=woken.append)

    await sweep.sweep()
    await sweep.sweep()

    # The broker is asked though nothing waits: so its being away is noticed before a job is ordered.
    assert queue.reminded == [("job-1", "job-2"), ()]
    assert woken == [2]
    assert lines.all() == []


async def test_a_job_that_outlived_too_many_workers_is_told_of(lines: Lines) -> None:
    await Sweep(Jobs(Swept(lost=("job-1",))), Queue(), lines.logger).sweep()

    (line,) = lines.all()
    assert (line["event"], line["level"], line["job_id"]) == ("job_lost", "error", "job-1")


async def test_old_jobs_are_deleted_in_the_same_breath(lines: Lines) -> None:
    sweep = Sweep(Jobs(deleted=["job-1", "job-2"]), Queue(), lines.logger)

    await sweep.clean()
    await sweep.clean()

    assert [(line["event"], line["jobs"]) for line in lines.all()] == [("jobs_deleted", 2)]


async def test_it_goes_on_whatever_happens_and_a_database_that_is_away_is_no_news(lines: Lines) -> None:
    jobs, queue = Jobs(StorageAwayError("away"), RuntimeError("a fault"), Swept(queued=("job-1",))), Queue()
    sweep = Sweep(jobs, queue, lines.logger, every_s=0.01, clean_every_s=60)
    async with anyio.create_task_group() as group:
        group.start_soon(sweep.run)
        await jobs.swept(4)
        group.cancel_scope.cancel()

    assert queue.reminded[0] == ("job-1",)
    assert jobs.cleans == 1
    assert lines.events() == ["sweep_broke"]


async def test_workers_that_could_not_renew_their_leases_while_the_database_was_away_get_time_for_it(
    lines: Lines,
) -> None:
    away, now = StorageAwayError("away"), 100.0
    jobs = Jobs(Swept(), away, away, Swept(), Swept(), Swept())
    sweep = Sweep(jobs, Queue(), lines.logger, lease_s=15, clock=lambda: now)
    for moment in (100.0, 105.0, 110.0, 200.0, 214.0, 216.0):
        now = moment
        with suppress(StorageAwayError):
            await sweep.sweep()

    assert jobs.spared == [False, False, True, True, True, False]


async def test_a_full_disk_that_can_be_read_is_as_good_as_away(lines: Lines) -> None:
    jobs, now = Jobs(), 100.0
    sweep = Sweep(jobs, Queue(), lines.logger, lease_s=15, clock=lambda: now)
    for moment, jobs.is_away in ((100.0, False), (105.0, True), (119.0, False), (121.0, False)):
        now = moment
        await sweep.sweep()

    assert jobs.spared == [False, True, True, False]
