from pathlib import Path

import pytest
from sqlalchemy import inspect

from llmgateway.storage.address import locate
from llmgateway.storage.database import open_engine
from llmgateway.storage.migrations.document_tables import jobs


@pytest.mark.usefixtures("storage")
async def test_revision_is_kept_in_a_table_of_its_own_name(url: str, tmp_path: Path) -> None:
    database = open_engine(locate(url, tmp_path))
    try:
        async with database.engine.connect() as connection:
            names = await connection.run_sync(lambda plain: inspect(plain).get_table_names())
    finally:
        await database.engine.dispose()

    assert set(names) == {*jobs.metadata.tables, "llmgateway_version"}, (
        "another program's Alembic may share the database"
    )
