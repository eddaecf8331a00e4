import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import Claimed, FencedError, Lease, Step
from llmgateway.storage.queries import StorageAwayError
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.jobs.given import (
    ALL,
    Told,
    bodies,
    claimed,
    done,
    ending,
    found,
    order,
    progressed,
    run_sql,
    submitted,
)
from tests.tables import lay_out

EVERY: list[Callable[[JobStorage], Awaitable[object]]] = [
    lambda jobs: jobs.submit(order()),
    lambda jobs: jobs.job("x", ALL),
    lambda jobs: jobs.jobs(ALL),
    lambda jobs: jobs.text("x"),
    lambda jobs: jobs.work("x"),
    lambda jobs: jobs.passes("x"),
    lambda jobs: jobs.events("x"),
    lambda jobs: jobs.heads(["x"]),
    lambda jobs: jobs.claim("worker", 15),
    lambda jobs: jobs.renew([Lease("x", 1)], 15),
    lambda jobs: jobs.commit(Lease("x", 1), Step()),
    lambda jobs: jobs.hand_back(Lease("x", 1)),
    lambda jobs: jobs.cancel("x", ALL),
    lambda jobs: jobs.sweep(),
    lambda jobs: jobs.delete("x", ALL),
    lambda jobs: jobs.delete_expired(),
    lambda jobs: jobs.add_version("x", "", "ann", ALL),
    lambda jobs: jobs.versions("x"),
    lambda jobs: jobs.delete_version("x", 2),
    lambda jobs: jobs.due_hooks(datetime.now(UTC)),
    lambda jobs: jobs.hook_tried("x", None),
    lambda jobs: jobs.depth(),
    lambda jobs: jobs.spans(None, ALL),
]


class Losing:
    """A storage that does what it is asked and loses the answer, as often as it is told to."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.answers_lost = 0

    async def ask(self, question: Any) -> Any:
        answer = await self._storage.ask(question)
        if self.answers_lost:
            self.answers_lost -= 1
            raise StorageAwayError("The connection was lost")
        return answer

    async def glance(self, *asked: Any) -> Any:
        return await self._storage.glance(*asked)


@pytest.fixture
def losing(storage: Storage) -> Losing:
    return Losing(storage)


@pytest.fixture
def unsure(losing: Losing, told: Told) -> JobStorage:
    return JobStorage(cast("Storage", losing), told)


async def test_every_question_says_that_the_database_is_away(tmp_path: Path, lines: Lines, told: Told) -> None:
    jobs = JobStorage(Storage(None, tmp_path, logger=lines.logger), told)

    for question in EVERY:
        with pytest.raises(StorageAwayError):
            await question(jobs)
    assert told.events == {}


async def test_a_step_whose_answer_was_lost_is_written_once(unsure: JobStorage, losing: Losing) -> None:
    job = await submitted(unsure)
    mine = await claimed(unsure)
    step = progressed(status="processing", passes=(done("a"),), output="ha ")
    for _ in range(2):
        losing.answers_lost = 2
        for _ in range(2):
            with pytest.raises(StorageAwayError):
                await unsure.commit(mine.lease, step)
        await unsure.commit(mine.lease, structs.replace(step))
        step = progressed(output="ha ")

    row = await found(unsure, job.id)
    assert (row.partial, row.events) == ("ha ha ", 4)
    assert [body["id"] for body in await bodies(unsure, job.id)] == [1, 2, 3, 4]
    assert len(await unsure.passes(job.id)) == 1


async def test_the_last_step_whose_answer_was_lost_is_no_lost_lease(unsure: JobStorage, losing: Losing) -> None:
    job = await submitted(unsure)
    mine = await claimed(unsure)
    losing.answers_lost = 1
    step = ending(result="x")
    with pytest.raises(StorageAwayError):
        await unsure.commit(mine.lease, step)

    await unsure.commit(mine.lease, step)

    assert [version.number for version in await unsure.versions(job.id)] == [1]
    with pytest.raises(FencedError):
        await unsure.commit(mine.lease, step)


async def test_another_step_after_one_whose_answer_was_lost_is_written(unsure: JobStorage, losing: Losing) -> None:
    job = await submitted(unsure)
    mine = await claimed(unsure)
    losing.answers_lost = 1
    with pytest.raises(StorageAwayError):
        await unsure.commit(mine.lease, Step(output="a"))

    await unsure.commit(mine.lease, Step(output="b"))

    assert (await found(unsure, job.id)).partial == "ab"


async def test_only_so_many_steps_are_remembered(losing: Losing, unsure: JobStorage) -> None:
    taken: list[Claimed] = []
    for _ in range(103):
        await submitted(unsure)
        taken.append(await claimed(unsure, 60))
    for mine in taken:
        losing.answers_lost = 1
        with pytest.raises(StorageAwayError):
            await unsure.commit(mine.lease, Step(output="a"))

    for mine in (taken[0], taken[-1]):
        await unsure.commit(mine.lease, Step(output="a"))

    assert (await found(unsure, taken[0].job.id)).partial == "aa"
    assert (await found(unsure, taken[-1].job.id)).partial == "a"


async def test_nothing_is_told_of_what_was_not_written(unsure: JobStorage, losing: Losing, told: Told) -> None:
    losing.answers_lost = 1

    with pytest.raises(StorageAwayError):
        await unsure.submit(order())

    assert told.events == {}


def test_an_idle_gateway_on_sqlite_imports_no_library(tmp_path: Path) -> None:
    lay_out(tmp_path / "own.db")
    program = f"""
        import asyncio, sys, structlog
        from datetime import UTC, datetime
        from pathlib import Path
        from llmgateway.storage.jobs.jobs import JobStorage
        from llmgateway.storage.storage import Storage
        async def main():
            storage = Storage('sqlite:///{tmp_path}/own.db', Path('.'), logger=structlog.get_logger())
            await storage.open()
            jobs = JobStorage(storage, print)
            for _ in range(2):
                print(await jobs.claim('worker', 15), await jobs.sweep(), await jobs.delete_expired())
                print(await jobs.due_hooks(datetime.now(UTC)), await jobs.depth())
            print('sqlalchemy' in sys.modules)
            await storage.close()
        asyncio.run(main())
    """

    told = subprocess.run(  # noqa: S603  the arguments are ours
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    ).stdout

    assert told == "None Swept(queued=(), lost=()) []\n[] {}\n" * 2 + "False\n"


async def test_a_job_that_another_process_orders_is_seen_at_once(tmp_path: Path, lines: Lines, told: Told) -> None:
    """The file is looked at again only when somebody wrote to it."""
    url = f"sqlite:///{tmp_path}/own.db"
    lay_out(tmp_path / "own.db")
    ours, theirs = (Storage(url, tmp_path, logger=lines.logger) for _ in range(2))
    await ours.open()
    await theirs.open()
    jobs = JobStorage(ours, told)
    assert [await jobs.claim("worker", 15) for _ in range(3)] == [None] * 3

    job = await submitted(JobStorage(theirs, told))

    assert (await jobs.sweep()).queued == (job.id,)
    assert (await claimed(jobs)).job.id == job.id
    assert await run_sql(ours, "SELECT worker FROM jobs") == [("worker",)]
    await ours.close()
    await theirs.close()
