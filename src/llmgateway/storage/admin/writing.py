"""What is written: each change with its rows in `changes` and in the audit log, in one transaction or not at all.

All writers take their turn at the one row of `heads`, and keep it until their commit.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Column, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from llmgateway.storage.admin.chain import at_us, cleaned, link
from llmgateway.storage.admin.outcomes import OvertakenError, TakenError
from llmgateway.storage.admin.records import KINDS, Kind, field_of, identity_of, row_from, values_of
from llmgateway.storage.admin.rows import ChangeKind, Deed
from llmgateway.storage.database import Database, to_its_end
from llmgateway.storage.migrations.tables import audit, changes, heads, keys

# Makes the change itself; false when there is nothing to change, and then nothing is written.
Work = Callable[[AsyncConnection], Awaitable[bool]]
_KEPT_CHANGES = 10_000
_PRUNE_EVERY = 100
# A writer whose process was stopped in the middle gives its turn back.
_NO_SLEEP = text("SET LOCAL idle_in_transaction_session_timeout = '10s'")
# Only `touch` writes them.
_NOT_REPLACED = {"last_used_at_us"}


async def add(database: Database, kind: ChangeKind, row: Struct, deed: Deed) -> None:
    """Write a new row."""
    its = KINDS[kind]
    values = values_of(its.table, row)

    async def work(connection: AsyncConnection) -> bool:
        for column in (its.identity, *its.unique):
            await _refuse_second(connection, its, column, values[column.name])
        await connection.execute(insert(its.table).values(values))
        return True

    await _commit(database, work, [deed], (kind, identity_of(its, row)))


async def replace(
    database: Database, kind: ChangeKind, row: Struct, deed: Deed, instead_of: Struct | None = None
) -> bool:
    """Write a row as it is now; false when it is not there."""
    its = KINDS[kind]
    identity = identity_of(its, row)
    values = {name: value for name, value in values_of(its.table, row).items() if name not in _NOT_REPLACED}

    async def work(connection: AsyncConnection) -> bool:
        if instead_of is not None:
            await _refuse_overtaken(connection, its, identity, instead_of)
        for column in its.unique:
            await _refuse_second(connection, its, column, values[column.name], but=identity)
        result = await connection.execute(update(its.table).where(its.identity == identity).values(values))
        return result.rowcount > 0

    return await _commit(database, work, [deed], (kind, identity))


async def remove(database: Database, kind: ChangeKind, identity: str, deed: Deed) -> bool:
    """Delete a row; false when it is not there."""
    its = KINDS[kind]

    async def work(connection: AsyncConnection) -> bool:
        return (await connection.execute(delete(its.table).where(its.identity == identity))).rowcount > 0

    return await _commit(database, work, [deed], (kind, identity))


async def note(database: Database, deeds: Sequence[Deed]) -> None:
    """Write deeds down that changed no row."""

    async def work(_: AsyncConnection) -> bool:
        return True

    if deeds:
        await _commit(database, work, deeds, None)


async def touch(database: Database, times: Mapping[str, datetime]) -> None:
    """Write down when keys were last used; in the order of their ids, so that nobody waits in a circle."""
    if not times:
        return
    await database.write(lambda connection: _touch(connection, times))


async def _touch(connection: AsyncConnection, times: Mapping[str, datetime]) -> None:
    for key_id in sorted(times):
        used_us = at_us(times[key_id])
        before = keys.c.last_used_at_us
        await connection.execute(
            update(keys)
            .where(keys.c.id == key_id, before.is_(None) | (before < used_us))
            .values(last_used_at_us=used_us)
        )


async def _refuse_second(
    connection: AsyncConnection, kind: Kind, column: Column[Any], value: str, but: str | None = None
) -> None:
    # Nobody else writes meanwhile.
    query = select(kind.identity).where(column == value)
    if but is not None:
        query = query.where(kind.identity != but)
    if (await connection.execute(query)).first() is not None:
        raise TakenError(f"There is another with the {_said(column, value)}")


def _said(column: Column[Any], value: str) -> str:
    """Name what is taken, without the owner that stands before what is unique in it alone."""
    name = field_of(column)
    own = name.removeprefix("unique_")
    return f"{name} {value!r}" if own == name else f"{own} {value.partition('/')[2]!r}"


async def _refuse_overtaken(connection: AsyncConnection, kind: Kind, identity: str, expected: Struct) -> None:
    values = (await connection.execute(select(kind.table).where(kind.identity == identity))).first()
    if values is not None and _lasting(row_from(kind.table, kind.row, values)) != _lasting(expected):
        raise OvertakenError(f"{identity} was changed by somebody else meanwhile")


def _lasting(row: Struct) -> dict[str, Any]:
    fields = structs.asdict(row)
    fields.pop("last_used_at", None)
    return fields


async def _commit(database: Database, work: Work, deeds: Sequence[Deed], change: tuple[ChangeKind, str] | None) -> bool:
    ready = [cleaned(deed) for deed in deeds]
    # A write that began ends, whoever waited for it: nobody would know whether it did.
    return await to_its_end(_whole(database, work, ready, change))


async def _whole(database: Database, work: Work, deeds: Sequence[Deed], change: tuple[ChangeKind, str] | None) -> bool:
    async with database.engine.connect() as connection, connection.begin() as transaction:
        if database.address.path is None:
            await connection.execute(_NO_SLEEP)
        done = await _write(connection, work, deeds, change)
        if not done:
            await transaction.rollback()
    return done


async def _write(
    connection: AsyncConnection, work: Work, deeds: Sequence[Deed], change: tuple[ChangeKind, str] | None
) -> bool:
    # First of all, and a write: from here on everybody else waits, and what is read is what the last one left.
    await connection.execute(
        update(heads).values(
            change_seq=heads.c.change_seq + int(change is not None), audit_seq=heads.c.audit_seq + len(deeds)
        )
    )
    try:
        if not await work(connection):
            return False
    except IntegrityError as error:
        raise TakenError("There is another of that name or key") from error
    _, change_seq, audit_seq, digest = (await connection.execute(select(heads))).one()
    if change is not None:
        await connection.execute(insert(changes).values(seq=change_seq, kind=change[0], subject=change[1]))
        if change_seq % _PRUNE_EVERY == 0:
            await connection.execute(delete(changes).where(changes.c.seq <= change_seq - _KEPT_CHANGES))
    rows = []
    for number, deed in enumerate(deeds, audit_seq - len(deeds) + 1):
        row = link(number, datetime.now(UTC), deed, digest)
        rows.append(values_of(audit, row))
        digest = row.hash
    await connection.execute(insert(audit), rows)
    await connection.execute(update(heads).values(audit_hash=digest))
    return True
