import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from alembic.script import ScriptDirectory
from anyio import to_thread
from sqlalchemy import text

from llmgateway.storage.address import locate, revision_in
from llmgateway.storage.database import open_engine, turn
from llmgateway.storage.migrations import upgrade as module
from llmgateway.storage.migrations.revisions import HEAD, REVISIONS, DatabaseNewerError
from llmgateway.storage.migrations.upgrade import configuration, upgrade
from llmgateway.storage.queries import StorageAwayError
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.conftest import opened

STEPS = sorted((Path(module.__file__).parent / "versions").glob("v*.py"))


async def migrate(url: str, folder: Path, wait_s: float = 10.0) -> tuple[str | None, str]:
    return await to_thread.run_sync(lambda: upgrade(locate(url, folder), wait_s=wait_s))


def test_known_revisions_are_the_steps_that_are_there() -> None:
    steps = ScriptDirectory.from_config(configuration()).walk_revisions()

    assert tuple(reversed([step.revision for step in steps])) == REVISIONS


async def test_empty_database_is_brought_to_the_head_once(url: str, tmp_path: Path) -> None:
    assert await migrate(url, tmp_path) == (None, HEAD)
    assert await migrate(url, tmp_path) == (HEAD, HEAD)


async def test_two_that_migrate_at_once_both_succeed(url: str, tmp_path: Path) -> None:
    results: list[tuple[str | None, str]] = []

    async def run() -> None:
        results.append(await migrate(url, tmp_path))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(run)

    assert sorted(results, key=str) == [(HEAD, HEAD)] * 3 + [(None, HEAD)]


async def test_many_that_open_an_empty_database_all_get_it(url: str, tmp_path: Path, lines: Lines) -> None:
    async def run() -> None:
        async with opened(url, tmp_path, lines.logger) as storage:
            assert await storage.check() is True

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(run)


async def test_several_databases_that_one_process_migrates_at_once_each_get_their_own_steps(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.db" for number in range(4)]

    async with anyio.create_task_group() as group:
        for path in paths:
            group.start_soon(migrate, f"sqlite:///{path}", tmp_path)

    assert [revision_in(path) for path in paths] == [HEAD] * len(paths)


async def test_step_that_broke_off_half_way_is_finished(url: str, tmp_path: Path) -> None:
    await migrate(url, tmp_path)
    database = open_engine(locate(url, tmp_path))
    try:
        async with database.engine.begin() as connection:
            await connection.execute(text("DELETE FROM llmgateway_version"))
            await connection.execute(text("DROP INDEX ledger_at_us"))
    finally:
        await database.engine.dispose()

    assert await migrate(url, tmp_path) == (None, HEAD)


async def test_database_of_a_newer_version_is_left_alone(url: str, tmp_path: Path, lines: Lines) -> None:
    await migrate(url, tmp_path)
    database = open_engine(locate(url, tmp_path))
    try:
        async with database.engine.begin() as connection:
            await connection.execute(text("UPDATE llmgateway_version SET version_num = '9999'"))
        with pytest.raises(DatabaseNewerError, match=f"revision 9999, this program knows up to {HEAD}"):
            await migrate(url, tmp_path)
        storage = Storage(url, tmp_path, logger=lines.logger)
        async with anyio.create_task_group() as group:
            group.start_soon(storage.open)
            while "revision 9999" not in lines.text():  # noqa: ASYNC110  the log has no event for it
                await anyio.sleep(0.01)
            assert await storage.check() is False
            async with database.engine.begin() as connection:
                await connection.execute(text(f"UPDATE llmgateway_version SET version_num = '{HEAD}'"))  # noqa: S608
            with anyio.fail_after(10):
                await storage.opened.wait()
        assert await storage.check() is True
        await storage.close()
    finally:
        await database.engine.dispose()


async def test_another_that_never_finishes_is_not_waited_for(url: str, tmp_path: Path) -> None:
    database = open_engine(locate(url, tmp_path))
    try:
        async with turn(database, "migrations") as mine:
            assert mine
            with pytest.raises(StorageAwayError, match="Another process"):
                await migrate(url, tmp_path, wait_s=0.1)
    finally:
        await database.engine.dispose()


def test_start_imports_neither_alembic_nor_sqlalchemy(tmp_path: Path) -> None:
    program = f"""
        import asyncio, sys, structlog
        from pathlib import Path
        from llmgateway.storage.storage import Storage
        async def main():
            storage = Storage(None, Path({str(tmp_path)!r}), logger=structlog.get_logger())
            await storage.open()
            print('alembic' in sys.modules, 'sqlalchemy' in sys.modules)
            await storage.close()
        asyncio.run(main())
    """

    said = [
        subprocess.run(  # noqa: S603  the arguments are ours
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]

    assert said == ["False False\n"] * 2


def refusals(step: str) -> Iterator[str]:
    """Yield what would hold up those who write: an index on a table that was there before, made in one go."""
    own = {line.split('"')[1] for line in calls(step, "create_table")}
    for call in calls(step, "create_index"):
        table = call.split('"')[3]
        if table not in own and ("postgresql_concurrently=True" not in call or "autocommit_block" not in step):
            index = call.split('"')[1]
            yield f"{index}: on {table} without postgresql_concurrently=True in an autocommit_block"


def calls(step: str, name: str) -> list[str]:
    joined = " ".join(step.split())
    return [part.partition("op.")[0] for part in joined.split(f"op.{name}(")[1:]]


@pytest.mark.parametrize("step", STEPS, ids=lambda path: path.stem)
def test_no_step_holds_up_those_who_write(step: Path) -> None:
    """Pitfall 85."""
    assert list(refusals(step.read_text())) == []


def test_step_that_would_is_refused() -> None:
    """Pitfall 85."""
    bad = 'op.create_table("other")\nop.create_index("a", "other")\nop.create_index("b", "ledger", ["x"])'
    good = 'with op.get_context().autocommit_block():\n op.create_index("b", "ledger", postgresql_concurrently=True)'

    assert list(refusals(bad)) == ["b: on ledger without postgresql_concurrently=True in an autocommit_block"]
    assert list(refusals(good)) == []
