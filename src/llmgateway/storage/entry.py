"""One line of the usage ledger: an exchange as it is written down, in the journal first and then in the database."""

import time
from typing import Any

from msgspec import Struct

from llmgateway.exchange import Attempt, Exchange, Streamed, upstream_s

_MOST_ATTEMPTS = 32  # a row is bounded, whatever happened (docs/pitfalls.md, row 87)
_NANO = 1_000_000_000
_LONGEST = 256  # characters of anything that a client or a provider wrote


class AttemptEntry(Struct, omit_defaults=True, gc=False):
    """One attempt of an exchange. Times in milliseconds, `at_ms` since the exchange began."""

    provider: str
    model: str
    at_ms: float
    duration_ms: float
    outcome: str
    upstream_status: int | None = None
    ttft_ms: float | None = None


class LedgerEntry(Struct, omit_defaults=True, gc=False):
    """One exchange as it is kept; its fields are the table's columns.

    Args:
        id: The gateway's own `req_…`; unique, and the only thing that tells two entries apart.
        client_id: The client's own `X-Request-ID`; nothing is known of it but that it is short.
        at_us: When the request came, microseconds since 1970 in UTC.
        deployment: The account and the upstream model, `main/gpt-4o`.
        cost_nusd: Billionths of a US dollar, so that sums are exact; `None` as long as the usage or price is unknown.
        estimated: The tokens were counted here, because the upstream told none.
        ttft_ms: Time to the first chunk of a stream.
        overhead_ms: The gateway's own share.
    """

    id: str
    at_us: int
    operation: str
    requested_model: str
    status: int
    duration_ms: float
    overhead_ms: float
    client_id: str | None = None
    organization_id: str | None = None
    key_id: str | None = None
    user_label: str | None = None
    model: str = "other"
    upstream_model: str | None = None
    response_model: str | None = None
    provider: str | None = None
    deployment: str | None = None
    stream: bool = False
    error_code: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    estimated: bool = False
    cost_nusd: int | None = None
    ttft_ms: float | None = None
    upstream_ms: float = 0.0
    attempts: list[AttemptEntry] = []
    cache: str = "BYPASS"
    route_reason: str | None = None
    trace_id: str | None = None


def entry_of(exchange: Exchange) -> LedgerEntry:
    """Write a model call down. `exchange.ended` is set."""
    now, started, attempts = time.perf_counter(), exchange.started, exchange.attempts
    duration_us = ((now if exchange.ended is None else exchange.ended) - started) * 1e6
    upstream_us = (upstream_s(attempts, now) + exchange.job_s) * 1e6
    call, reply, usage, cost_usd = exchange.call, exchange.reply, exchange.usage, exchange.cost_usd
    provider, upstream_model = exchange.provider, exchange.upstream_model
    # By position, in the order of the fields, because names cost a microsecond, and so do more than thirty. Times are
    # cut to microseconds by `// 1.0`, at half the cost of `int`.
    entry = LedgerEntry(
        exchange.id,
        time.time_ns() // 1000 - int((now - started) * 1e6),
        exchange.operation or "",
        (exchange.requested_model or "")[:_LONGEST],
        exchange.status or 500,
        duration_us // 1.0 / 1e3,
        (duration_us - upstream_us) // 1.0 / 1e3 if duration_us > upstream_us else 0.0,
        exchange.client_id,
        exchange.organization,
        exchange.caller.key_id,
        call.user[:_LONGEST] if call is not None and call.user else None,
        exchange.model_label,
        upstream_model,
        reply.model[:_LONGEST] if reply is not None and reply.model else None,
        provider,
        f"{provider}/{upstream_model}" if provider is not None and upstream_model is not None else None,
        exchange.stream,
        exchange.error_code,
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
        None if usage is None else usage.cached_tokens,
        None if usage is None else usage.cache_write_tokens + usage.cache_write_1h_tokens,
        None if usage is None else usage.reasoning_tokens,
        None if usage is None else usage.audio_prompt_tokens + usage.audio_completion_tokens,
        None if usage is None else usage.image_prompt_tokens + usage.image_completion_tokens,
        usage is not None and usage.estimated,
        None if cost_usd is None else round(cost_usd * _NANO),
        _first_chunk_ms(exchange) if attempts and type(reply) is Streamed else None,
        upstream_us // 1.0 / 1e3 if attempts else 0.0,
        _attempts(attempts, started, now) if attempts else [],
    )
    entry.cache, entry.route_reason = exchange.cache_status, exchange.route_reason
    if exchange.trace is not None:
        entry.trace_id = exchange.trace.trace_id.to_bytes(16).hex()  # a format takes thrice as long
    return entry


def _attempts(attempts: list[Attempt], since: float, now: float) -> list[AttemptEntry]:
    """Write the last attempts down."""
    entries = []
    for attempt in attempts[-_MOST_ATTEMPTS:]:
        begun, ended, first, deployment = attempt.started, attempt.ended, attempt.first_chunk, attempt.deployment
        entries.append(
            AttemptEntry(
                deployment.account.name,
                deployment.model,
                (begun - since) * 1e6 // 1.0 / 1e3,
                ((now if ended is None else ended) - begun) * 1e6 // 1.0 / 1e3,
                attempt.outcome or "running",
                attempt.upstream_status,
                None if first is None else (first - begun) * 1e6 // 1.0 / 1e3,
            )
        )
    return entries


def _first_chunk_ms(exchange: Exchange) -> float | None:
    first = exchange.attempts[-1].first_chunk
    return None if first is None else (first - exchange.started) * 1e6 // 1.0 / 1e3


def columns(entry: LedgerEntry) -> dict[str, Any]:
    """Give the entry as one row of the table: `attempts` stays a list, for the column's own encoding."""
    return {name: getattr(entry, name) for name in entry.__struct_fields__}
