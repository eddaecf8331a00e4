"""One log line for every finished request: what happened, never what was said, and never a key."""

import logging
import time

from structlog.typing import FilteringBoundLogger

from llmgateway.exchange import Event, Exchange, Streamed, Usage
from llmgateway.telemetry.logs import line_begun, line_writer

_SERVER_ERROR = 500
_LONGEST_CHARS = 256
# All that clients, providers and administrators name; the rest are numbers and words of ours.
_TEXTS = (
    *("method", "path", "client_request_id", "organization", "key_id", "error_code"),
    *("model", "provider", "upstream_model", "response_model", "rule"),
)


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
            fields = line_begun("debug", "llm_request_start")
            _add_request(fields, exchange)
            fields["operation"] = exchange.operation
            fields["model"] = (exchange.requested_model or "")[:_LONGEST_CHARS]
            fields["stream"] = exchange.stream
            self._write(fields)

    def record(self, exchange: Exchange) -> None:
        """Write the line of a request that has ended."""
        failed = exchange.error_code is not None or (exchange.status or _SERVER_ERROR) >= _SERVER_ERROR
        if not (self._warns if failed else self._completes if exchange.operation is not None else self._pages):
            return
        ended = time.perf_counter() if exchange.ended is None else exchange.ended
        duration_ms = (ended - exchange.started) * 1e3
        is_call = exchange.operation is not None
        if failed:
            fields = line_begun("warning", "llm_request_error" if is_call else "http_request")
        else:
            fields = line_begun("info", "llm_request_complete") if is_call else line_begun("debug", "http_request")
        _add_request(fields, exchange)
        if exchange.status is not None:
            fields["status"] = exchange.status
        fields["duration_ms"] = _hundredths(duration_ms)
        if exchange.error_code is not None:
            fields["error_code"] = exchange.error_code
        if is_call:
            _add_call(fields, exchange, duration_ms)
        self._write(fields)


def _add_request(fields: dict[str, object], exchange: Exchange) -> None:
    fields["request_id"] = exchange.id
    fields["method"] = exchange.method
    fields["path"] = exchange.path[:_LONGEST_CHARS]
    if exchange.client_id is not None:
        fields["client_request_id"] = exchange.client_id
    if exchange.organization is not None:
        fields["organization"] = exchange.organization
    if exchange.caller.key_id is not None:
        fields["key_id"] = exchange.caller.key_id
    if exchange.trace is not None:
        fields["trace_id"] = f"{exchange.trace.trace_id:032x}"
        fields["span_id"] = f"{exchange.trace.span_id:016x}"


def _hundredths(value: float) -> float:
    """Round to two places, which nothing negative needs; `round` takes three times as long."""
    return int(value * 100.0 + 0.5) / 100.0


def _add_call(fields: dict[str, object], exchange: Exchange, duration_ms: float) -> None:
    fields["operation"] = exchange.operation
    if exchange.requested_model is not None:
        fields["model"] = exchange.requested_model[:_LONGEST_CHARS]
    if exchange.provider is not None:  # routing writes both
        fields["provider"], fields["upstream_model"] = exchange.provider, exchange.upstream_model
    reply = exchange.reply
    if reply is not None and reply.model is not None:
        fields["response_model"] = reply.model[:_LONGEST_CHARS]
    fields["stream"] = exchange.stream
    fields["attempts"] = len(exchange.attempts)
    if exchange.events:
        _add_events(fields, exchange.events)
    fields["overhead_ms"] = _hundredths(max(0.0, duration_ms - exchange.upstream_s * 1e3))
    if isinstance(reply, Streamed):
        _add_first_chunk(fields, exchange)
    if exchange.usage is not None:
        _add_usage(fields, exchange.usage)
    if exchange.cost_usd is not None:
        fields["cost_usd"] = round(exchange.cost_usd, 9)
    fields["cache"] = exchange.cache_status


def _add_events(fields: dict[str, object], events: list[Event]) -> None:
    if retries := sum(event.name == "retry" for event in events):
        fields["retries"] = retries
    for event in events:
        if event.name == "limit":
            fields["rule"] = event.attributes.get("rule")


def _add_first_chunk(fields: dict[str, object], exchange: Exchange) -> None:
    if exchange.attempts and (first := exchange.attempts[-1].first_chunk) is not None:
        fields["ttft_ms"] = round((first - exchange.started) * 1e3, 2)


def _add_usage(fields: dict[str, object], usage: Usage) -> None:
    fields["prompt_tokens"], fields["completion_tokens"] = usage.prompt_tokens, usage.completion_tokens
    if usage.cached_tokens:
        fields["cached_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        fields["reasoning_tokens"] = usage.reasoning_tokens
    if usage.estimated:
        fields["usage_estimated"] = True
