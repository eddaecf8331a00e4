import asyncio
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import Claimed, FencedError, Lease
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


async def test_a_claim_brings_all_that_the_run_needs(jobs: JobStorage) -> None:
    job = await submitted(jobs, text="Ann: hi.", work=b"{}")
    first = await claimed(jobs)
    await jobs.commit(first.lease, progressed(status="processing", passes=(done("b", 2), done("a", 1)), output="Min"))
    await jobs.hand_back(first.lease)

    second = await claimed(jobs)

    assert (first.lease, second.lease) == (Lease(job.id, 1), Lease(job.id, 2))
    assert (second.text, second.work, second.job.partial, second.job.status) == ("Ann: hi.", b"{}", "Min", "started")
    assert second.passes == (done("a", 1), done("b", 2))
    assert second.job.started_at == first.job.started_at
    assert second.job.kills == 0
    assert await jobs.claim("another", LEASE_S) is None


async def test_a_claim_tells_that_the_job_has_started(jobs: JobStorage, told: Told) -> None:
    job = await submitted(jobs)

    mine = await claimed(jobs)

    last = (await bodies(jobs, job.id))[-1]
    assert (last["id"], last["event_type"], last["status"]) == (2, "status_change", "started")
    assert (mine.job.status, mine.job.events) == ("started", 2)
    assert told.events[job.id] == await jobs.events(job.id)
    assert await jobs.claim("another", LEASE_S) is None
    assert len(told.events[job.id]) == 2, "who gets nothing says nothing"


async def test_the_most_urgent_job_is_first_whoever_waits_longest(jobs: JobStorage) -> None:
    """Strict: background work waits for as long as there is anything else."""
    now = datetime.now(UTC)
    priorities = [9, 5, 0, 5, 3, 0, 9]
    for number, priority in enumerate(priorities):
        organization = "acme" if number % 2 else None
        await submitted(
            jobs, priority=priority, created_at=now - timedelta(minutes=number), organization_id=organization
        )

    taken = [(await claimed(jobs)).job.priority for _ in priorities]

    assert taken == sorted(priorities)
    assert await jobs.claim("worker", LEASE_S) is None


async def test_an_urgent_job_that_comes_later_is_next(jobs: JobStorage) -> None:
    for _ in range(3):
        await submitted(jobs, priority=5)
    await claimed(jobs)
    urgent = await submitted(jobs, priority=0)

    assert (await claimed(jobs)).job.id == urgent.id


async def test_organizations_take_turns_however_many_jobs_one_has(jobs: JobStorage) -> None:
    for organization, count in (("acme", 6), ("other", 3), (None, 2)):
        for _ in range(count):
            await submitted(jobs, organization_id=organization)

    turns = [(await claimed(jobs)).job.organization_id for _ in range(11)]

    assert turns == [None, "acme", "other"] * 2 + ["acme", "other"] + ["acme"] * 3


async def test_within_an_organization_the_oldest_job_is_first(jobs: JobStorage) -> None:
    now = datetime.now(UTC)
    ids = [(await submitted(jobs, created_at=now - timedelta(seconds=age))).id for age in (1, 3, 2)]

    assert [(await claimed(jobs)).job.id for _ in ids] == [ids[1], ids[2], ids[0]]


@pytest.mark.timeout(60)
async def test_workers_side_by_side_never_get_the_same_job(jobs: JobStorage, storage: Storage) -> None:
    ids = [(await submitted(jobs, organization_id=f"o{number % 3}")).id for number in range(200)]
    taken: list[Claimed] = []

    async def work() -> None:
        while (mine := await jobs.claim("worker", 60)) is not None:
            taken.append(mine)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(work)

    assert sorted(mine.job.id for mine in taken) == sorted(ids)
    assert {mine.lease.fence for mine in taken} == {1}
    turns = [row[0] for row in await run_sql(storage, "SELECT organization_id FROM jobs ORDER BY started_at_us")]
    assert turns[:180] == ["o0", "o1", "o2"] * 60, "turns hold side by side as well"


async def test_a_job_that_is_cancelled_at_that_moment_is_never_claimed_as_well(jobs: JobStorage) -> None:
    ids = [(await submitted(jobs)).id for _ in range(40)]
    taken: list[str] = []

    async def work() -> None:
        while (mine := await jobs.claim("worker", 60)) is not None:
            taken.append(mine.job.id)

    async with anyio.create_task_group() as group:
        for job_id in ids:
            group.start_soon(jobs.cancel, job_id, ALL)
        for _ in range(4):
            group.start_soon(work)

    assert {(await found(jobs, job_id)).status for job_id in ids} == {"cancelled"}
    assert len(set(taken)) == len(taken)


async def test_leases_are_prolonged_at_once_and_lost_ones_are_told(jobs: JobStorage, storage: Storage) -> None:
    for _ in range(3):
        await submitted(jobs)
    mine, ended, lost = [(await claimed(jobs, 1.0)).lease for _ in range(3)]
    await jobs.commit(ended, ending())
    [(before,)] = await run_sql(storage, f"SELECT lease_until_us FROM jobs WHERE id = '{mine.job_id}'")  # noqa: S608

    gone = await jobs.renew([mine, ended, Lease(lost.job_id, lost.fence + 1), Lease("nothing", 1)], 60)

    [(after,)] = await run_sql(storage, f"SELECT lease_until_us FROM jobs WHERE id = '{mine.job_id}'")  # noqa: S608
    assert gone == {ended.job_id, lost.job_id, "nothing"}
    assert 58_000_000 < after - before < 70_000_000
    assert await jobs.renew([], 60) == set()


async def test_a_job_that_is_handed_back_waits_again_and_no_worker_was_killed(jobs: JobStorage, told: Told) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)

    await jobs.hand_back(mine.lease)
    await jobs.hand_back(mine.lease)

    again = await found(jobs, job.id)
    assert (again.status, again.kills) == ("queued", 0)
    statuses = [(body["id"], body["status"]) for body in await bodies(jobs, job.id)]
    assert statuses == [(1, "queued"), (2, "started"), (3, "queued")]
    assert told.events[job.id] == await jobs.events(job.id)
    with pytest.raises(FencedError):
        await jobs.commit(mine.lease, progressed())


async def test_who_has_lost_the_job_cannot_hand_it_back(jobs: JobStorage, storage: Storage) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    await lapse(storage)
    await jobs.sweep()
    theirs = await claimed(jobs)

    await jobs.hand_back(mine.lease)

    assert (await found(jobs, job.id)).status == "started"
    await jobs.commit(theirs.lease, progressed())


async def test_who_leaves_while_claiming_leaves_no_job_behind(jobs: JobStorage, storage: Storage, told: Told) -> None:
    ids = [(await submitted(jobs)).id for _ in range(20)]

    for number in range(20):
        claiming = asyncio.ensure_future(jobs.claim("worker", 60))
        await asyncio.sleep(number * 0.0003)
        claiming.cancel()
        await asyncio.wait([claiming], timeout=5)
        if not claiming.cancelled() and (mine := claiming.result()) is not None:
            await jobs.hand_back(mine.lease)

    assert await run_sql(storage, "SELECT DISTINCT status, kills FROM jobs") == [("queued", 0)]
    assert told.events == {job_id: await jobs.events(job_id) for job_id in ids}
