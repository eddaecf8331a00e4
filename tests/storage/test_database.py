import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from llmgateway.storage.address import Address, locate
from llmgateway.storage.database import Database, open_engine, turn
from llmgateway.storage.queries import StorageAwayError


def test_file_that_cannot_be_made_says_whose_fault_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageAwayError, match=r"file/llmgateway\.db cannot be written \("):
        open_engine(Address(path=tmp_path / "file" / "llmgateway.db"))


async def test_sqlite_is_given_what_is_unknown_as_null_and_yes_as_a_number(tmp_path: Path) -> None:
    database = open_engine(locate(None, tmp_path))
    values = {"unknown": None, "yes": True, "no": False}
    asked = text("SELECT :unknown, typeof(:unknown), :yes, typeof(:yes), :no, typeof(:no)").bindparams(**values)

    try:
        assert [tuple(row) for row in await database.rows(asked)] == [(None, "null", 1, "integer", 0, "integer")]
    finally:
        await database.close()


@pytest.mark.usefixtures("storage")
async def test_a_change_of_many_statements_is_made_whole_or_not_at_all(url: str, tmp_path: Path) -> None:
    database = open_engine(locate(url, tmp_path))

    def add(connection: Connection, number: int) -> int:
        for name in (f"a{number}", f"b{number}"):
            connection.execute(text("INSERT INTO job_turns VALUES (:name, 1)"), {"name": name})
        return number

    try:
        assert [await database.change(partial(add, number=number)) for number in range(3)] == [0, 1, 2]
        with pytest.raises(IntegrityError):
            await database.change(partial(add, number=2))
        assert [row[0] for row in await database.rows(text("SELECT count(*) FROM job_turns"))] == [6]
    finally:
        await database.close()


async def open_twice(url: str, folder: Path) -> tuple[Database, Database]:
    return open_engine(locate(url, folder)), open_engine(locate(url, folder))


@pytest.mark.usefixtures("storage")
async def test_turn_is_one_process_at_a_time(url: str, tmp_path: Path) -> None:
    one, other = await open_twice(url, tmp_path)
    try:
        async with turn(one, "sweep") as mine, turn(other, "sweep") as theirs, turn(other, "else") as another:
            assert (mine, theirs, another) == (True, False, True)
        async with turn(other, "sweep") as theirs:
            assert theirs
    finally:
        await one.engine.dispose()
        await other.engine.dispose()


@pytest.mark.usefixtures("storage")
async def test_connection_is_set_up_for_many_writers(url: str, tmp_path: Path) -> None:
    database = open_engine(locate(url, tmp_path))
    shown: list[Any] = []
    try:
        if database.address.path is None:
            questions = ["SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"]
        else:
            questions = [f"PRAGMA {name}" for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]
        for question in questions:
            shown += [row[0] for row in await database.rows(text(question))]
    finally:
        await database.engine.dispose()

    assert shown == (["llmgateway"] if database.address.path is None else ["wal", 1, 1, 10_000])


ENDLESS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")


async def test_question_that_nobody_waits_for_any_more_ends(tmp_path: Path) -> None:
    database = open_engine(Address(path=tmp_path / "x.db"))
    try:
        for _ in range(6):
            with anyio.move_on_after(0.05) as waited:
                await database.rows(ENDLESS)
            assert waited.cancelled_caught
        began_s = time.process_time()
        assert [row[0] for row in await database.rows(text("SELECT 1"))] == [1]
        await anyio.sleep(0.3)

        assert time.process_time() - began_s < 0.2, "more questions than there are connections, and none is left"
    finally:
        await database.engine.dispose()


async def test_question_whose_task_is_cancelled_ends_too(tmp_path: Path) -> None:
    # As a request is when its client leaves, and one whose time is over: by the task, past any cancel scope.
    database = open_engine(Address(path=tmp_path / "x.db"))
    try:
        for after_s in (0.0, 0.001, 0.05):
            asked = asyncio.ensure_future(database.rows(ENDLESS))
            await asyncio.sleep(after_s)
            asked.cancel()
            await asyncio.wait([asked], timeout=2)

            assert asked.cancelled()
        assert [row[0] for row in await database.rows(text("SELECT 1"))] == [1]
    finally:
        await database.engine.dispose()


@pytest.mark.parametrize("kind", ["question", "write"])
@pytest.mark.parametrize("by", ["task", "scope"])
async def test_nothing_is_left_of_what_is_cancelled_at_any_moment(kind: str, by: str, tmp_path: Path) -> None:
    # Such as a connection that is being closed: its end may never be told, and the process waits for it at exit.
    database = open_engine(Address(path=tmp_path / "x.db"))
    statement = text("SELECT 1") if kind == "question" else text("CREATE TABLE IF NOT EXISTS x (y)")
    before = asyncio.all_tasks()

    async def run(scope: anyio.CancelScope) -> None:
        with scope:
            if kind == "question":
                await database.rows(statement)
            else:
                await database.write(lambda connection: connection.execute(statement))

    try:
        for number in range(40):
            running = asyncio.ensure_future(run(scope := anyio.CancelScope()))
            await asyncio.sleep(number * 0.0001)
            running.cancel() if by == "task" else scope.cancel()
            await asyncio.wait([running], timeout=5)

            assert asyncio.all_tasks() == before
    finally:
        await database.engine.dispose()
