"""The questions about jobs: one statement each, the same for SQLite and PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select

from llmgateway.storage.admin.chain import at_us, moment_of
from llmgateway.storage.admin.rows import Page
from llmgateway.storage.database import Database
from llmgateway.storage.jobs.records import JOB_COLUMNS, PASS_COLUMNS, job_from, kept_text, pass_from
from llmgateway.storage.jobs.rows import ENDED, EventRow, Hook, JobRow, PassRow, Wanted
from llmgateway.storage.jobs.transactions import QUEUED
from llmgateway.storage.migrations.document_tables import (
    job_events,
    job_passes,
    job_results,
    job_texts,
    jobs,
)

_MOST_IDS = 500  # in one statement
_MOST_SPANS = 10_000
# Made once: to make it takes longer than to ask it. A job's passes in the order of their numbers, for its `job_id`.
PASSES = (
    select(*PASS_COLUMNS)
    .where(job_passes.c.job_id == bindparam("job_id"))
    .order_by(job_passes.c.number, job_passes.c.completed_at_us, job_passes.c.step)
)
_WHOLE = select(job_results.c.result, job_results.c.partial, *JOB_COLUMNS).join_from(jobs, job_results)


def named(column: ColumnElement[str], job_id: str) -> ColumnElement[bool]:
    """Look for an id, which comes from clients: what no database keeps is nobody's."""
    return column == kept_text(job_id)


def those(wanted: Wanted) -> list[ColumnElement[bool]]:
    """Say in the database's words which jobs."""
    conditions = [] if wanted.everyone else [named(jobs.c.organization_id, wanted.organization_id or "")]
    given = ((jobs.c.status, wanted.status), (jobs.c.service_id, wanted.service_id), (jobs.c.key_id, wanted.key_id))
    return [*conditions, *(named(column, value) for column, value in given if value is not None)]


def _whole(job_id: str, wanted: Wanted) -> Select[Any]:
    return _WHOLE.where(named(jobs.c.id, job_id), *those(wanted))


async def job(database: Database, job_id: str, wanted: Wanted) -> JobRow | None:
    """Find a job, with its result."""
    for result, partial, *values in await database.rows(_whole(job_id, wanted)):
        return job_from(values, result, partial)
    return None


def job_within(connection: Connection, job_id: str, wanted: Wanted) -> JobRow | None:
    """Find a job as it stands in the middle of a transaction."""
    for result, partial, *values in connection.execute(_whole(job_id, wanted)).all():
        return job_from(values, result, partial)
    return None


async def page_of(database: Database, wanted: Wanted, page: int, page_size: int) -> Page[JobRow]:
    """Read some jobs, newest first, without results."""
    conditions = those(wanted)
    query = (
        select(*JOB_COLUMNS)
        .where(*conditions)
        .order_by(jobs.c.created_at_us.desc(), jobs.c.id.desc())
        .limit(page_size)
        .offset((page - 1) * page_size)
    )
    rows = list(map(job_from, await database.rows(query)))
    [(total,)] = await database.rows(select(func.count()).select_from(jobs).where(*conditions))
    return Page(rows, int(total))


async def text(database: Database, job_id: str) -> str | None:
    """Read a job's document."""
    for (document,) in await database.rows(select(job_texts.c.document).where(named(job_texts.c.job_id, job_id))):
        return str(document)
    return None


async def work(database: Database, job_id: str) -> bytes | None:
    """Read what a job's run needs beside the document."""
    for (kept,) in await database.rows(select(job_texts.c.work).where(named(job_texts.c.job_id, job_id))):
        return str(kept).encode()
    return None


async def passes(database: Database, job_id: str) -> list[PassRow]:
    """Read a job's passes."""
    return list(map(pass_from, await database.rows(PASSES.params(job_id=kept_text(job_id)))))


async def events(database: Database, job_id: str, after: int, most: int) -> list[EventRow]:
    """Read a job's events after one, in order."""
    query = (
        select(job_events.c.id, job_events.c.body)
        .where(named(job_events.c.job_id, job_id), job_events.c.id > after)
        .order_by(job_events.c.id)
        .limit(most)
    )
    return [EventRow(number, body.encode()) for number, body in await database.rows(query)]


async def heads(database: Database, job_ids: Sequence[str]) -> dict[str, int]:
    """Give the id of each job's last event."""
    found: dict[str, int] = {}
    ids = list(map(kept_text, job_ids))
    for first in range(0, len(ids), _MOST_IDS):
        query = select(jobs.c.id, jobs.c.events).where(jobs.c.id.in_(ids[first : first + _MOST_IDS]))
        found |= {row.id: row.events for row in await database.rows(query)}
    return found


async def depth(database: Database) -> Mapping[int, int]:
    """Count the queued jobs by priority."""
    query = select(jobs.c.priority, func.count()).where(QUEUED).group_by(jobs.c.priority).order_by(jobs.c.priority)
    return {priority: int(count) for priority, count in await database.rows(query)}


async def spans(database: Database, since: datetime | None, wanted: Wanted, flavor_id: str | None) -> list[JobRow]:
    """Read ended jobs since a moment, newest first, without results."""
    conditions = [*those(wanted), jobs.c.completed_at_us.is_not(None), jobs.c.status.in_(sorted(ENDED))]
    if since is not None:
        conditions.append(jobs.c.completed_at_us >= at_us(since))
    if flavor_id is not None:
        conditions.append(jobs.c.flavor_id == flavor_id)
    query = (
        select(*JOB_COLUMNS)
        .where(*conditions)
        .order_by(jobs.c.completed_at_us.desc(), jobs.c.id.desc())
        .limit(_MOST_SPANS)
    )
    return list(map(job_from, await database.rows(query)))


async def due_hooks(database: Database, now: datetime, most: int) -> list[Hook]:
    """Read webhooks that are to be sent now, the longest due first."""
    columns = jobs.c.id, jobs.c.webhook_url, jobs.c.hook_tries, jobs.c.completed_at_us
    query = select(*columns).where(jobs.c.hook_at_us <= at_us(now)).order_by(jobs.c.hook_at_us).limit(most)
    return [
        Hook(job_id=job_id, url=url, tries=tries, since=moment_of(since_us))
        for job_id, url, tries, since_us in await database.rows(query)
    ]
