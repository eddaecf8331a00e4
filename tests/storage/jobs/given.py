"""Jobs to order and steps to commit, and what hears of their events."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text

from llmgateway.caller import Caller
from llmgateway.ids import new_uuid
from llmgateway.storage.database import Database
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import (
    Claimed,
    EventRow,
    JobRow,
    NewJob,
    Origin,
    PassRow,
    Status,
    Step,
    Totals,
    Wanted,
)
from llmgateway.storage.storage import Storage

ALL = Wanted(everyone=True)
NOW = datetime(2026, 11, 21, 8, 30, 0, 123457, tzinfo=UTC)
LEASE_S = 15.0


class Told:
    """Hears of events, and keeps them by job."""

    def __init__(self) -> None:
        self.events: dict[str, list[EventRow]] = {}

    def __call__(self, job_id: str, events: Sequence[EventRow]) -> None:
        asyncio.get_running_loop()  # raises in any other thread
        self.events.setdefault(job_id, []).extend(events)


def order(**fields: Any) -> NewJob:
    """Make an order of a job; those of `Origin` may be given by their names as well."""
    origin = {name: fields.pop(name) for name in Origin.__struct_fields__ if name in fields}
    caller = Caller(kind="client", key_id="key_1", organization=fields.get("organization_id"))
    given: dict[str, Any] = {
        "id": new_uuid(),
        "service_id": "service_1",
        "service_name": "Meeting minutes",
        "service_route": "meeting-minutes",
        "flavor_id": "flavor_1",
        "flavor_name": "iterative",
        "priority": 5,
        "text": "Ann: hello.\nBob: good morning.",
        "work": b'{"recipes": []}',
        "origin": Origin(**{"caller": caller, "scope": "key_1", **origin}),
        "created_at": datetime.now(UTC),
    }
    return NewJob(**{**given, **fields})


def done(step: str, number: int = 1, **fields: Any) -> PassRow:
    """Make a pass."""
    given: dict[str, Any] = {
        "step": step,
        "number": number,
        "type": "initial",
        "started_at": NOW,
        "completed_at": NOW + timedelta(seconds=2),
        "duration_ms": 2000.5,
        "output": f"output of {step}",
    }
    return PassRow(**{**given, **fields})


def progressed(**fields: Any) -> Step:
    """Make a step with one event of progress."""
    return Step(**{"events": ({"event_type": "progress"},), **fields})


def ending(status: Status = "completed", **fields: Any) -> Step:
    """Make the step that ends a job."""
    result = fields.get("result")
    event = {"event_type": "complete" if status == "completed" else "error", "result": result}
    return Step(**{"status": status, "events": (event,), **fields})


async def submitted(jobs: JobStorage, **fields: Any) -> JobRow:
    """Order a job that is new."""
    job, made = await jobs.submit(order(**fields))
    assert made
    return job


async def claimed(jobs: JobStorage, lease_s: float = LEASE_S) -> Claimed:
    """Claim a job that is there."""
    found = await jobs.claim("worker", lease_s)
    assert found is not None
    return found


async def completed(jobs: JobStorage, **fields: Any) -> JobRow:
    """Order a job, and bring it to its end."""
    job = await submitted(jobs, **fields)
    mine = await claimed(jobs)
    assert mine.job.id == job.id
    await jobs.commit(mine.lease, ending(result="the result", totals=Totals(passes=1)))
    return await found(jobs, job.id)


async def found(jobs: JobStorage, job_id: str) -> JobRow:
    """Read a job that is there."""
    job = await jobs.job(job_id, ALL)
    assert job is not None
    return job


async def bodies(jobs: JobStorage, job_id: str) -> list[dict[str, Any]]:
    """Read what the events of a job say."""
    return [msgspec.json.decode(event.body) for event in await jobs.events(job_id)]


async def run_sql(storage: Storage, *statements: str) -> list[Any]:
    """Do to the database what nobody should, or look at it; gives the rows of the last."""

    async def run(database: Database) -> list[Any]:
        rows: list[Any] = []
        async with database.engine.begin() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
                rows = list(result.all()) if result.returns_rows else []
        return rows

    return await storage.ask(run)


async def lapse(storage: Storage) -> None:
    """Let every lease run out."""
    await run_sql(storage, "UPDATE jobs SET lease_until_us = 1 WHERE lease_until_us IS NOT NULL")
