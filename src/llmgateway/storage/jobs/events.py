"""The events of a job as they are kept and shown: whole, in the contract's shape."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, Connection, insert

from llmgateway.storage.jobs.records import to_json
from llmgateway.storage.jobs.rows import EventRow, Progress, Status, Totals
from llmgateway.storage.migrations.document_tables import job_events, jobs

_BILLION = 1_000_000_000
_PROGRESS = msgspec.json.Decoder(Progress)
_TOTALS = msgspec.json.Decoder(Totals)
# What an event has in any case, in this order; null where the commit says nothing of it.
_SHAPE = (
    "id",
    "event_type",
    "job_id",
    "status",
    "progress",
    "retry_info",
    "current_pass_metrics",
    "cumulative_metrics",
    "result",
    "error",
    "timestamp",
)


class State(NamedTuple):
    """How a job stands after a commit; `last` is the id of its last event."""

    last: int
    status: Status
    progress: Progress
    totals: Totals


STATE_COLUMNS: Sequence[Column[Any]] = (jobs.c.events, jobs.c.status, jobs.c.progress, jobs.c.totals)


def state_from(values: Sequence[Any]) -> State:
    """Read it from the values of `STATE_COLUMNS`, which a change of the job's row returned."""
    last, status, progress, totals = values
    return State(last, status, _PROGRESS.decode(progress), _TOTALS.decode(totals))


def tell(connection: Connection, job_id: str, state: State, events: Sequence[Mapping[str, Any]]) -> list[EventRow]:
    """Write the events of a commit down, the last of them under the number that the job's row has by now."""
    first = state.last - len(events) + 1
    rows = [
        EventRow(number, _body(number, job_id, state, event).encode()) for number, event in enumerate(events, first)
    ]
    if rows:
        values = [{"job_id": job_id, "id": row.id, "body": row.body.decode()} for row in rows]
        connection.execute(insert(job_events), values)
    return rows


def _body(number: int, job_id: str, state: State, event: Mapping[str, Any]) -> str:
    own = {
        "id": number,
        "job_id": job_id,
        "status": state.status,
        "progress": state.progress,
        "cumulative_metrics": cumulative(state.totals),
        "timestamp": datetime.now(UTC),
    }
    return to_json({**dict.fromkeys(_SHAPE), **event, **own})


def cumulative(totals: Totals) -> dict[str, Any]:
    """Name what a job took so far as the events do; the cost is in dollars."""
    cost = totals.cost_nusd
    return {
        "total_tokens": totals.prompt_tokens + totals.completion_tokens,
        "total_prompt_tokens": totals.prompt_tokens,
        "total_completion_tokens": totals.completion_tokens,
        "total_duration_ms": totals.duration_ms,
        "total_cost": None if cost is None else cost / _BILLION,
    }
