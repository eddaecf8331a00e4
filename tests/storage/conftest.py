from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg  # type: ignore[import-untyped]
import pytest
from structlog.typing import FilteringBoundLogger

from llmgateway.ids import new_id
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.databases import postgres


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database of its own for the test, on each of the two."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/own/ledger.db"
        return
    server = request.getfixturevalue("postgres_url")
    name = new_id("db")
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield server.rpartition("/")[0] + f"/{name}"
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@asynccontextmanager
async def opened(url: str | None, folder: Path, logger: FilteringBoundLogger) -> AsyncIterator[Storage]:
    storage = Storage(url, folder, logger=logger)
    try:
        with anyio.fail_after(20):
            await storage.open()
        yield storage
    finally:
        await storage.close()


@pytest.fixture
async def storage(url: str, tmp_path: Path, lines: Lines) -> AsyncIterator[Storage]:
    async with opened(url, tmp_path, lines.logger) as storage:
        yield storage
