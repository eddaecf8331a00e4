from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Connection, Engine, select, text

from llmgateway.storage.database import Database
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.transactions import change, clock, now_us
from llmgateway.storage.queries import StorageAwayError
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.conftest import opened
from tests.storage.jobs.given import (
    ALL,
    Told,
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


@pytest.fixture
async def file(tmp_path: Path, lines: Lines) -> AsyncIterator[Storage]:
    """SQLite alone."""
    lay_out(tmp_path / "own.db")
    async with opened(f"sqlite:///{tmp_path}/own.db", tmp_path, lines.logger) as storage:
        yield storage


async def plain_of(storage: Storage) -> Engine:
    async def look(database: Database) -> Engine:
        assert database.plain is not None
        return database.plain

    return await storage.ask(look)


async def limit_pages(storage: Storage, more: int | None) -> None:
    """Leave the file so many pages to grow; `None` is as many as it wants."""
    with (await plain_of(storage)).begin() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {2**30 if more is None else pages + more}"))


async def test_a_full_disk_is_said_clearly_and_leaves_all_as_it_was(file: Storage) -> None:
    told = Told()
    jobs = JobStorage(file, told)
    job = await submitted(jobs)
    mine = await claimed(jobs)
    before = await found(jobs, job.id)
    large = "x" * 1_000_000
    await limit_pages(file, 20)

    with pytest.raises(StorageAwayError, match="disk is full"):
        await jobs.submit(order(text=large))
    with pytest.raises(StorageAwayError, match="disk is full"):
        await jobs.commit(mine.lease, progressed(passes=(done("a", output=large),), output=large))

    assert await found(jobs, job.id) == before
    assert (await jobs.passes(job.id), (await jobs.jobs(ALL)).total, len(told.events)) == ([], 1, 1)
    await limit_pages(file, None)
    await jobs.commit(mine.lease, progressed(passes=(done("a", output=large),), output=large))
    await jobs.commit(mine.lease, ending(result=large))
    assert (await found(jobs, job.id)).result == large
    assert await run_sql(file, "PRAGMA integrity_check") == [("ok",)]
    assert [event.id for event in told.events[job.id]] == [1, 2, 3, 4]


async def test_what_the_database_refuses_for_what_it_is_does_not_look_like_a_database_that_is_away(
    storage: Storage,
) -> None:
    def refused(connection: Connection) -> None:
        connection.execute(text("INSERT INTO job_turns VALUES ('canary', 1)"))
        connection.execute(text("INSERT INTO job_turns VALUES ('canary', 1)"))

    def broken(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM nothing"))

    with pytest.raises(ValueError, match="refuses what is in it") as caught:
        await storage.ask(lambda database: change(database, refused))
    with pytest.raises(StorageAwayError):
        await storage.ask(lambda database: change(database, broken))

    assert "canary" not in str(caught.value)
    assert await run_sql(storage, "SELECT * FROM job_turns") == []


async def test_leases_go_by_the_clock_that_all_workers_share(storage: Storage) -> None:
    async def read(database: Database) -> int:
        return await change(database, lambda connection: int(connection.execute(select(clock(database))).scalar_one()))

    assert abs(await storage.ask(read) - now_us()) < 60_000_000


async def test_a_transaction_that_nobody_waits_for_any_more_ends_whole(storage: Storage) -> None:
    def write(connection: Connection) -> None:
        for number in range(200):
            connection.execute(text(f"INSERT INTO job_turns VALUES ('{number}', 1)"))  # noqa: S608

    await run_sql(storage, "SELECT 1")
    with anyio.move_on_after(0.02):
        await storage.ask(lambda database: change(database, write))

    assert await run_sql(storage, "SELECT count(*) FROM job_turns") == [(200,)]


async def test_whoever_changes_sqlite_has_it_from_the_beginning(file: Storage) -> None:
    def step(connection: Connection) -> None:
        [(before,)] = connection.execute(text("SELECT count(*) FROM job_turns")).all()
        connection.execute(text(f"INSERT INTO job_turns VALUES ('{before}', 1)"))  # noqa: S608

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(file.ask, lambda database: change(database, step))

    assert await run_sql(file, "SELECT count(*) FROM job_turns") == [(20,)]
