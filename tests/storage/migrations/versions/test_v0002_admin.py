from pathlib import Path

import pytest
from alembic import command
from anyio import to_thread
from sqlalchemy import Connection, inspect, text

from llmgateway.storage.address import locate
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.database import open_engine
from llmgateway.storage.ledger import insert
from llmgateway.storage.migrations.upgrade import configuration, upgrade
from tests.lines import Lines
from tests.storage.admin.given import behind, deed, key_row, run_sql
from tests.storage.conftest import opened
from tests.storage.databases import START, entry


def to_first(connection: Connection) -> None:
    command.upgrade(configuration(connection), "0001")


async def at_first_revision(url: str, folder: Path, entries: int) -> None:
    """Leave a database as the version before this step left it."""
    async with behind(url, folder) as database:
        async with database.engine.connect() as connection:
            await connection.run_sync(to_first)
            await connection.commit()
        await insert(database, [entry(key_id="key_1", cost_nusd=2) for _ in range(entries)], lambda *_: None)


async def migrate(url: str, folder: Path) -> tuple[str | None, str]:
    return await to_thread.run_sync(upgrade, locate(url, folder))


async def test_ledger_of_the_version_before_is_kept_and_can_be_summed(url: str, tmp_path: Path, lines: Lines) -> None:
    await at_first_revision(url, tmp_path, 700)

    assert (await migrate(url, tmp_path))[0] == "0001"

    async with opened(url, tmp_path, lines.logger) as storage:
        admin = AdminStorage(storage)
        assert await admin.spent_nusd("key", "key_1", START) == 1400
        await admin.add_key(key_row(), deed())
        assert (await admin.verify()).rows == 1


async def test_sums_by_key_and_time_use_an_index(url: str, tmp_path: Path) -> None:
    await at_first_revision(url, tmp_path, 3)
    await migrate(url, tmp_path)

    async with behind(url, tmp_path) as database, database.engine.connect() as connection:
        found = await connection.run_sync(lambda plain: inspect(plain).get_indexes("ledger"))

    assert ["key_id", "at_us"] in [index["column_names"] for index in found]


async def test_index_whose_build_broke_off_is_built_again(postgres_url: str, tmp_path: Path) -> None:
    """PostgreSQL leaves an index behind that is there by name and never used."""
    url = postgres_url.rpartition("/")[0] + "/broken_off"
    database = open_engine(locate(postgres_url, tmp_path))
    async with database.engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("CREATE DATABASE broken_off"))
    await database.engine.dispose()
    await at_first_revision(url, tmp_path, 3)
    broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ledger_key_at_us'::regclass"
    await run_sql(url, tmp_path, "CREATE INDEX ledger_key_at_us ON ledger (key_id)", broken)

    await migrate(url, tmp_path)

    query = text("SELECT indisvalid, indnatts FROM pg_index WHERE indexrelid = 'ledger_key_at_us'::regclass")
    async with behind(url, tmp_path) as database:
        assert await database.rows(query) == [(True, 2)]


async def test_step_that_broke_off_is_repeated_and_loses_nothing(url: str, tmp_path: Path, lines: Lines) -> None:
    async with opened(url, tmp_path, lines.logger) as storage:
        await AdminStorage(storage).add_key(key_row(), deed())
    await run_sql(url, tmp_path, "UPDATE llmgateway_version SET version_num = '0001'", "DROP TABLE deployments")

    assert (await migrate(url, tmp_path))[0] == "0001"

    async with opened(url, tmp_path, lines.logger) as storage:
        admin = AdminStorage(storage)
        await admin.add_key(key_row(), deed())
        assert (await admin.keys()).total == 2
        assert [change.seq for change in await admin.changes_after(0)] == [1, 2]
        assert (await admin.verify()).rows == 2
        assert (await admin.deployments()).total == 0
    with pytest.raises(Exception, match="append-only"):
        await run_sql(url, tmp_path, "DELETE FROM audit")
