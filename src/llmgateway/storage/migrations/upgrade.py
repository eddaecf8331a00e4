"""Brings the database to this program's revision. Alembic (12 MB, 0.3 s) is imported only for a step to take."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from llmgateway.storage.address import Address, reason
from llmgateway.storage.database import Database, open_engine, turn
from llmgateway.storage.migrations.apart import upgrade_apart
from llmgateway.storage.migrations.revisions import HEAD, VERSION_TABLE, known
from llmgateway.storage.queries import StorageAwayError

_LOOK_AGAIN_S = 0.05
_STEP_LIMIT_S = 3600.0  # an index on many millions of rows
# Alembic keeps the migration under way in module variables: a second one's steps would go to the first's database.
_one_at_a_time = threading.Lock()


async def revision_of(engine: AsyncEngine) -> str | None:
    """Read which step the database is at; `None` is before the first.

    Raises:
        DatabaseNewerError: At one that this program does not know.
    """
    async with engine.connect() as connection:
        revision: str | None = await connection.run_sync(_revision)
    return known(revision)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608  a constant
    return revision


async def connect(address: Address) -> Database:
    """Open a database on a server and bring it to `HEAD`.

    Raises:
        DatabaseNewerError: There is no way back.
        StorageAwayError: It cannot be asked now.
    """
    database = await to_thread.run_sync(open_engine, address)
    try:
        if await revision_of(database.engine) != HEAD:
            await upgrade_apart(address)
    except BaseException as error:
        await database.engine.dispose()
        if isinstance(error, database.failures) and not isinstance(error, StorageAwayError):
            raise StorageAwayError(reason(error)) from error
        raise
    return database


def upgrade(address: Address, *, wait_s: float = 10.0) -> tuple[str | None, str]:
    """Migrate to `HEAD` under a lock; blocks, so that the event loop of a server does not. Returns from and to.

    Args:
        wait_s: How long another process that migrates is waited for.

    Raises:
        DatabaseNewerError: There is no way back.
        StorageAwayError: The database cannot be asked, or another process has migrated for longer than `wait_s`.
    """
    return asyncio.run(_upgrade(address, wait_s))


async def _upgrade(address: Address, wait_s: float) -> tuple[str | None, str]:
    database = open_engine(address, statement_limit_s=_STEP_LIMIT_S)
    try:
        async with _own_turn(database, wait_s):
            before = await revision_of(database.engine)
            if before != HEAD:
                await _run(database)
    except database.failures as error:
        raise error if isinstance(error, StorageAwayError) else StorageAwayError(reason(error)) from error
    finally:
        await database.engine.dispose()
    return before, HEAD


@asynccontextmanager
async def _own_turn(database: Database, wait_s: float) -> AsyncIterator[None]:
    end = anyio.current_time() + wait_s
    while True:
        async with turn(database, "migrations") as mine:
            if mine:
                yield
                return
        if anyio.current_time() > end:
            raise StorageAwayError("Another process is changing the database's tables and has not finished yet")
        await anyio.sleep(_LOOK_AGAIN_S)


async def _run(database: Database) -> None:
    async with database.engine.connect() as connection:
        if database.address.path is None:
            # Whoever waits for a lock has everybody behind it wait as well.
            await connection.execute(text("SET lock_timeout = '5s'"))
            await connection.commit()
        await connection.run_sync(_run_steps)
        await connection.commit()


def _run_steps(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  12 MB

    with _one_at_a_time:
        command.upgrade(configuration(connection), "head")


def configuration(connection: Connection | None = None) -> Any:
    """Make Alembic's configuration, for the steps in this folder."""
    from alembic.config import Config  # noqa: PLC0415  12 MB

    config = Config()
    # Its parser would take a percent sign in the path for one of its own.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
