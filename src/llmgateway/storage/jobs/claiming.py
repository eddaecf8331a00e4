"""Who works on a job: the most urgent one goes to one worker, for as long as its lease is renewed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, literal_column, select, text, tuple_, update

from llmgateway.storage.database import Database, to_its_end
from llmgateway.storage.jobs.events import STATE_COLUMNS, state_from, tell
from llmgateway.storage.jobs.reading import PASSES
from llmgateway.storage.jobs.records import JOB_COLUMNS, job_from, kept_text, pass_from
from llmgateway.storage.jobs.rows import Claimed, EventRow, Lease
from llmgateway.storage.jobs.transactions import QUEUED, change, clock
from llmgateway.storage.migrations.document_tables import job_results, job_texts, job_turns, jobs

RUNNING = ("started", "processing")

_TRIES = 10
# Strict by priority; then the organization with work whose last turn is longest ago; then its oldest. Each of the three
# is the first row of an index, however many jobs wait.
_MOST_URGENT: ColumnElement[str] = literal_column("""(
    SELECT oldest.id FROM jobs AS oldest
    WHERE oldest.status = 'queued'
      AND oldest.priority = (SELECT min(priority) FROM jobs AS urgent WHERE urgent.status = 'queued')
      AND oldest.organization_id = (
        SELECT job_turns.organization_id FROM job_turns
        WHERE EXISTS (
            SELECT 1 FROM jobs AS its
            WHERE its.status = 'queued'
              AND its.priority = (SELECT min(priority) FROM jobs AS urgent WHERE urgent.status = 'queued')
              AND its.organization_id = job_turns.organization_id
        )
        ORDER BY job_turns.at_us, job_turns.organization_id LIMIT 1
      )
    ORDER BY oldest.created_at_us, oldest.id LIMIT 1
)""")
_TEXTS = (
    select(job_texts.c.document, job_texts.c.work, job_results.c.result, job_results.c.partial)
    .join_from(job_texts, job_results, job_texts.c.job_id == job_results.c.job_id)
    .where(job_texts.c.job_id == bindparam("job_id"))
)
_ANY_QUEUED = select(1).select_from(jobs).where(QUEUED).limit(1)
# One claim after the other, or all workers would take the same job and all but one try again.
_CLAIMS_POSTGRESQL = text("SELECT pg_advisory_xact_lock(hashtext('llmgateway claims'))")
_MICROSECONDS = 1_000_000
_LONGEST = 256  # characters of a worker's name


Taken = tuple[Claimed, Sequence[EventRow]]


async def claim(database: Database, worker: str, lease_s: float, taken: list[Taken]) -> None:
    """Take the most urgent job, to the end, even when nobody waits for it any more.

    Args:
        taken: What was taken is put here with the event that tells of it, once it is certain.
    """

    async def whole() -> None:
        claimed = await change(database, lambda connection: _claim(connection, database, worker, lease_s))
        taken.extend([] if claimed is None else [claimed])

    await to_its_end(whole())


def _claim(connection: Connection, database: Database, worker: str, lease_s: float) -> Taken | None:
    for number in range(_TRIES):
        # None at all, or none any more: somebody has cancelled the only one at this very moment.
        if connection.execute(_ANY_QUEUED).first() is None:
            return None
        if number == 0 and database.address.path is None:
            connection.execute(_CLAIMS_POSTGRESQL)
        row = connection.execute(_take(database, worker, lease_s)).one_or_none()
        if row is not None:
            _end_turn(connection, row.organization_id, clock(database))
            *values, fence = row[: len(JOB_COLUMNS) + 1]
            state = state_from(row[len(JOB_COLUMNS) + 1 :])
            told = tell(connection, row.id, state, [{"event_type": "status_change"}])
            return _with_all(connection, Lease(row.id, fence), values), told
    return None


def _take(database: Database, worker: str, lease_s: float) -> Any:
    now = clock(database)
    return (
        update(jobs)
        .where(jobs.c.id == _MOST_URGENT, QUEUED)
        .values(
            status="started",
            lease_fence=jobs.c.lease_fence + 1,
            lease_until_us=now + int(lease_s * _MICROSECONDS),
            worker=kept_text(worker[:_LONGEST]),
            started_at_us=func.coalesce(jobs.c.started_at_us, now),
            events=jobs.c.events + 1,
        )
        .returning(*JOB_COLUMNS, jobs.c.lease_fence, *STATE_COLUMNS)
    )


def _end_turn(connection: Connection, organization: str, now: ColumnElement[int]) -> None:
    connection.execute(update(job_turns).where(job_turns.c.organization_id == organization).values(at_us=now))


def _with_all(connection: Connection, lease: Lease, values: Sequence[Any]) -> Claimed:
    """Read what the worker needs, as long as nothing is changed when that fails."""
    which = {"job_id": lease.job_id}
    document, work, result, partial = connection.execute(_TEXTS, which).one()
    return Claimed(
        lease=lease,
        job=job_from(values, result, partial),
        text=document,
        work=work.encode(),
        passes=tuple(map(pass_from, connection.execute(PASSES, which).all())),
    )


async def renew(database: Database, leases: Sequence[Lease], lease_s: float) -> set[str]:
    """Prolong leases in one statement; gives the ids of the jobs that were lost."""
    mine = tuple_(jobs.c.id, jobs.c.lease_fence).in_([(lease.job_id, lease.fence) for lease in leases])
    prolonged = (
        update(jobs)
        .where(mine, jobs.c.status.in_(RUNNING))
        .values(lease_until_us=clock(database) + int(lease_s * _MICROSECONDS))
        .returning(jobs.c.id)
    )

    def work(connection: Connection) -> set[str]:
        return set(connection.execute(prolonged).scalars())

    return {lease.job_id for lease in leases} - await change(database, work)


async def hand_back(database: Database, lease: Lease) -> Sequence[EventRow]:
    """Put a job back into the queue; nothing when somebody else has it by now."""
    returned = (
        update(jobs)
        .where(jobs.c.id == lease.job_id, jobs.c.lease_fence == lease.fence, jobs.c.status.in_(RUNNING))
        .values(status="queued", lease_until_us=None, worker=None, events=jobs.c.events + 1)
        .returning(*STATE_COLUMNS)
    )

    def work(connection: Connection) -> Sequence[EventRow]:
        row = connection.execute(returned).one_or_none()
        if row is None:
            return []
        return tell(connection, lease.job_id, state_from(row), [{"event_type": "status_change"}])

    return await change(database, work)
