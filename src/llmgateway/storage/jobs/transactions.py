"""How jobs are changed: each time one transaction, whole or not at all, that nobody else has to wait for long."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Connection, Table, literal, literal_column, text

from llmgateway.storage.admin.chain import at_us
from llmgateway.storage.database import Database
from llmgateway.storage.ledger import about_content

T = TypeVar("T")

# SQLite: what is read is what the last one left, and nobody comes between it and what is written.
_BEGIN_SQLITE = "BEGIN IMMEDIATE"
# A process that was stopped in the middle gives back what it holds.
_BEGIN_POSTGRESQL = "SET LOCAL idle_in_transaction_session_timeout = '10s'"
_SERVERS_CLOCK: ColumnElement[int] = literal_column(
    "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint", BigInteger
)


async def change(database: Database, work: Callable[[Connection], T]) -> T:
    """Change something in one transaction.

    Raises:
        ValueError: The database refuses what is in it, as it would every time.
    """
    begin = _BEGIN_POSTGRESQL if database.address.path is None else _BEGIN_SQLITE

    def whole(connection: Connection) -> T:
        connection.exec_driver_sql(begin)
        return work(connection)

    try:
        return await database.change(whole)
    except Exception as error:
        if isinstance(error, database.failures) and about_content(error):
            # Without its text, which quotes what clients and models wrote.
            kind = type(getattr(error, "orig", None) or error).__name__
            raise ValueError(f"The database refuses what is in it ({kind})") from None
        raise


def now_us() -> int:
    """Tell the machine's time, in microseconds since 1970."""
    return at_us(datetime.now(UTC))


def clock(database: Database) -> ColumnElement[int]:
    """Tell the time that leases go by, the same for all workers: a server's own, SQLite's machine's."""
    return _SERVERS_CLOCK if database.address.path is None else literal(now_us(), BigInteger)


def insert_new(database: Database, table: Table) -> Any:
    """Make a statement that inserts what is not there yet, and leaves alone what is."""
    if database.address.path is None:
        from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415  the other one is not asked

        return insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite  # noqa: PLC0415

    return insert_sqlite(table).on_conflict_do_nothing()


# Both databases look for it in an index of the queued alone only when the word stands there as it is.
QUEUED = text("jobs.status = 'queued'")
