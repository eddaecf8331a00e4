from datetime import UTC, datetime, timedelta

import pytest

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import Step, Wanted
from tests.storage.jobs.given import ALL, claimed, completed, ending, found, progressed, submitted


async def test_a_job_is_found_by_those_whose_it_is(jobs: JobStorage) -> None:
    """Pitfall 109: to everybody else it is not there."""
    theirs = await submitted(jobs, organization_id="acme")
    nobodys = await submitted(jobs)

    seen = {
        "acme": Wanted(organization_id="acme"),
        "other": Wanted(organization_id="other"),
        "none": Wanted(),
        "all": ALL,
        "its key": Wanted(everyone=True, key_id="key_1"),
        "another key": Wanted(organization_id="acme", key_id="key_2"),
    }

    async def ids(wanted: Wanted) -> set[str]:
        one = {job.id for name in (theirs.id, nobodys.id) if (job := await jobs.job(name, wanted)) is not None}
        page = await jobs.jobs(wanted)
        assert {job.id for job in page.rows} == one
        assert page.total == len(one)
        return one

    assert {who: await ids(wanted) for who, wanted in seen.items()} == {
        "acme": {theirs.id},
        "other": set(),
        "none": {nobodys.id},
        "all": {theirs.id, nobodys.id},
        "its key": {theirs.id, nobodys.id},
        "another key": set(),
    }


async def test_jobs_are_listed_newest_first_and_without_results(jobs: JobStorage) -> None:
    first = await completed(jobs)
    ids = [first.id, *[(await submitted(jobs, service_id="service_2")).id for _ in range(4)]]

    pages = [await jobs.jobs(ALL, number, 2) for number in (1, 2, 3, 4)]

    assert [job.id for page in pages for job in page.rows] == ids[::-1]
    assert {page.total for page in pages} == {5}
    [listed] = (await jobs.jobs(Wanted(everyone=True, status="completed"))).rows
    assert (listed.id, listed.result, listed.partial, listed.current_version) == (first.id, None, "", 1)
    assert (await jobs.jobs(Wanted(everyone=True, service_id="service_2", status="queued"))).total == 4


async def test_events_are_read_from_where_the_reader_was(jobs: JobStorage) -> None:
    """Pitfall 125: whoever comes back with the last id gets what was missed, no more and no less."""
    job = await submitted(jobs)
    mine = await claimed(jobs)
    for _ in range(5):
        await jobs.commit(mine.lease, progressed())

    assert [event.id for event in await jobs.events(job.id)] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.id for event in await jobs.events(job.id, 5)] == [6, 7]
    assert [event.id for event in await jobs.events(job.id, 1, 2)] == [2, 3]
    assert await jobs.events(job.id, 7) == []
    assert await jobs.events("nothing") == []


async def test_heads_of_many_jobs_are_told_at_once(jobs: JobStorage) -> None:
    job, other = await submitted(jobs), await submitted(jobs)
    await jobs.cancel(other.id, ALL)

    assert await jobs.heads([job.id, other.id, *(f"no_{number}" for number in range(1200))]) == {
        job.id: 1,
        other.id: 2,
    }
    assert await jobs.heads([]) == {}


async def test_queued_jobs_are_counted_by_priority(jobs: JobStorage) -> None:
    assert await jobs.depth() == {}
    for priority in (5, 0, 5, 9):
        await submitted(jobs, priority=priority)

    assert await jobs.depth() == {0: 1, 5: 2, 9: 1}
    await claimed(jobs)
    assert await jobs.depth() == {5: 2, 9: 1}


async def test_ended_jobs_are_read_for_statistics(jobs: JobStorage) -> None:
    before = datetime.now(UTC)
    first = await completed(jobs, organization_id="acme")
    second = await completed(jobs, flavor_id="flavor_2")
    cancelled = await submitted(jobs)
    await jobs.cancel(cancelled.id, ALL)
    await submitted(jobs)

    async def ids(since: datetime | None, wanted: Wanted = ALL, flavor_id: str | None = None) -> list[str]:
        return [job.id for job in await jobs.spans(since, wanted, flavor_id)]

    assert await ids(None) == [cancelled.id, second.id, first.id]
    assert await ids(before) == [cancelled.id, second.id, first.id]
    assert await ids((await found(jobs, second.id)).completed_at) == [cancelled.id, second.id]
    assert await ids(before + timedelta(days=1)) == []
    assert await ids(None, Wanted(organization_id="acme")) == [first.id]
    assert await ids(None, ALL, "flavor_2") == [second.id]
    assert {job.result for job in await jobs.spans(None, ALL)} == {None}


@pytest.mark.parametrize("job_id", ["nothing", "", "\ud800", "a\0b"])
async def test_what_is_not_there_is_not_found(jobs: JobStorage, job_id: str) -> None:
    assert await jobs.job(job_id, ALL) is None
    assert await jobs.text(job_id) is None
    assert await jobs.work(job_id) is None
    assert await jobs.passes(job_id) == []
    assert await jobs.events(job_id) == []
    assert await jobs.heads([job_id]) == {}
    assert await jobs.versions(job_id) == []
    assert await jobs.cancel(job_id, ALL) is None
    assert await jobs.delete(job_id, ALL) is None
    assert await jobs.add_version(job_id, "x", "ann", ALL) is None
    assert await jobs.delete_version(job_id, 2) is False
    assert (await jobs.jobs(Wanted(organization_id=job_id or "x", service_id=job_id))).total == 0


async def test_a_large_document_and_a_long_result_are_kept_whole(jobs: JobStorage) -> None:
    text = "\U0001f600 é 会議。\n" * 200_000
    job = await submitted(jobs, text=text)
    mine = await claimed(jobs)
    await jobs.commit(mine.lease, Step(output=text))
    await jobs.commit(mine.lease, ending(result=text))

    assert mine.text == text
    assert await jobs.text(job.id) == text
    row = await found(jobs, job.id)
    assert (row.result, row.partial, row.input_chars) == (text, text, len(text))
