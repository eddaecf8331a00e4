"""The connection to the database, SQLite's file or PostgreSQL by URL, and turns that one process takes at a time."""

import asyncio
import sqlite3
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from llmgateway.storage.address import Address, file_turn, make_file

_CONNECT_LIMIT_S = 5.0
_STATEMENT_LIMIT_S = 30.0
_HURRY_AGAIN_S = 0.01
_CONNECTIONS = 4
# Safe when the process is killed; after a loss of power the last commits may be missing, never half of one.
_PRAGMAS = (
    "PRAGMA busy_timeout=10000",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    # KiB for each connection, a quarter of what SQLite takes: the system keeps the file's pages as well.
    "PRAGMA cache_size=-512",
)

T = TypeVar("T")


@dataclass(slots=True)
class Writes:
    """Counts the transactions that changed something: a full disk can still be read."""

    done: int = 0


@dataclass(frozen=True, slots=True)
class Database:
    """An open engine and where it leads.

    Args:
        failures: What its calls raise when the database cannot be asked.
        plain: A second way to SQLite's file, which connects when it is used.
        turns: One at a time goes that way, in the order they came: SQLite has one writer.
    """

    address: Address
    engine: AsyncEngine
    failures: tuple[type[Exception], ...]
    plain: Engine | None = None
    turns: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    writes: Writes = field(default_factory=Writes)

    async def rows(self, statement: Any) -> list[Any]:
        """Ask one question."""
        if self.address.path is not None:
            return await _rows_or_interrupt(self.engine, statement)
        async with self.engine.connect() as connection:
            return list((await connection.execute(statement)).all())

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Change something in one transaction, which SQLite does to its end and a server breaks off when cancelled."""
        writing = self._written(work)
        return await (writing if self.address.path is None else to_its_end(writing))

    async def _written(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self.engine.begin() as connection:
            result = await work(connection)
        self.writes.done += 1
        return result

    async def change(self, work: Callable[[Connection], T]) -> T:
        """Change something in one transaction of many statements, whatever becomes of who waits for it.

        SQLite gets them from one thread: to hand over each by itself takes longer than what it does.
        """
        plain = self.plain
        if plain is None:
            return await to_its_end(self._written(lambda connection: connection.run_sync(work)))

        def whole() -> T:
            with plain.begin() as connection:
                result = work(connection)
            self.writes.done += 1
            return result

        return await to_its_end(to_thread.run_sync(whole, limiter=self.turns))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
        if self.plain is not None:
            await to_thread.run_sync(self.plain.dispose)

    async def ping(self) -> None:
        """Ask for nothing."""
        await self.rows(text("SELECT 1"))


async def _rows_or_interrupt(engine: AsyncEngine, statement: Any) -> list[Any]:
    """Ask SQLite. A question that is cancelled is stopped: it would go on in its thread, at full speed."""
    asked: list[Any] = []

    async def ask() -> list[Any]:
        async with engine.connect() as connection:
            asked.append((await connection.get_raw_connection()).driver_connection)
            return list((await connection.execute(statement)).all())

    async def interrupt() -> None:
        for driver in asked:
            await driver.interrupt()

    return await to_its_end(ask(), hurry=interrupt)


async def to_its_end(work: Coroutine[Any, Any, T], *, hurry: Callable[[], Awaitable[None]] | None = None) -> T:
    """Do what must not be broken off in the middle: who is cancelled meanwhile leaves once it has ended.

    A connection to SQLite that is given up in the middle of a statement may never be told that its thread has ended,
    and waits for it even when the process wants to exit. A cancel scope that shields does not help against a task's own
    `cancel()`, by which a request ends when its client leaves.

    Args:
        hurry: Told again and again, when cancelled, that nobody waits for the result any more.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task, hurry)
        raise


async def _ended(task: "asyncio.Future[Any]", hurry: Callable[[], Awaitable[None]] | None) -> None:
    with anyio.CancelScope(shield=True):
        while not task.done():
            if hurry is not None:
                await hurry()
            with suppress(asyncio.CancelledError):  # whoever cancels a second time waits for the same end
                # Not once: SQLite's thread may not have begun with what is to be interrupted.
                await asyncio.wait([task], timeout=None if hurry is None else _HURRY_AGAIN_S)
    if not task.cancelled():
        task.exception()  # looked at, or asyncio would report it


def open_engine(address: Address, *, statement_limit_s: float = _STATEMENT_LIMIT_S) -> Database:
    """Make the engine; nothing is connected yet, but SQLite's file is made.

    Args:
        statement_limit_s: How long a server may take for one statement.

    Raises:
        StorageAwayError: SQLite's file cannot be written.
    """
    failures: tuple[type[Exception], ...] = (SQLAlchemyError, OSError)
    if address.path is not None:
        engine, plain = _sqlite(address.path)
        return Database(address, engine, failures, plain)
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


def _sqlite(path: Path) -> tuple[AsyncEngine, Engine]:
    # For a value that is no plain number or text, sqlite3 first asks whether it adapts itself, which takes longer than
    # all else that it does for the value; unless it was told how. `None` stays what it is.
    sqlite3.register_adapter(type(None), {None: None}.__getitem__)
    sqlite3.register_adapter(bool, int)
    make_file(path)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_STATEMENT_LIMIT_S,
    )

    plain = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=_STATEMENT_LIMIT_S,
        connect_args={"check_same_thread": False},  # one thread at a time, not always the same
    )

    @event.listens_for(plain, "connect")
    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    return engine, plain


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
