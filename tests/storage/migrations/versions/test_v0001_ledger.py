from pathlib import Path

import pytest
from sqlalchemy import inspect

from llmgateway.storage.address import locate
from llmgateway.storage.database import open_engine


@pytest.mark.usefixtures("storage")
async def test_ledger_has_an_index_for_each_way_it_is_asked(url: str, tmp_path: Path) -> None:
    database = open_engine(locate(url, tmp_path))
    try:
        async with database.engine.connect() as connection:
            found = await connection.run_sync(lambda plain: inspect(plain).get_indexes("ledger"))
            key = await connection.run_sync(lambda plain: inspect(plain).get_pk_constraint("ledger"))
    finally:
        await database.engine.dispose()

    assert key["constrained_columns"] == ["id"]
    assert sorted(index["column_names"] for index in found) == [
        ["at_us"],
        ["client_id", "at_us"],
        ["key_id", "at_us"],
        ["organization_id", "at_us"],
    ]
