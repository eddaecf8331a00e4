from pathlib import Path

from alembic import command
from anyio import to_thread
from sqlalchemy import Connection

from llmgateway.storage.address import locate
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.migrations.upgrade import configuration, upgrade
from tests.lines import Lines
from tests.storage.admin.given import behind, deed, key_row, run_sql
from tests.storage.conftest import opened

OLD_KEY = (
    "INSERT INTO keys (id, name, hash, prefix, created_at_us, disabled, metadata) "
    "VALUES ('key_1', 'app', 'h', 'lgw_12345678', 1, {false}, '{{}}')"
)


def to_second(connection: Connection) -> None:
    command.upgrade(configuration(connection), "0002")


async def migrate(url: str, folder: Path) -> tuple[str | None, str]:
    return await to_thread.run_sync(upgrade, locate(url, folder))


async def test_a_key_of_the_version_before_stays_and_has_no_strategy(url: str, tmp_path: Path, lines: Lines) -> None:
    async with behind(url, tmp_path) as database, database.engine.connect() as connection:
        await connection.run_sync(to_second)
        await connection.commit()
    await run_sql(url, tmp_path, OLD_KEY.format(false="0" if url.startswith("sqlite") else "false"))

    assert (await migrate(url, tmp_path))[0] == "0002"

    async with opened(url, tmp_path, lines.logger) as storage:
        admin = AdminStorage(storage)
        row = await admin.key("key_1")
        assert row is not None
        assert (row.name, row.strategy) == ("app", None)
        await admin.add_key(key_row(id="key_2", strategy="cheapest"), deed())
        made = await admin.key("key_2")
        assert made is not None
        assert made.strategy == "cheapest"


async def test_a_step_that_broke_off_is_repeated(url: str, tmp_path: Path, lines: Lines) -> None:
    async with opened(url, tmp_path, lines.logger) as storage:
        await AdminStorage(storage).add_key(key_row(id="key_1", strategy="fastest"), deed())
    await run_sql(url, tmp_path, "UPDATE llmgateway_version SET version_num = '0002'")

    assert (await migrate(url, tmp_path))[0] == "0002"

    async with opened(url, tmp_path, lines.logger) as storage:
        row = await AdminStorage(storage).key("key_1")
        assert row is not None
        assert row.strategy == "fastest"
