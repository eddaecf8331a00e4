from datetime import timedelta

import anyio
import pytest

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import JobRow, NewJob, RepeatedError
from llmgateway.storage.storage import Storage
from tests.storage.jobs.given import ALL, Told, claimed, done, ending, found, order, run_sql, submitted


async def test_a_job_is_written_down_with_all_that_its_run_needs(jobs: JobStorage, told: Told) -> None:
    new = order(text="Привет\0 \ud800", work=b'{"x":"\xc3\xa9"}', organization_id="acme", priority=0)
    passes = [done("batch:0-5", 2), done("batch:5-9", 1)]

    job, made = await jobs.submit(new, passes)

    assert made
    assert (job.status, job.events, job.priority, job.input_chars) == ("queued", 1, 0, 9)
    assert await jobs.text(new.id) == "Привет\ufffd \ufffd"
    assert await jobs.work(new.id) == new.work
    assert await jobs.passes(new.id) == passes[::-1]
    assert [event.id for event in told.events[new.id]] == [1]
    assert await found(jobs, new.id) == job


async def test_the_same_idempotency_key_gets_the_same_job_even_when_it_has_ended(jobs: JobStorage, told: Told) -> None:
    job = await submitted(jobs, idempotency_key="/run a", body_digest="1")
    again, made = await jobs.submit(order(idempotency_key="/run a", body_digest="1"))
    mine = await claimed(jobs)
    await jobs.commit(mine.lease, ending(result="x"))
    later, made_later = await jobs.submit(order(idempotency_key="/run a", body_digest="1"))

    assert (again.id, made) == (job.id, False)
    assert (later.id, later.status, made_later) == (job.id, "completed", False)
    assert [event.id for event in told.events[job.id]] == [1, 2, 3]


async def test_the_same_idempotency_key_with_another_body_is_refused(jobs: JobStorage) -> None:
    await submitted(jobs, idempotency_key="/run a", body_digest="1")

    with pytest.raises(RepeatedError):
        await jobs.submit(order(idempotency_key="/run a", body_digest="2"))
    assert (await jobs.jobs(ALL)).total == 1


async def test_idempotency_keys_of_others_and_of_yesterday_are_other_keys(jobs: JobStorage) -> None:
    old = order(idempotency_key="/run a", body_digest="1")
    job = await submitted(jobs, idempotency_key="/run a", created_at=old.created_at - timedelta(hours=24, seconds=1))
    _, made_new = await jobs.submit(old)
    _, made_other = await jobs.submit(order(idempotency_key="/run a", body_digest="1", scope="key_2"))
    _, made_elsewhere = await jobs.submit(order(idempotency_key="/execute a", body_digest="1"))

    assert (made_new, made_other, made_elsewhere) == (True, True, True)
    assert (await found(jobs, job.id)).origin.idempotency_key == "/run a"


async def test_the_same_order_joins_its_job_while_that_lives(jobs: JobStorage) -> None:
    job = await submitted(jobs, joins="digest")
    joined, made = await jobs.submit(order(joins="digest"))
    _, made_other = await jobs.submit(order(joins="digest", scope="key_2"))
    await jobs.cancel(job.id, ALL)
    anew, made_anew = await jobs.submit(order(joins="digest"))

    assert (joined.id, made) == (job.id, False)
    assert made_other
    assert made_anew
    assert anew.id != job.id


async def test_an_order_whose_answer_was_lost_is_found_again(jobs: JobStorage, told: Told) -> None:
    new = order()
    job, _ = await jobs.submit(new)

    assert await jobs.submit(new) == (job, False)
    assert len(told.events[job.id]) == 1


@pytest.mark.parametrize("by", [{"idempotency_key": "/run a"}, {"joins": "digest"}])
async def test_orders_that_come_at_the_same_time_make_one_job(
    jobs: JobStorage, storage: Storage, by: dict[str, str]
) -> None:
    answers: list[tuple[JobRow, bool]] = []

    async def submit(new: NewJob) -> None:
        answers.append(await jobs.submit(new))

    async with anyio.create_task_group() as group:
        for _ in range(12):
            group.start_soon(submit, order(organization_id="acme", **by))

    assert sum(made for _, made in answers) == 1
    assert len({job.id for job, _ in answers}) == 1
    assert await run_sql(storage, "SELECT count(*) FROM jobs") == [(1,)]
    assert await run_sql(storage, "SELECT count(*) FROM job_texts") == [(1,)]
