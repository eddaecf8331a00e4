"""What a worker writes of its job: each step in one transaction under its lease, and nothing without it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from llmgateway.storage.database import Database
from llmgateway.storage.jobs.claiming import RUNNING
from llmgateway.storage.jobs.ending import ended_values, keep_result
from llmgateway.storage.jobs.events import STATE_COLUMNS, state_from, tell
from llmgateway.storage.jobs.records import kept_text, to_json, values_of_pass
from llmgateway.storage.jobs.rows import ENDED, EventRow, FencedError, Lease, Step
from llmgateway.storage.jobs.transactions import change, now_us
from llmgateway.storage.migrations.document_tables import job_passes, job_results, job_texts, job_versions, jobs

_MADE_BY = "job"  # the first version: nobody edited it


async def commit(database: Database, lease: Lease, step: Step, receipt: str, *, again: bool) -> Sequence[EventRow]:
    """Write a step down; gives its events.

    Args:
        receipt: Names this step, and none before it.
        again: Whether it may have been written the first time, when the answer was lost.
    """
    at_us = now_us()
    values = {**_values(step), "receipt": receipt, "events": jobs.c.events + len(step.events)}
    if step.status in ENDED:
        values |= ended_values(at_us)
    if step.status == "completed":
        values["current_version"] = 1
    mine = (jobs.c.id == lease.job_id, jobs.c.lease_fence == lease.fence)
    changed = update(jobs).where(*mine, jobs.c.status.in_(RUNNING)).values(values).returning(*STATE_COLUMNS)

    def work(connection: Connection) -> Sequence[EventRow]:
        if again and connection.execute(select(1).where(*mine, jobs.c.receipt == receipt)).first() is not None:
            return []
        row = connection.execute(changed).one_or_none()
        if row is None:
            raise FencedError(f"The lease of {lease.job_id} is no longer this worker's")
        _write(connection, lease.job_id, step, at_us)
        return tell(connection, lease.job_id, state_from(row), step.events)

    return await change(database, work)


def _values(step: Step) -> dict[str, Any]:
    values: dict[str, Any] = {} if step.status is None else {"status": step.status}
    for name in ("progress", "totals", "records", "warnings", "fault"):
        if (given := getattr(step, name)) is not None:
            values[name] = to_json(given)
    return values


def _write(connection: Connection, job_id: str, step: Step, at_us: int) -> None:
    if step.passes:
        connection.execute(insert(job_passes), [values_of_pass(job_id, done) for done in step.passes])
    if step.work is not None:
        connection.execute(update(job_texts).where(job_texts.c.job_id == job_id).values(work=step.work.decode()))
    results: dict[str, Any] = {}
    if step.output:
        results["partial"] = job_results.c.partial + kept_text(step.output)
    if step.result is not None:
        results["result"] = kept_text(step.result)
    if results:
        connection.execute(update(job_results).where(job_results.c.job_id == job_id).values(results))
    if step.status in ENDED:
        kept = keep_result(connection, job_id)
        if step.status == "completed":
            values = {
                "job_id": job_id,
                "number": 1,
                "content": kept or "",
                "created_by": _MADE_BY,
                "created_at_us": at_us,
            }
            connection.execute(insert(job_versions).values(values))
