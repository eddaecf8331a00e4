import anyio
import pytest

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import Wanted
from tests.storage.jobs.given import ALL, completed, found, submitted


async def test_an_edit_makes_a_new_version_which_is_the_result_then(jobs: JobStorage) -> None:
    job = await completed(jobs)

    version = await jobs.add_version(job.id, "edited\0", "ann", ALL)

    assert version is not None
    assert (version.number, version.content, version.created_by) == (2, "edited\ufffd", "ann")
    row = await found(jobs, job.id)
    assert (row.result, row.current_version) == ("edited\ufffd", 2)
    assert [(one.number, one.content) for one in await jobs.versions(job.id)] == [
        (2, "edited\ufffd"),
        (1, "the result"),
    ]
    assert (await jobs.versions(job.id))[0] == version


async def test_the_last_ten_and_the_first_are_kept(jobs: JobStorage) -> None:
    job = await completed(jobs)
    for number in range(2, 15):
        await jobs.add_version(job.id, f"version {number}", "ann", ALL)

    assert [version.number for version in await jobs.versions(job.id)] == [*range(14, 4, -1), 1]


async def test_a_version_is_forgotten_but_neither_the_first_nor_the_current_one(jobs: JobStorage) -> None:
    job = await completed(jobs)
    for number in (2, 3):
        await jobs.add_version(job.id, f"version {number}", "ann", ALL)

    assert await jobs.delete_version(job.id, 2) is True
    assert await jobs.delete_version(job.id, 2) is False
    for number in (1, 3):
        with pytest.raises(ValueError, match=f"Version {number} stays"):
            await jobs.delete_version(job.id, number)
    assert await jobs.delete_version("nothing", 1) is False
    added = await jobs.add_version(job.id, "version 4", "ann", ALL)
    assert added is not None
    assert added.number == 4


async def test_only_a_completed_job_of_ones_own_is_edited(jobs: JobStorage) -> None:
    job = await submitted(jobs, organization_id="acme")

    assert await jobs.add_version(job.id, "x", "ann", ALL) is None
    await jobs.cancel(job.id, ALL)
    assert await jobs.add_version(job.id, "x", "ann", ALL) is None
    done = await completed(jobs, organization_id="acme")
    assert await jobs.add_version(done.id, "x", "ann", Wanted(organization_id="other")) is None
    assert await jobs.add_version(done.id, "x", "ann", Wanted(organization_id="acme")) is not None


async def test_edits_at_the_same_time_each_get_their_number(jobs: JobStorage) -> None:
    job = await completed(jobs)

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(jobs.add_version, job.id, f"{number}", "ann", ALL)

    versions = await jobs.versions(job.id)
    assert [version.number for version in versions] == [7, 6, 5, 4, 3, 2, 1]
    assert (await found(jobs, job.id)).result == versions[0].content
