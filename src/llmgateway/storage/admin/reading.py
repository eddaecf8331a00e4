"""The questions about what administrators wrote: one statement each, the same for SQLite and PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, FromClause, Select, and_, func, or_, select, true

from llmgateway.storage.admin.chain import Check, at_us
from llmgateway.storage.admin.outcomes import Verdict, following
from llmgateway.storage.admin.records import KINDS, audit_row, row_from
from llmgateway.storage.admin.rows import AuditRow, Change, ChangeKind, KeyRow, OrganizationRow, Page
from llmgateway.storage.database import Database
from llmgateway.storage.migrations.tables import audit, changes, heads, keys, ledger, organizations

_BATCH = 1_000
_MOST_HASHES = 500  # in one statement
_BILLION = 1_000_000_000
_KEY_COLUMNS = len(keys.c)


async def keys_by_hash(database: Database, digests: Sequence[str]) -> dict[str, tuple[KeyRow, OrganizationRow | None]]:
    """Find keys by their hashes or the ones before, and their organizations."""
    found: dict[str, tuple[KeyRow, OrganizationRow | None]] = {}
    for first in range(0, len(digests), _MOST_HASHES):
        asked = digests[first : first + _MOST_HASHES]
        query = (
            select(*keys.c, *(column.label(f"organization_{column.name}") for column in organizations.c))
            .select_from(keys.outerjoin(organizations, keys.c.organization_id == organizations.c.id))
            .where(or_(keys.c.hash.in_(asked), keys.c.previous_hash.in_(asked)))
        )
        for values in await database.rows(query):
            key: KeyRow = row_from(keys, KeyRow, values[:_KEY_COLUMNS])
            its = values[_KEY_COLUMNS:]
            organization = None if its[0] is None else row_from(organizations, OrganizationRow, its)
            found |= dict.fromkeys(set(asked).intersection({key.hash, key.previous_hash}), (key, organization))
    return found


async def find(database: Database, kind: ChangeKind, identity: str) -> Any:
    """Find a row by what names it."""
    table, row, column, _ = KINDS[kind]
    for values in await database.rows(select(table).where(column == identity)):
        return row_from(table, row, values)
    return None


async def page_of(
    database: Database, kind: ChangeKind, wanted: Mapping[str, str | None], page: int, page_size: int
) -> Page[Any]:
    """Read some rows, oldest first."""
    table, row, column, _ = KINDS[kind]
    condition = _equal(table, wanted)
    query = select(table).where(condition).order_by(table.c.created_at_us, column)
    rows = await database.rows(_cut(query, page, page_size))
    return Page([row_from(table, row, values) for values in rows], await _count(database, table, condition))


async def every(database: Database, kind: ChangeKind) -> list[Any]:
    """Read all rows, oldest first."""
    table, row, column, _ = KINDS[kind]
    rows = await database.rows(select(table).order_by(table.c.created_at_us, column))
    return [row_from(table, row, values) for values in rows]


async def changes_after(database: Database, seq: int | None) -> list[Change]:
    """Read the changes after one, or the newest alone."""
    if seq is None:
        return following(None, await database.rows(select(changes).order_by(changes.c.seq.desc()).limit(1)))
    return following(seq, await database.rows(select(changes).where(changes.c.seq >= seq).order_by(changes.c.seq)))


async def audit_page(
    database: Database,
    between: tuple[datetime | None, datetime | None],
    wanted: Mapping[str, str | None],
    page: int,
    page_size: int,
) -> Page[AuditRow]:
    """Read some of the audit log, newest first."""
    condition = _equal(audit, wanted)
    start, end = between
    if start is not None:
        condition = and_(condition, audit.c.at_us >= at_us(start))
    if end is not None:
        condition = and_(condition, audit.c.at_us < at_us(end))
    query = select(audit).where(condition).order_by(audit.c.seq.desc())
    rows = await database.rows(_cut(query, page, page_size))
    return Page([audit_row(values) for values in rows], await _count(database, audit, condition))


async def verify(database: Database, batch: int = _BATCH) -> Verdict:
    """Follow the audit log from its first row to its last; rows that are written meanwhile are followed as well."""
    [(end, digest)] = await database.rows(select(heads.c.audit_seq, heads.c.audit_hash))
    check = Check(end, digest)
    while rows := await database.rows(select(audit).where(audit.c.seq > check.seq).order_by(audit.c.seq).limit(batch)):
        verdict = check.follow(map(audit_row, rows))
        if verdict is not None:
            return verdict
    return check.end()


async def spent_nusd(database: Database, scope: Literal["key", "organization"], owner: str, start: datetime) -> int:
    """Sum what was spent since a moment; whole billions apart from the rest, so that no sum overflows."""
    column = ledger.c.key_id if scope == "key" else ledger.c.organization_id
    cost = ledger.c.cost_nusd
    query = select(func.sum(cost // _BILLION), func.sum(cost % _BILLION)).where(
        column == owner, ledger.c.at_us >= at_us(start)
    )
    [(billions, rest)] = await database.rows(query)
    return int(billions or 0) * _BILLION + int(rest or 0)


def _equal(table: FromClause, wanted: Mapping[str, str | None]) -> ColumnElement[bool]:
    return and_(true(), *(table.c[name] == value for name, value in wanted.items() if value is not None))


def _cut(query: Select[Any], page: int, page_size: int) -> Select[Any]:
    return query.limit(page_size).offset((page - 1) * page_size)


async def _count(database: Database, table: FromClause, condition: ColumnElement[bool]) -> int:
    [(count,)] = await database.rows(select(func.count()).select_from(table).where(condition))
    return int(count)
