import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from llmgateway.ids import new_id
from llmgateway.storage.address import Address, locate
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.migrations.upgrade import upgrade
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.conftest import opened
from tests.storage.jobs.given import Told


def migrated(address: Address) -> None:
    with ThreadPoolExecutor(1) as thread:  # it runs an event loop, and there may be one here
        thread.submit(upgrade, address).result()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jobs") / "llmgateway.db"
    migrated(Address(path=path))
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """A database with all tables on the server, which each test of a job copies: to migrate takes longer."""
    name = new_id("template")

    async def make() -> None:
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()
    migrated(locate(postgres_url.rpartition("/")[0] + f"/{name}", Path()))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database of its own for the test, on each of the two, with its tables."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "own.db")
        yield f"sqlite:///{tmp_path}/own.db"
        return
    server, template = request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres_template")
    name = new_id("db")
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server.rpartition("/")[0] + f"/{name}"
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def storage(url: str, tmp_path: Path, lines: Lines) -> AsyncIterator[Storage]:
    async with opened(url, tmp_path, lines.logger) as storage:
        yield storage


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def jobs(storage: Storage, told: Told) -> JobStorage:
    return JobStorage(storage, told)
