"""A line of the ledger as clients see it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from llmgateway.storage.entry import LedgerEntry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def shown(entry: LedgerEntry) -> dict[str, Any]:
    """Tell what happened to one request. What is not known is null: a cost or a count is never 0 for it."""
    return {
        "id": entry.id,
        "client_request_id": entry.client_id,
        "created_at": instant(_EPOCH + timedelta(microseconds=entry.at_us)),
        "operation": entry.operation,
        "stream": entry.stream,
        "status": entry.status,
        "error_code": entry.error_code,
        "requested_model": entry.requested_model,
        "model": entry.model,
        "upstream_model": entry.upstream_model,
        "response_model": entry.response_model,
        "provider": entry.provider,
        "deployment": entry.deployment,
        "organization_id": entry.organization_id,
        "key_id": entry.key_id,
        "user": entry.user_label,
        "route": {"reason": entry.route_reason},
        "attempts": _attempts(entry),
        "usage": _usage(entry),
        "cost_usd": usd(entry.cost_nusd),
        "cache": {"status": entry.cache},
        "timings": {
            "duration_ms": entry.duration_ms,
            "time_to_first_token_ms": entry.ttft_ms,
            "upstream_ms": entry.upstream_ms,
            "overhead_ms": entry.overhead_ms,
        },
        "trace_id": entry.trace_id,
    }


def instant(at: datetime) -> str:
    """Write a moment in UTC as ISO 8601, to the millisecond."""
    return f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def usd(nusd: int | None) -> float | None:
    """Give US dollars for billionths of one."""
    return None if nusd is None else nusd / 1e9


def _attempts(entry: LedgerEntry) -> list[dict[str, Any]]:
    return [
        {
            "provider": attempt.provider,
            "model": attempt.model,
            "started_ms": attempt.at_ms,
            "duration_ms": attempt.duration_ms,
            "outcome": attempt.outcome,
            "upstream_status": attempt.upstream_status,
            "time_to_first_token_ms": attempt.ttft_ms,
        }
        for attempt in entry.attempts
    ]


def _usage(entry: LedgerEntry) -> dict[str, Any] | None:
    if entry.prompt_tokens is None and entry.completion_tokens is None:
        return None
    return {
        "prompt_tokens": entry.prompt_tokens or 0,
        "completion_tokens": entry.completion_tokens or 0,
        "total_tokens": (entry.prompt_tokens or 0) + (entry.completion_tokens or 0),
        "cached_tokens": entry.cached_tokens or 0,
        "cache_write_tokens": entry.cache_write_tokens or 0,
        "reasoning_tokens": entry.reasoning_tokens or 0,
        "audio_tokens": entry.audio_tokens or 0,
        "image_tokens": entry.image_tokens or 0,
        "estimated": entry.estimated,
    }
