"""How jobs leave: with their texts, results, passes, events and versions, which the tables see to."""

from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, select, update

from llmgateway.storage.database import Database
from llmgateway.storage.jobs.reading import named, those
from llmgateway.storage.jobs.rows import ENDED, Wanted
from llmgateway.storage.jobs.transactions import change, now_us
from llmgateway.storage.migrations.document_tables import jobs

_DAY_US = timedelta(hours=24) // timedelta(microseconds=1)
_TOGETHER = 20  # documents may be large, and SQLite has one writer at a time


async def delete_job(database: Database, job_id: str, wanted: Wanted) -> bool | None:
    """Delete an ended job; false: it has not ended, `None`: there is none."""
    its = named(jobs.c.id, job_id), *those(wanted)

    def work(connection: Connection) -> bool | None:
        gone = connection.execute(delete(jobs).where(*its, jobs.c.status.in_(sorted(ENDED))))
        if gone.rowcount:
            return True
        there = connection.execute(select(jobs.c.id).where(*its)).first()
        return None if there is None else False

    return await change(database, work)


async def delete_expired(database: Database, most: int) -> list[str]:
    """Delete ended jobs whose time is over, some at a time; gives their ids."""
    gone: list[str] = []
    while len(gone) < most:
        some = _which(jobs.c.expires_at_us <= now_us()).limit(min(_TOGETHER, most - len(gone)))
        deleted = await change(database, partial(_ids, delete(jobs).where(jobs.c.id.in_(some)).returning(jobs.c.id)))
        if not deleted:
            break
        gone += deleted
    return gone


async def forget_repeats(database: Database) -> None:
    """Free the idempotency keys that are a day old."""
    old = jobs.c.repeats.is_not(None), jobs.c.created_at_us < now_us() - _DAY_US
    if await database.rows(select(1).select_from(jobs).where(*old).limit(1)):
        freed = update(jobs).where(jobs.c.id.in_(_which(*old))).values(repeats=None).returning(jobs.c.id)
        await change(database, partial(_ids, freed))


def _which(*conditions: ColumnElement[bool]) -> Select[tuple[str]]:
    # Every process does this at times: what another one has at the moment is left to it, or they wait in a circle.
    return select(jobs.c.id).where(*conditions).with_for_update(skip_locked=True)


def _ids(statement: Any, connection: Connection) -> list[str]:
    return list(connection.execute(statement).scalars())
