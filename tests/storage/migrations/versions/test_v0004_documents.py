from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from anyio import to_thread
from msgspec import structs
from sqlalchemy import Connection

from llmgateway.storage.address import locate
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import EntityKind
from llmgateway.storage.documents.seeds import seeds
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.migrations.upgrade import configuration, upgrade
from tests.lines import Lines
from tests.storage.admin.given import behind, deed, key_row, run_sql
from tests.storage.conftest import opened
from tests.storage.jobs.given import ALL, Told, claimed, submitted

KINDS: list[EntityKind] = ["service", "flavor", "prompt", "service_type", "preset", "service_template"]

OLD_KEY = (
    "INSERT INTO keys (id, name, hash, prefix, created_at_us, disabled, metadata) "
    "VALUES ('key_1', 'app', 'h', 'lgw_12345678', 1, FALSE, '{}')"
)


def to_third(connection: Connection) -> None:
    command.upgrade(configuration(connection), "0003")


async def migrate(url: str, folder: Path) -> tuple[str | None, str]:
    return await to_thread.run_sync(upgrade, locate(url, folder))


@asynccontextmanager
async def migrated(url: str, folder: Path, lines: Lines) -> AsyncIterator[AdminStorage]:
    async with opened(url, folder, lines.logger) as storage:
        yield AdminStorage(storage)


async def test_a_database_of_the_version_before_gets_the_rows_that_come_with_the_program(
    url: str, tmp_path: Path, lines: Lines
) -> None:
    async with behind(url, tmp_path) as database, database.engine.connect() as connection:
        await connection.run_sync(to_third)
        await connection.commit()
    await run_sql(url, tmp_path, OLD_KEY)

    assert (await migrate(url, tmp_path))[0] == "0003"

    expected = seeds(datetime.now(UTC))
    async with migrated(url, tmp_path, lines) as admin:
        assert await admin.key("key_1") is not None
        for kind in KINDS:
            rows = {row.id: row for row in await admin.every(kind)}
            assert len(rows) == len(expected[kind])
            for row in expected[kind]:
                found = rows[structs.asdict(row)["id"]]
                assert structs.replace(row, created_at=found.created_at, updated_at=found.updated_at) == found
        assert await admin.changes_after(0) == []


async def test_a_step_that_broke_off_is_repeated_and_undoes_nothing(url: str, tmp_path: Path, lines: Lines) -> None:
    async with migrated(url, tmp_path, lines) as admin:
        await admin.add_key(key_row(), deed())
        service = (await admin.every("service"))[0]
        changed = structs.replace(service, description="our own")
        await admin.replace_entity("service", changed, deed())
        counts = {kind: len(await admin.every(kind)) for kind in KINDS}
    await run_sql(
        url,
        tmp_path,
        "UPDATE llmgateway_version SET version_num = '0003'",
        "DROP TABLE job_versions",
        "DROP INDEX jobs_queued",
    )

    assert (await migrate(url, tmp_path))[0] == "0003"

    async with opened(url, tmp_path, lines.logger) as storage:
        admin, jobs = AdminStorage(storage), JobStorage(storage, Told())
        assert await admin.entity("service", service.id) == changed
        assert {kind: len(await admin.every(kind)) for kind in KINDS} == counts
        job = await submitted(jobs)
        assert (await claimed(jobs)).job.id == job.id
        assert await jobs.versions(job.id) == []
        assert await jobs.job(job.id, ALL) is not None


async def test_what_was_removed_does_not_come_back_at_the_next_start(url: str, tmp_path: Path, lines: Lines) -> None:
    async with migrated(url, tmp_path, lines) as admin:
        rows = await admin.every("prompt")
        for row in rows:
            await admin.remove_entity("prompt", row.id, deed())

    async with migrated(url, tmp_path, lines) as admin:
        assert await admin.every("prompt") == []
