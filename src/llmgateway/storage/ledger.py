"""Rows of the ledger: written in batches, each id once; found by id; deleted when they are old."""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import structs
from sqlalchemy import Connection, String, delete, select

from llmgateway.storage.database import Database
from llmgateway.storage.entry import AttemptEntry, LedgerEntry
from llmgateway.storage.migrations.tables import COLUMNS, LONGEST, ledger

Row = tuple[Any, ...]
# Told of an entry that the database refuses for what is in it: its id, and the kind of error.
Refused = Callable[[str, str], object]

_ATTEMPTS = COLUMNS.index("attempts")
_TEXTS = [at for at, column in enumerate(ledger.c) if isinstance(column.type, String)]
_texts_of = itemgetter(*_TEXTS)
_id_of = itemgetter(0)
_MOST_ROWS = 500  # of one statement: the write lock of SQLite is held for some milliseconds only
_ROWS_TOGETHER = 100
_LARGEST = 2**63 - 1
_LARGEST_STATUS = 2**15 - 1
_STATUS = COLUMNS.index("status")
_JSON = msgspec.json.Encoder()


async def insert(database: Database, entries: Sequence[LedgerEntry], refused: Refused) -> None:
    """Write entries down; those whose id is there already are left alone.

    The rows go in the order of their ids: two writers that meet in the same ones wait for each other, but never
    in a circle.
    """
    for start in range(0, len(entries), _MOST_ROWS):
        await _insert(database, sorted(map(row_of, entries[start : start + _MOST_ROWS]), key=_id_of), refused)


async def _insert(database: Database, rows: list[Row], refused: Refused) -> None:
    """Write one batch. When the database refuses what is in it, write each row for itself, cleaned."""
    try:
        await _write(database, rows)
    except Exception as error:
        if not about_content(error):
            raise
    else:
        return
    for row in rows:
        try:
            await _write(database, [_clean(row)])
        except Exception as error:
            if not about_content(error):
                raise
            # Its text quotes the row, which may hold what is personal.
            refused(row[0], type(getattr(error, "orig", None) or error).__name__)


async def _write(database: Database, rows: list[Row]) -> None:
    if database.address.path is None:
        await database.write(lambda connection: connection.exec_driver_sql(_INSERT_POSTGRESQL, rows))
    else:
        await database.change(lambda connection: _insert_sqlite(connection, rows))


def _insert_sqlite(connection: Connection, rows: list[Row]) -> None:
    # Many rows in one statement: sqlite3 gives the interpreter away and takes it back for each.
    whole = len(rows) - len(rows) % _ROWS_TOGETHER
    for start in range(0, whole, _ROWS_TOGETHER):
        together = tuple(chain.from_iterable(rows[start : start + _ROWS_TOGETHER]))
        connection.exec_driver_sql(_INSERT_TOGETHER, together)
    if rest := rows[whole:]:
        connection.exec_driver_sql(_INSERT_SQLITE, rest)


def _statement(values: str) -> str:
    return f"INSERT INTO ledger ({', '.join(COLUMNS)}) VALUES {values} ON CONFLICT DO NOTHING"  # noqa: S608  constants


_MARKS = f"({', '.join('?' * len(COLUMNS))})"
_INSERT_SQLITE = _statement(_MARKS)
_INSERT_TOGETHER = _statement(", ".join([_MARKS] * _ROWS_TOGETHER))
_INSERT_POSTGRESQL = _statement(f"({', '.join(f'${number}' for number in range(1, len(COLUMNS) + 1))})")


def row_of(entry: LedgerEntry) -> Row:
    """Make the row, bounded whatever the entry holds."""
    row = list(structs.astuple(entry))
    # Together they are short in nearly all cases: one look instead of sixteen.
    if len("".join(filter(None, _texts_of(row)))) > LONGEST:
        row = [value[:LONGEST] if at in _TEXTS and value else value for at, value in enumerate(row)]
    row[_ATTEMPTS] = _JSON.encode(entry.attempts).decode() if entry.attempts else "[]"
    return tuple(row)


def _clean(row: Row) -> Row:
    """Make values that both databases can keep: text without NUL and lone surrogates, numbers of 64 bits."""
    cleaned = [_clean_value(value) for value in row]
    cleaned[_STATUS] = max(0, min(row[_STATUS], _LARGEST_STATUS))
    return tuple(cleaned)


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if type(value) is int:
        return max(-_LARGEST, min(value, _LARGEST))
    return value


def about_content(error: Exception) -> bool:
    """Tell whether the database refused what is in a row, as it would every time."""
    origin = getattr(error, "orig", None)
    if origin is None:
        # The driver could not even write it on the wire: a number too large, text that is no Unicode.
        return isinstance(error, OverflowError | ValueError | TypeError)
    # PostgreSQL: class 22 is data, 23 a constraint, 54 a limit of the program. SQLite has names instead.
    code = getattr(origin, "sqlstate", None)
    if code is not None:
        return str(code)[:2] in {"22", "23", "54"}
    return type(origin).__name__ in {"IntegrityError", "DataError", "InterfaceError", "ProgrammingError"} and (
        "connection" not in str(origin).lower()
    )


async def find(
    database: Database, request_id: str, organization_id: str | None, key_id: str | None = None
) -> LedgerEntry | None:
    """Look an entry up by our own id, else the newest with the client's."""
    for condition in (ledger.c.id == request_id, ledger.c.client_id == request_id):
        query = select(ledger).where(condition).order_by(ledger.c.at_us.desc()).limit(1)
        if organization_id is not None:
            query = query.where(ledger.c.organization_id == organization_id)
        if key_id is not None:
            query = query.where(ledger.c.key_id == key_id)
        for row in await database.rows(query):
            return entry_from(row)
    return None


def entry_from(row: Sequence[Any]) -> LedgerEntry:
    """Read a row back."""
    values = list(row)
    values[_ATTEMPTS] = msgspec.convert(values[_ATTEMPTS], list[AttemptEntry])
    return LedgerEntry(*values)


async def delete_before(database: Database, at_us: int, batch: int) -> int:
    """Delete the oldest entries from before a moment, `batch` at most; returns how many."""
    old = select(ledger.c.id).where(ledger.c.at_us < at_us).order_by(ledger.c.at_us).limit(batch)
    oldest = delete(ledger).where(ledger.c.id.in_(old.scalar_subquery()))
    result = await database.write(lambda connection: connection.execute(oldest))
    return result.rowcount
