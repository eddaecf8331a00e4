"""Jobs, their passes, plans and versions as clients see them: every field always there, times in RFC 3339, in UTC."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import Response

from llmgateway.storage.jobs.rows import ENDED, JobRow, PassRow, Progress, Records, Totals, VersionRow
from llmgateway.telemetry.traces.jobs import trace_id_of

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_NO_STORE = {"cache-control": "no-store"}


def json_answer(shown: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON that nobody keeps."""
    more = {**_NO_STORE, **(headers or {})}
    return Response(_ENCODER.encode(shown), status, headers=more, media_type="application/json")


def listed(items: Iterable[Mapping[str, Any]], total: int, number: int, size: int) -> Response:
    """Answer with one page of a list."""
    pages = -(-total // size)
    return json_answer({"items": list(items), "total": total, "page": number, "page_size": size, "total_pages": pages})


def removed(subject: str) -> Response:
    """Answer that something is gone."""
    return json_answer({"id": subject, "deleted": True})


def moment(at: datetime | None) -> str | None:
    """Write a moment in UTC, to the millisecond; `None` stays."""
    if at is None:
        return None
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def usd(nusd: int | None) -> float | None:
    """Give US dollars for billionths of one."""
    return None if nusd is None else nusd / 1e9


def job_shown(job: JobRow, passes: Sequence[PassRow] | None = None) -> dict[str, Any]:
    """Show a job.

    Args:
        passes: Shown with it when given; lists leave them out.
    """
    shown = {
        "id": job.id,
        "status": job.status,
        "service_id": job.service_id,
        "service_name": job.service_name,
        "service_route": job.service_route,
        "flavor_id": job.flavor_id,
        "flavor_name": job.flavor_name,
        "organization_id": job.organization_id,
        "priority": job.priority,
        "input_file_name": job.input_file_name,
        "preview": job.preview,
        "input_chars": job.input_chars,
        "input_tokens": job.input_tokens,
        "progress": progress_shown(job.progress),
        "result": job.result,
        "partial_result": None if job.status in ENDED else job.partial or None,
        "error": None if job.fault is None else {"code": job.fault.code, "message": job.fault.message},
        "warnings": job.warnings,
        **records_shown(job.records),
        "metrics": totals_shown(job.totals),
        "current_version": job.current_version,
        "metadata": job.metadata,
        **_times(job),
        **_origin(job),
    }
    return shown if passes is None else {**shown, "passes": [pass_shown(one) for one in passes]}


def job_json(job: JobRow) -> bytes:
    """Write a job down as `GET /api/v1/jobs/{id}` shows it, without its passes: for webhooks."""
    return _ENCODER.encode(job_shown(job))


def _times(job: JobRow) -> dict[str, Any]:
    return {
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "completed_at": moment(job.completed_at),
        "expires_at": moment(job.expires_at),
    }


def _origin(job: JobRow) -> dict[str, Any]:
    origin = job.origin
    return {
        # The client's own part: the path before it is ours.
        "idempotency_key": None if origin.idempotency_key is None else origin.idempotency_key.partition(" ")[2],
        "request_id": origin.request_id,
        # Its trace is its own, linked to that of the request (telemetry/traces/jobs).
        "trace_id": trace_id_of(job.id),
        "key_id": origin.caller.key_id,
        "from_job_id": origin.from_job,
        "webhook_url": job.webhook_url,
    }


def progress_shown(progress: Progress) -> dict[str, Any]:
    """Show how far a job is, as its events do."""
    return _fields(progress)


def records_shown(records: Records) -> dict[str, Any]:
    """Show how a job came to its flavor."""
    chain = [{"flavor": step.flavor, "reason": step.reason} for step in records.failover_chain]
    return {**_fields(records), "failover_chain": chain}


def totals_shown(totals: Totals) -> dict[str, Any]:
    """Show the figures of all passes together."""
    return {
        "passes": totals.passes,
        "total_tokens": totals.prompt_tokens + totals.completion_tokens,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "cached_tokens": totals.cached_tokens,
        "reasoning_tokens": totals.reasoning_tokens,
        "duration_ms": totals.duration_ms,
        "cost": usd(totals.cost_nusd),
    }


def pass_shown(done: PassRow) -> dict[str, Any]:
    """Show the figures of one call of a model, without what it said."""
    return {
        "pass_number": done.number,
        "pass_type": done.type,
        "started_at": moment(done.started_at),
        "completed_at": moment(done.completed_at),
        "duration_ms": done.duration_ms,
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "cached_tokens": done.cached_tokens,
        "reasoning_tokens": done.reasoning_tokens,
        "cost": usd(done.cost_nusd),
        "model": done.model,
        "provider": done.provider,
        "attempts": done.attempts,
        "flavor_name": done.flavor_name,
        "finish_reason": done.finish_reason,
        "request_id": done.request_id,
    }


def version_shown(row: VersionRow, *, is_current: bool, whole: bool = True) -> dict[str, Any]:
    """Show a version of a result, or that it is there."""
    shown = {
        "number": row.number,
        "is_current": is_current,
        "created_by": row.created_by,
        "created_at": moment(row.created_at),
        "chars": len(row.content),
    }
    return {**shown, "content": row.content} if whole else shown


def _fields(value: Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(value)
