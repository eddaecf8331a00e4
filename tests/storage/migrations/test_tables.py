from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from llmgateway.storage.address import locate
from llmgateway.storage.database import open_engine
from llmgateway.storage.migrations.document_tables import jobs
from llmgateway.storage.storage import Storage


def differences(connection: Connection) -> list[Any]:
    options = {"version_table": "llmgateway_version", "compare_type": True}
    found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), jobs.metadata)
    return found


async def test_migrated_database_is_what_the_tables_say(storage: Storage, url: str, tmp_path: Any) -> None:
    assert storage.up
    database = open_engine(locate(url, tmp_path))
    try:
        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await database.engine.dispose()
