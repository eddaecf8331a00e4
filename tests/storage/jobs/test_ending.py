from datetime import UTC, datetime, timedelta

import pytest

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import ENDED, FencedError, Step, Wanted
from llmgateway.storage.storage import Storage
from tests.storage.jobs.given import (
    ALL,
    Told,
    bodies,
    claimed,
    completed,
    done,
    found,
    lapse,
    progressed,
    submitted,
)


async def test_a_job_is_cancelled_before_it_starts(jobs: JobStorage, told: Told) -> None:
    job = await submitted(jobs, ttl_s=60, webhook_url="https://example.com")

    row = await jobs.cancel(job.id, ALL)

    assert row is not None
    assert (row.status, row.result, row.events) == ("cancelled", None, 2)
    assert row.completed_at is not None
    assert row.expires_at is not None
    assert await jobs.claim("worker", 15) is None
    assert [hook.job_id for hook in await jobs.due_hooks(row.completed_at)] == [job.id]
    last = (await bodies(jobs, job.id))[-1]
    assert (last["event_type"], last["status"], last["result"]) == ("status_change", "cancelled", None)
    assert told.events[job.id] == await jobs.events(job.id)


async def test_a_job_that_runs_is_cancelled_with_what_it_has(jobs: JobStorage) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    await jobs.commit(mine.lease, progressed(status="processing", passes=(done("a"),), output="So far"))

    row = await jobs.cancel(job.id, ALL)

    assert row is not None
    assert (row.status, row.result) == ("cancelled", "So far")
    assert (await bodies(jobs, job.id))[-1]["result"] == "So far"
    with pytest.raises(FencedError):
        await jobs.commit(mine.lease, Step(output=" and further"))
    assert await jobs.renew([mine.lease], 15) == {job.id}
    assert (await jobs.cancel(job.id, ALL)) == row
    assert len(await jobs.passes(job.id)) == 1


async def test_what_has_ended_stays_as_it_is(jobs: JobStorage) -> None:
    job = await completed(jobs)

    assert await jobs.cancel(job.id, ALL) == job
    assert (await jobs.sweep()).lost == ()


async def test_nobody_cancels_the_job_of_another(jobs: JobStorage) -> None:
    job = await submitted(jobs, organization_id="acme")

    for wanted in (Wanted(organization_id="other"), Wanted(), Wanted(organization_id="acme", key_id="key_2")):
        assert await jobs.cancel(job.id, wanted) is None
    assert await jobs.cancel("nothing", ALL) is None
    assert (await found(jobs, job.id)).status == "queued"


async def test_a_job_whose_worker_died_waits_again_with_all_it_had(
    jobs: JobStorage, storage: Storage, told: Told
) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    await jobs.commit(mine.lease, progressed(status="processing", passes=(done("a"),), output="So far"))
    assert (await jobs.sweep()).queued == ()
    await lapse(storage)
    assert (await jobs.sweep(spare=True)).queued == ()

    assert (await jobs.sweep()).queued == (job.id,)

    row = await found(jobs, job.id)
    assert (row.status, row.kills, row.partial) == ("queued", 1, "So far")
    statuses = [body["status"] for body in await bodies(jobs, job.id)]
    assert statuses == ["queued", "started", "processing", "queued"]
    assert (await claimed(jobs)).passes == (done("a"),)
    assert told.events[job.id] == await jobs.events(job.id)


async def test_pitfall_111_a_job_that_kills_its_workers_fails_after_the_third(
    jobs: JobStorage, storage: Storage, told: Told
) -> None:
    job = await submitted(jobs, webhook_url="https://example.com")
    swept = []
    for number in range(3):
        mine = await claimed(jobs)
        await jobs.commit(mine.lease, Step(output=f"{number} "))
        await lapse(storage)
        swept.append(await jobs.sweep())

    row = await found(jobs, job.id)
    assert [(one.queued, one.lost) for one in swept] == [((job.id,), ()), ((job.id,), ()), ((), (job.id,))]
    assert (row.status, row.kills, row.result) == ("failed", 3, "0 1 2 ")
    assert row.fault is not None
    assert row.fault.code == "worker_lost"
    assert row.completed_at is not None
    last = (await bodies(jobs, job.id))[-1]
    assert (last["id"], last["event_type"], last["status"]) == (row.events, "error", "failed")
    assert last["error"] == {"code": "worker_lost", "message": row.fault.message}
    assert last["status"] in ENDED
    assert told.events[job.id] == await jobs.events(job.id)
    assert await jobs.claim("worker", 15) is None
    assert await jobs.due_hooks(row.completed_at) != []


async def test_a_lease_that_is_renewed_is_not_taken_back(jobs: JobStorage, storage: Storage) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    await lapse(storage)

    assert await jobs.renew([mine.lease], 60) == set()

    assert (await jobs.sweep()).queued == ()
    assert (await found(jobs, job.id)).kills == 0


async def test_a_sweep_names_what_waits_the_most_urgent_first(jobs: JobStorage) -> None:
    priorities = (5, 0, 9)
    ids = {priority: (await submitted(jobs, priority=priority)).id for priority in priorities}

    assert (await jobs.sweep()).queued == (ids[0], ids[5], ids[9])


async def test_a_hook_is_due_at_the_end_and_again_when_it_was_put_off(jobs: JobStorage) -> None:
    await completed(jobs)
    job = await completed(jobs, webhook_url="https://example.com/hook")
    await submitted(jobs, webhook_url="https://example.com/later")
    now = datetime.now(UTC)

    [hook] = await jobs.due_hooks(now)
    assert (hook.job_id, hook.url, hook.tries, hook.since) == (job.id, "https://example.com/hook", 0, job.completed_at)
    await jobs.hook_tried(job.id, now + timedelta(minutes=1))

    assert await jobs.due_hooks(now) == []
    [again] = await jobs.due_hooks(now + timedelta(minutes=1))
    assert (again.job_id, again.tries) == (job.id, 1)
    await jobs.hook_tried(job.id, None)
    assert await jobs.due_hooks(now + timedelta(days=9)) == []


async def test_the_hook_that_waits_longest_is_first(jobs: JobStorage) -> None:
    ids = [(await completed(jobs, webhook_url="https://example.com")).id for _ in range(4)]

    assert [hook.job_id for hook in await jobs.due_hooks(datetime.now(UTC), 3)] == ids[:3]
