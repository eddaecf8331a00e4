"""How a job ends without its worker, cancelled or given up because no worker outlives it; and who was told of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, case, func, literal, select, update

from llmgateway.storage.admin.chain import at_us
from llmgateway.storage.database import Database
from llmgateway.storage.jobs.claiming import RUNNING
from llmgateway.storage.jobs.events import STATE_COLUMNS, state_from, tell
from llmgateway.storage.jobs.reading import job_within, named, those
from llmgateway.storage.jobs.records import to_json
from llmgateway.storage.jobs.rows import LIVE, EventRow, JobFault, JobRow, Wanted
from llmgateway.storage.jobs.transactions import QUEUED, change, clock, now_us
from llmgateway.storage.migrations.document_tables import job_results, jobs

_MOST_ANNOUNCED = 1000
_MOST_LOST = 100
_SECOND_US = 1_000_000


def ended_values(moment_us: int) -> dict[str, Any]:
    """Give the values of the columns that every end changes: nobody works on the job, and nobody joins it."""
    moment = literal(moment_us, BigInteger)
    return {
        "completed_at_us": moment_us,
        "expires_at_us": moment + jobs.c.ttl_s * _SECOND_US,
        "hook_at_us": case((jobs.c.webhook_url.is_not(None), moment)),
        "lease_until_us": None,
        "worker": None,
        "joins": None,
    }


def keep_result(connection: Connection, job_id: str) -> str | None:
    """Make what there is of a result the result, where it has none of its own; gives it."""
    partial = func.nullif(job_results.c.partial, "")
    kept = (
        update(job_results)
        .where(job_results.c.job_id == job_id)
        .values(result=func.coalesce(job_results.c.result, partial))
        .returning(job_results.c.result)
    )
    result: str | None = connection.execute(kept).scalar_one_or_none()
    return result


async def cancel(database: Database, job_id: str, wanted: Wanted) -> tuple[JobRow | None, Sequence[EventRow]]:
    """End a live job as cancelled; gives the job as it is then, and the event that tells of it."""
    cancelled = (
        update(jobs)
        .where(named(jobs.c.id, job_id), jobs.c.status.in_(sorted(LIVE)), *those(wanted))
        .values({**ended_values(now_us()), "status": "cancelled", "events": jobs.c.events + 1})
        .returning(*STATE_COLUMNS)
    )

    def work(connection: Connection) -> tuple[JobRow | None, Sequence[EventRow]]:
        events: Sequence[EventRow] = []
        if (row := connection.execute(cancelled).one_or_none()) is not None:
            result = keep_result(connection, job_id)
            events = tell(connection, job_id, state_from(row), [{"event_type": "status_change", "result": result}])
        return job_within(connection, job_id, wanted), events

    return await change(database, work)


async def queued(database: Database) -> list[str]:
    """Give the ids of the jobs that wait, most urgent first."""
    query = select(jobs.c.id).where(QUEUED).order_by(jobs.c.priority, jobs.c.created_at_us).limit(_MOST_ANNOUNCED)
    return [job_id for (job_id,) in await database.rows(query)]


async def left_alone(database: Database) -> list[str]:
    """Give the ids of jobs whose lease has run out."""
    query = (
        select(jobs.c.id)
        .where(jobs.c.lease_until_us < clock(database))
        .order_by(jobs.c.lease_until_us)
        .limit(_MOST_LOST)
    )
    return [job_id for (job_id,) in await database.rows(query)]


async def take_back(database: Database, job_id: str, most_kills: int) -> tuple[bool, Sequence[EventRow]]:
    """Put a job back whose lease has run out, or give it up; tells whether it was given up.

    Nothing when another process has done so, or when the lease was renewed meanwhile.
    """
    over = jobs.c.id == job_id, jobs.c.lease_until_us < clock(database), jobs.c.status.in_(RUNNING)
    kills = jobs.c.kills + 1
    fault = JobFault(
        code="worker_lost", message=f"The job was given up: {most_kills} workers that had it came to a sudden end"
    )

    def work(connection: Connection) -> tuple[bool, Sequence[EventRow]]:
        back = {"status": "queued", "lease_until_us": None, "worker": None}
        lost = {**ended_values(now_us()), "status": "failed", "fault": to_json(fault)}
        for values, which in ((lost, kills >= most_kills), (back, kills < most_kills)):
            changed = (
                update(jobs)
                .where(*over, which)
                .values({**values, "kills": kills, "events": jobs.c.events + 1})
                .returning(*STATE_COLUMNS)
            )
            if (row := connection.execute(changed).one_or_none()) is not None:
                given_up = values is lost
                told = _lost(connection, job_id, fault) if given_up else {"event_type": "status_change"}
                return given_up, tell(connection, job_id, state_from(row), [told])
        return False, []

    return await change(database, work)


def _lost(connection: Connection, job_id: str, fault: JobFault) -> Mapping[str, Any]:
    return {"event_type": "error", "error": fault, "result": keep_result(connection, job_id)}


async def hook_tried(database: Database, job_id: str, next_at: datetime | None) -> None:
    """Write down when a webhook of the end is to be tried again; `None` is never."""
    values = {"hook_at_us": None if next_at is None else at_us(next_at), "hook_tries": jobs.c.hook_tries + 1}
    tried = update(jobs).where(jobs.c.id == job_id).values(values)

    def work(connection: Connection) -> None:
        connection.execute(tried)

    await change(database, work)
