from datetime import UTC, datetime, timedelta

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import Wanted
from llmgateway.storage.migrations.document_tables import jobs as jobs_table
from llmgateway.storage.storage import Storage
from tests.storage.jobs.given import ALL, claimed, completed, done, found, order, progressed, run_sql, submitted

OWN = [name for name in jobs_table.metadata.tables if name.startswith("job_") and name != "job_turns"]


async def left(storage: Storage) -> dict[str, int]:
    return {name: (await run_sql(storage, f"SELECT count(*) FROM {name}"))[0][0] for name in ["jobs", *OWN]}  # noqa: S608


async def test_a_job_leaves_with_all_that_is_its_own(jobs: JobStorage, storage: Storage) -> None:
    job = await submitted(jobs)
    await jobs.commit((await claimed(jobs)).lease, progressed(status="completed", passes=(done("a"),), result="x"))
    assert min((await left(storage)).values()) > 0

    assert await jobs.delete(job.id, ALL) is True

    assert await left(storage) == dict.fromkeys(["jobs", *OWN], 0)
    assert await jobs.delete(job.id, ALL) is None


async def test_a_live_job_and_one_of_another_are_not_deleted(jobs: JobStorage) -> None:
    job = await submitted(jobs, organization_id="acme")

    assert await jobs.delete(job.id, Wanted(organization_id="acme")) is False
    await jobs.cancel(job.id, ALL)
    assert await jobs.delete(job.id, Wanted(organization_id="other")) is None
    assert await jobs.delete(job.id, Wanted(organization_id="acme")) is True


async def test_jobs_leave_when_their_time_is_over(jobs: JobStorage, storage: Storage) -> None:
    over = [(await completed(jobs, ttl_s=500)).id for _ in range(45)]
    kept = [(await completed(jobs)).id, (await completed(jobs, ttl_s=1000)).id, (await submitted(jobs, ttl_s=500)).id]
    assert await jobs.delete_expired() == []
    await run_sql(storage, "UPDATE jobs SET expires_at_us = created_at_us WHERE ttl_s = 500 AND status = 'completed'")

    first = await jobs.delete_expired(30)
    second = await jobs.delete_expired()

    assert (len(first), len(second)) == (30, 15)
    assert {*first, *second} == set(over)
    assert [(await found(jobs, job_id)).id for job_id in kept] == kept


async def test_idempotency_keys_are_forgotten_after_a_day(jobs: JobStorage, storage: Storage) -> None:
    old = await submitted(jobs, idempotency_key="/run a", created_at=datetime.now(UTC) - timedelta(hours=24, seconds=1))
    new = await submitted(jobs, idempotency_key="/run b")

    await jobs.delete_expired()

    assert await run_sql(storage, "SELECT id FROM jobs WHERE repeats IS NULL") == [(old.id,)]
    assert (await jobs.submit(order(idempotency_key="/run b")))[0].id == new.id
