import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg  # type: ignore[import-untyped]
import pytest
from structlog.typing import FilteringBoundLogger

from llmgateway.ids import new_id
from llmgateway.storage.address import locate
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.databases import postgres
from tests.tables import lay_out, make_tables


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """A database with all tables on the server, which each test copies: to migrate takes longer."""
    name = new_id("template")

    async def make() -> None:
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()
    make_tables(locate(_beside(postgres_url, name), Path()))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database of its own for the test, on each of the two, with its tables."""
    if request.param == "sqlite":
        lay_out(tmp_path / "own" / "ledger.db")
        yield f"sqlite:///{tmp_path}/own/ledger.db"
        return
    server, template = request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres_template")
    async with own_database(server, template) as url:
        yield url


@asynccontextmanager
async def own_database(server: str, template: str = "template1") -> AsyncIterator[str]:
    """Make a database on that server while a block runs; gives its address."""
    name = new_id("db")
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield _beside(server, name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


def _beside(server: str, name: str) -> str:
    return server.rpartition("/")[0] + f"/{name}"


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
