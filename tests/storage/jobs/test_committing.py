import sys
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import (
    ENDED,
    FailoverStep,
    FencedError,
    JobFault,
    Lease,
    Progress,
    Records,
    Status,
    Step,
    Totals,
)
from llmgateway.storage.storage import Storage
from tests.storage.jobs.given import (
    ALL,
    LEASE_S,
    Told,
    bodies,
    claimed,
    done,
    ending,
    found,
    lapse,
    progressed,
    run_sql,
    submitted,
)


async def test_a_step_changes_what_it_names_and_nothing_else(jobs: JobStorage, told: Told) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    records = Records(failover_applied=True, failover_chain=(FailoverStep("a", "timeout"),))
    step = progressed(
        status="processing",
        passes=(done("a"),),
        progress=Progress(current=1),
        totals=Totals(passes=1, cost_nusd=None),
        records=records,
        work=b"{}",
        warnings=("no tags",),
        output="One.\n\n",
    )

    await jobs.commit(mine.lease, step)
    await jobs.commit(mine.lease, Step(output="Two.\0"))

    row = await found(jobs, job.id)
    assert (row.status, row.progress, row.totals, row.records) == (
        "processing",
        Progress(current=1),
        step.totals,
        records,
    )
    assert (row.warnings, row.partial, row.result, row.completed_at) == (("no tags",), "One.\n\nTwo.\ufffd", None, None)
    assert (await jobs.work(job.id), await jobs.passes(job.id)) == (b"{}", [done("a")])
    assert [event.id for event in told.events[job.id]] == [1, 2, 3]
    assert told.events[job.id] == await jobs.events(job.id)


async def test_a_completed_job_has_its_result_as_the_first_version(jobs: JobStorage, storage: Storage) -> None:
    job = await submitted(jobs, ttl_s=60, webhook_url="https://example.com", joins="digest")
    mine = await claimed(jobs)

    await jobs.commit(mine.lease, ending(result="Minutes\0"))

    row = await found(jobs, job.id)
    [version] = await jobs.versions(job.id)
    assert (row.status, row.result, row.current_version) == ("completed", "Minutes\ufffd", 1)
    assert (version.number, version.content, version.created_by) == (1, "Minutes\ufffd", "job")
    assert row.completed_at is not None
    assert row.expires_at == row.completed_at + timedelta(seconds=60)
    [hook] = await jobs.due_hooks(row.completed_at)
    assert (hook.job_id, hook.url, hook.tries, hook.since) == (job.id, "https://example.com", 0, row.completed_at)
    assert await run_sql(storage, "SELECT lease_until_us, worker, joins FROM jobs") == [(None, None, None)]


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_what_was_shown_is_the_result_where_there_is_no_other(jobs: JobStorage, status: Status) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    await jobs.commit(mine.lease, Step(output="As far as "))
    fault = JobFault("timeout", "The provider took too long")

    await jobs.commit(mine.lease, ending(status, output="it came", fault=fault))

    row = await found(jobs, job.id)
    assert (row.result, row.fault, row.expires_at) == ("As far as it came", fault, None)
    assert [version.content for version in await jobs.versions(job.id)] == (
        ["As far as it came"] if status == "completed" else []
    )


async def test_a_job_that_failed_with_nothing_to_show_has_no_result(jobs: JobStorage) -> None:
    job = await submitted(jobs)
    await jobs.commit((await claimed(jobs)).lease, ending("failed"))

    assert (await found(jobs, job.id)).result is None


async def test_a_commit_under_a_lost_lease_changes_nothing(jobs: JobStorage, storage: Storage, told: Told) -> None:
    """Pitfall 112: two workers that both think the job is theirs leave the passes and the cost of one."""
    job = await submitted(jobs)
    mine = await claimed(jobs)
    await lapse(storage)
    await jobs.sweep()
    swept = await found(jobs, job.id)
    step = ending(result="twice", passes=(done("a", cost_nusd=5),), totals=Totals(cost_nusd=5), output="x", work=b"y")

    for lease in (mine.lease, Lease(job.id, 0), Lease("nothing", 1)):
        with pytest.raises(FencedError):
            await jobs.commit(lease, step)
    assert await found(jobs, job.id) == swept
    theirs = await claimed(jobs)
    with pytest.raises(FencedError):
        await jobs.commit(mine.lease, step)

    await jobs.commit(theirs.lease, step)
    with pytest.raises(FencedError):
        await jobs.commit(theirs.lease, step)

    assert (await found(jobs, job.id)).totals.cost_nusd == 5
    assert len(await jobs.passes(job.id)) == 1
    assert [version.number for version in await jobs.versions(job.id)] == [1]
    statuses = [(body["id"], body["status"]) for body in await bodies(jobs, job.id)]
    assert statuses == [(1, "queued"), (2, "started"), (3, "queued"), (4, "started"), (5, "completed")]
    assert told.events[job.id] == await jobs.events(job.id)


