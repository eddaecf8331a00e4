"""The connection to the database, SQLite's file or PostgreSQL by URL, and turns that one process takes at a time."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from sqlalchemy import URL, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from llmgateway.storage.address import Address, file_turn, make_file

_CONNECT_LIMIT_S = 5.0
_STATEMENT_LIMIT_S = 30.0
_INTERRUPT_AGAIN_S = 0.01
_CONNECTIONS = 4
# Safe when the process is killed; after a loss of power the last commits may be missing, never half of one.
_PRAGMAS = (
    "PRAGMA busy_timeout=10000",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)


@dataclass(frozen=True, slots=True)
class Database:
    """An open engine and where it leads.

    Args:
        failures: What its calls raise when the database cannot be asked.
    """

    address: Address
    engine: AsyncEngine
    failures: tuple[type[Exception], ...]

    async def rows(self, statement: Any) -> list[Any]:
        """Ask one question."""
        async with self.engine.connect() as connection:
            if self.address.path is None:
                return list((await connection.execute(statement)).all())
            return await _rows_or_interrupt(connection, statement)

    async def ping(self) -> None:
        """Ask for nothing."""
        await self.rows(text("SELECT 1"))


async def _rows_or_interrupt(connection: AsyncConnection, statement: Any) -> list[Any]:
    """Ask SQLite. A question that is cancelled is stopped: it would go on in its thread, at full speed.

    SQLAlchemy does not see the cancellation: it would give up the connection in the middle of the question.
    """
    driver: Any = (await connection.get_raw_connection()).driver_connection
    found: list[Any] = []
    failure: SQLAlchemyError | None = None
    ended = asyncio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_interrupt, driver, ended)
        with anyio.CancelScope(shield=True):
            try:
                found = list((await connection.execute(statement)).all())
            except SQLAlchemyError as error:
                failure = error
        ended.set()
    await checkpoint_if_cancelled()
    if failure is not None:
        raise failure
    return found


async def _interrupt(driver: Any, ended: asyncio.Event) -> None:
    try:
        await ended.wait()
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            # Again and again: the thread may not have begun with it.
            while not ended.is_set():
                await driver.interrupt()
                with anyio.move_on_after(_INTERRUPT_AGAIN_S):
                    await ended.wait()
        raise


def open_engine(address: Address, *, statement_limit_s: float = _STATEMENT_LIMIT_S) -> Database:
    """Make the engine; nothing is connected yet, but SQLite's file is made.

    Args:
        statement_limit_s: How long a server may take for one statement.

    Raises:
        StorageAwayError: SQLite's file cannot be written.
    """
    failures: tuple[type[Exception], ...] = (SQLAlchemyError, OSError)
    if address.path is not None:
        return Database(address, _sqlite(address.path), failures)
    import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415  only where it is asked for: 4 MB

    engine = create_async_engine(
        "postgresql+asyncpg://",
        # asyncpg reads the URL itself: it knows all that libpq does, such as sslmode and several hosts.
        async_creator=lambda *_, **__: asyncpg.connect(
            address.dsn,
            timeout=_CONNECT_LIMIT_S,
            command_timeout=statement_limit_s,
            server_settings={"application_name": "llmgateway"},
        ),
        pool_size=_CONNECTIONS,
        max_overflow=2,
        pool_timeout=_CONNECT_LIMIT_S,
        pool_pre_ping=True,
        pool_recycle=1800,
    )
    # Connecting raises asyncpg's own errors.
    own = asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
    return Database(address, engine, (*failures, *own))


def _sqlite(path: Path) -> AsyncEngine:
    make_file(path)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_STATEMENT_LIMIT_S,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    return engine


@asynccontextmanager
async def turn(database: Database, name: str) -> AsyncIterator[bool]:
    """Take a turn that one process has at a time; false when another has it.

    It is tried and never waited for: a session that waits for PostgreSQL's lock holds a snapshot,
    and an index made concurrently would wait for that session in turn.
    """
    if database.address.path is not None:
        with file_turn(database.address.path, name) as mine:
            yield mine
        return
    key = zlib.crc32(f"llmgateway {name}".encode())
    async with database.engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        mine = bool(await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}))
        try:
            yield mine
        finally:
            if mine:
                await _unlock(connection, key)


async def _unlock(connection: AsyncConnection, key: int) -> None:
    with anyio.move_on_after(_CONNECT_LIMIT_S, shield=True):
        if not connection.invalidated:  # a lost connection has lost its locks
            await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
