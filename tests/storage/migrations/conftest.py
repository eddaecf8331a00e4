from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.storage.conftest import own_database


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty database of its own for the test, on each of the two."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/own/ledger.db"
        return
    async with own_database(request.getfixturevalue("postgres_url")) as url:
        yield url
