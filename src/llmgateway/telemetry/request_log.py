"""One log line for every finished request: what happened, never what was said, and never a key."""

import logging
import time

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from llmgateway.exchange import Event, Exchange, Streamed, Usage, upstream_s
from llmgateway.telemetry.logs import line_writer, timestamp

_SERVER_ERROR = 500
_LONGEST_CHARS = 256
# All that clients, providers and administrators name; the rest are numbers and words of ours.
_TEXTS = (
    *("method", "path", "client_request_id", "organization", "key_id", "error_code"),
    *("model", "provider", "upstream_model", "response_model", "rule"),
)


class _Line(Struct, omit_defaults=True, gc=False):
    """A line, in the order people read it. What is not known, or did not happen, is left out."""

    timestamp: str
    level: str
    event: str
    request_id: str
    method: str
    path: str
    client_request_id: str | None = None
    organization: str | None = None
    key_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    status: int | None = None
    duration_ms: float | None = None
    error_code: str | None = None
    operation: str | None = None
    model: str | None = None
    provider: str | None = None
    upstream_model: str | None = None
    response_model: str | None = None
    stream: bool | None = None
    attempts: int | None = None
    overhead_ms: float | None = None
    cache: str | None = None
    cost_usd: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage_estimated: bool = False
    ttft_ms: float | None = None
    retries: int = 0
    rule: str | None = None


class RequestLog:
    """Tells of requests: model calls at info, other pages at debug, and what failed as a warning.

    A field that is not known is left out.

    Args:
        starts: Whether `started` has anything to tell: only at debug.
    """

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._write = line_writer(logger, _TEXTS)
        self._pages = self.starts = logger.is_enabled_for(logging.DEBUG)
        self._completes = logger.is_enabled_for(logging.INFO)
        self._warns = logger.is_enabled_for(logging.WARNING)

    def started(self, exchange: Exchange) -> None:
        """Tell that a model call begins."""
        if self.starts:
            line = line_begun("debug", "llm_request_start", exchange)
            line.model = line.model or ""
            line.status = line.duration_ms = line.attempts = line.overhead_ms = line.cache = None  # nothing ended yet
            self._write(line)

    def record(self, exchange: Exchange) -> None:
        """Write the line of a request that has ended."""
        failed = exchange.error_code is not None or (exchange.status or _SERVER_ERROR) >= _SERVER_ERROR
        is_call = exchange.operation is not None
        if not (self._warns if failed else self._completes if is_call else self._pages):
            return
        if failed:
            line = line_begun("warning", "llm_request_error" if is_call else "http_request", exchange)
        elif is_call:
            line = line_begun("info", "llm_request_complete", exchange)
        else:
            line = line_begun("debug", "http_request", exchange)
        if not is_call:
            line.model = line.stream = line.attempts = line.overhead_ms = line.cache = None  # what only calls have
        self._write(line)


def line_begun(level: str, event: str, exchange: Exchange) -> _Line:
    """Begin a line with all that is known of a call; a page's has less."""
    now, started, attempts = time.perf_counter(), exchange.started, exchange.attempts
    duration_ms = ((now if exchange.ended is None else exchange.ended) - started) * 1e3
    own_ms = duration_ms - (upstream_s(attempts, now) + exchange.job_s) * 1e3
    trace, model, reply, cost_usd = exchange.trace, exchange.requested_model, exchange.reply, exchange.cost_usd
    # By position, in the order of the fields, because names cost a microsecond; a format and `round` cost one as well.
    line = _Line(
        timestamp(),
        level,
        event,
        exchange.id,
        exchange.method,
        exchange.path[:_LONGEST_CHARS],
        exchange.client_id,
        exchange.organization,
        exchange.caller.key_id,
        None if trace is None else trace.trace_id.to_bytes(16).hex(),
        None if trace is None else trace.span_id.to_bytes(8).hex(),
        exchange.status,
        (duration_ms * 100.0 + 0.5) // 1.0 / 100.0,
        exchange.error_code,
        exchange.operation,
        None if model is None else model[:_LONGEST_CHARS],
        exchange.provider,
        exchange.upstream_model,
        None if reply is None or reply.model is None else reply.model[:_LONGEST_CHARS],
        exchange.stream,
        len(attempts),
        (own_ms * 100.0 + 0.5) // 1.0 / 100.0 if own_ms > 0.0 else 0.0,
        exchange.cache_status,
        None if cost_usd is None else round(cost_usd * 1e9) / 1e9,
    )
    if exchange.usage is not None:
        _add_usage(line, exchange.usage)
    if type(reply) is Streamed and attempts and (first := attempts[-1].first_chunk) is not None:
        line.ttft_ms = round((first - started) * 1e3, 2)
    if exchange.events:
        _add_events(line, exchange.events)
    return line


def _add_usage(line: _Line, usage: Usage) -> None:
    line.prompt_tokens, line.completion_tokens = usage.prompt_tokens, usage.completion_tokens
    line.cached_tokens, line.reasoning_tokens = usage.cached_tokens, usage.reasoning_tokens
    line.usage_estimated = usage.estimated


def _add_events(line: _Line, events: list[Event]) -> None:
    for event in events:
        if event.name == "retry":
            line.retries += 1
        elif event.name == "limit" and (rule := event.attributes.get("rule")) is not None:
            line.rule = str(rule)