async def test_a_job_that_is_delivered_twice_runs_once(jobs: JobStorage) -> None:
    """Pitfall 112: a message means that there is work, not which: the second one finds none."""
    await submitted(jobs)

    first, second = await jobs.claim("one", LEASE_S), await jobs.claim("other", LEASE_S)

    assert first is not None
    assert second is None


async def test_a_pass_that_is_there_already_is_an_error_and_nothing_is_written(jobs: JobStorage, told: Told) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    await jobs.commit(mine.lease, progressed(passes=(done("a"),)))
    before = await found(jobs, job.id)

    with pytest.raises(ValueError, match="refuses what is in it") as caught:
        await jobs.commit(mine.lease, progressed(passes=(done("b"), done("a", output="canary")), output="canary"))

    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert await found(jobs, job.id) == before
    assert [row.step for row in await jobs.passes(job.id)] == ["a"]
    assert [event.id for event in told.events[job.id]] == [1, 2, 3]
    await jobs.commit(mine.lease, progressed(passes=(done("b"),)))


async def test_events_have_no_gap_whoever_writes_them_at_the_same_time(jobs: JobStorage, told: Told) -> None:
    for _ in range(8):
        await submitted(jobs)
    mine = [await claimed(jobs, 60) for _ in range(8)]

    async def run(number: int) -> None:
        try:
            for step in range(6):
                await jobs.commit(mine[number].lease, progressed(passes=(done(f"{step}"),), output="x"))
        except FencedError:
            pass

    async with anyio.create_task_group() as group:
        for number, one in enumerate(mine):
            group.start_soon(run, number)
            group.start_soon(jobs.cancel, one.lease.job_id, ALL)

    for one in mine:
        row, events = await found(jobs, one.lease.job_id), await bodies(jobs, one.lease.job_id)
        assert [event["id"] for event in events] == list(range(1, row.events + 1))
        assert [event["id"] for event in events if event["status"] in ENDED] == [row.events]
        assert len(await jobs.passes(row.id)) == len(row.partial) == row.events - 3, "ordered, started, cancelled"
        assert sorted(told.events[row.id], key=lambda event: event.id) == await jobs.events(row.id)


async def test_the_same_step_after_the_first_was_written_is_another_step(jobs: JobStorage) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    step = Step(output="ha ")

    for _ in range(3):
        await jobs.commit(mine.lease, structs.replace(step))

    assert (await found(jobs, job.id)).partial == "ha ha ha "


PROGRAM = """
import asyncio, sys, structlog
from pathlib import Path
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import Step
from llmgateway.storage.storage import Storage
from tests.storage.jobs.given import done
async def main():
    storage = Storage(sys.argv[1], Path(sys.argv[2]), logger=structlog.get_logger())
    await storage.open()
    jobs = JobStorage(storage, lambda *_: None)
    mine = await jobs.claim('worker', 600)
    for number in range(10_000):
        step = Step(passes=(done(str(number)),), output='x', events=({'event_type': 'progress'},))
        await jobs.commit(mine.lease, step)
asyncio.run(main())
"""


async def test_a_worker_that_is_killed_at_any_moment_leaves_whole_steps(
    jobs: JobStorage, storage: Storage, url: str, tmp_path: Path
) -> None:
    job = await submitted(jobs)
    counts = []
    for kills in (1, 2):
        before = len(await jobs.passes(job.id))
        worker = await anyio.open_process(
            [sys.executable, "-c", PROGRAM.replace("str(number)", f"'{kills}.%d' % number"), url, str(tmp_path)]
        )
        async with worker:
            with anyio.fail_after(20):
                while len(await jobs.passes(job.id)) < before + 5 * kills:  # noqa: ASYNC110  another process makes them
                    await anyio.sleep(0.001)
            worker.kill()
        await lapse(storage)
        assert (await jobs.sweep()).queued == (job.id,)

        row, passes = await found(jobs, job.id), await jobs.passes(job.id)
        counts.append(len(passes))
        assert len(row.partial) == len(passes)
        assert [body["id"] for body in await bodies(jobs, job.id)] == list(range(1, len(passes) + 2 + 2 * kills))
        assert row.kills == kills
    assert len((await claimed(jobs)).passes) == counts[-1] > counts[0]
