"""The spans of a finished request: one for the server, or a job's pass; one for the model call; one for each attempt.

Names and attributes are those of OpenTelemetry's semantic conventions 1.41 (HTTP and generative AI).
"""

import time
from functools import lru_cache
from urllib.parse import urlsplit

from llmgateway.errors import ClientGoneError
from llmgateway.exchange import Attempt, Exchange, Streamed, Trace
from llmgateway.telemetry.traces.asked import ending, parameters
from llmgateway.telemetry.traces.content import messages
from llmgateway.telemetry.traces.context import new_span_id
from llmgateway.telemetry.traces.names import OPERATIONS, provider_name
from llmgateway.telemetry.traces.span import CLIENT, INTERNAL, SERVER, Attributes, Span, SpanEvent
from llmgateway.wire.secrets import hide_keys

_FIRST_SERVER_ERROR = 500
_MAX_TEXT_CHARS = 256
_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
# Asked every few seconds by machines, or a page for people: nobody looks for their traces.
_UNTRACED = frozenset(("/", "/v1", "/v1/", "/metrics", "/docs", "/openapi.json", "/livez", "/readyz"))
_PROBES = ("/health", "/v1/health")
_PORTS = {"https": 443, "http": 80}
# An attempt that ended so has not failed.
_NOT_FAILED = (None, "ok", "cancelled", "superseded")


def spans_of(exchange: Exchange, *, capture: bool = False) -> list[Span]:
    """Make the spans of an exchange that is over, the outermost first; none for probes and pages.

    Args:
        capture: Prompt and answer become attributes.
    """
    trace = exchange.trace
    if trace is None or not _is_traced(exchange):
        return []
    # The clocks' distance is taken anew each time: the wall clock may be set.
    offset_ns = time.time_ns() - time.perf_counter_ns()
    ended = exchange.ended or time.perf_counter()
    frame = _Frame(exchange, trace, offset_ns, ended)
    server = frame.span(trace.span_id, trace.parent_id, *_server_name(exchange))
    if exchange.for_job:
        _fill_pass(server, exchange)
    else:
        server.remote_parent = bool(trace.parent_id)
        _fill_server(server, exchange)
    if exchange.operation is None or (exchange.call is None and not exchange.attempts):
        return [server]
    generate = frame.span(new_span_id(), server.id, "llm.generate", INTERNAL)
    _fill_generate(generate, exchange, capture=capture)
    generate.events = [
        SpanEvent(event.name, frame.at_ns(event.at), dict(event.attributes)) for event in exchange.events
    ]
    return [server, generate, *(frame.attempt(attempt, generate.id) for attempt in exchange.attempts)]


class _Frame:
    """What all spans of one request share."""

    __slots__ = ("_ended", "_exchange", "_offset_ns", "_trace")

    def __init__(self, exchange: Exchange, trace: Trace, offset_ns: int, ended: float) -> None:
        self._exchange = exchange
        self._trace = trace
        self._offset_ns = offset_ns
        self._ended = ended

    def at_ns(self, at: float) -> int:
        return int(at * 1e9) + self._offset_ns

    def span(self, span_id: int, parent_id: int, name: str, kind: int) -> Span:
        started_ns, ended_ns = self.at_ns(self._exchange.started), self.at_ns(self._ended)
        trace = self._trace
        return Span(trace.trace_id, span_id, parent_id, name, kind, started_ns, ended_ns, {}, [], trace.state)

    def attempt(self, attempt: Attempt, parent_id: int) -> Span:
        operation = OPERATIONS[self._exchange.operation or "chat"]
        model = _model_name(self._exchange, attempt.model)
        span = Span(
            self._trace.trace_id,
            attempt.span_id or new_span_id(),
            parent_id,
            f"{operation} {model}",
            CLIENT,
            self.at_ns(attempt.started),
            self.at_ns(self._ended if attempt.ended is None else attempt.ended),
            {"gen_ai.operation.name": operation, "gen_ai.request.model": model},
            [],
            self._trace.state,
        )
        _fill_attempt(span, attempt)
        return span


def _is_traced(exchange: Exchange) -> bool:
    path = exchange.path
    return exchange.operation is not None or not (path in _UNTRACED or path.startswith(_PROBES))


def _server_name(exchange: Exchange) -> tuple[str, int]:
    if exchange.for_job:
        return "job.pass", INTERNAL
    method = exchange.method if exchange.method in _METHODS else "HTTP"
    # Paths of other requests hold names and ids, of which there is no end.
    return (method if exchange.operation is None else f"{method} {exchange.path}"), SERVER


def _fill_server(span: Span, exchange: Exchange) -> None:
    attributes = span.attributes
    attributes["http.request.method"] = exchange.method if exchange.method in _METHODS else "_OTHER"
    attributes["llmgateway.request_id"] = exchange.id
    if exchange.operation is not None:
        attributes["url.path"] = attributes["http.route"] = exchange.path
    else:
        attributes["url.path"] = hide_keys(exchange.path[:_MAX_TEXT_CHARS])
    status = exchange.status
    if status is not None:
        attributes["http.response.status_code"] = status
    # What broke off after its status has an error and a status that says nothing of it.
    broken = exchange.error_code is not None and status == 200  # noqa: PLR2004  OK
    if broken or status is None or status >= _FIRST_SERVER_ERROR:
        span.failed = True
        attributes["error.type"] = exchange.error_code or str(status or "no_answer")


def _fill_pass(span: Span, exchange: Exchange) -> None:
    span.attributes["llmgateway.request_id"] = exchange.id
    span.attributes["llmgateway.job_id"] = exchange.client_id or ""
    if exchange.error_code is not None:
        span.attributes["error.type"] = exchange.error_code
        # A call that was dropped with its job has not failed.
        span.failed = exchange.error_code != ClientGoneError.code


def _fill_generate(span: Span, exchange: Exchange, *, capture: bool) -> None:
    attributes = span.attributes
    attributes["gen_ai.operation.name"] = OPERATIONS[exchange.operation or "chat"]
    if exchange.call is not None:
        attributes["gen_ai.request.model"] = _model_name(exchange, exchange.call.model)
        attributes |= parameters(exchange.call)
    if exchange.attempts:
        account = exchange.attempts[-1].deployment.account
        attributes["gen_ai.provider.name"] = provider_name(account.provider)
        attributes |= _server_of(account.api_base)
    _add_answer(attributes, exchange)
    _add_usage(attributes, exchange)
    attributes["llmgateway.cache_status"] = exchange.cache_status
    own_s = span.ended_ns / 1e9 - span.started_ns / 1e9 - exchange.upstream_s
    attributes["llmgateway.overhead_ms"] = round(max(0.0, own_s) * 1e3, 3)
    if exchange.route_reason is not None:
        attributes["llmgateway.route_reason"] = exchange.route_reason
    if exchange.error_code is not None:
        attributes["error.type"] = exchange.error_code
        span.failed = exchange.error_code != ClientGoneError.code
    if capture:
        attributes |= messages(exchange)


def _model_name(exchange: Exchange, name: str) -> str:
    # A name that nobody knows may be anything that a client pasted.
    return name if name == exchange.model_label else hide_keys(name[:_MAX_TEXT_CHARS])


def _add_answer(attributes: Attributes, exchange: Exchange) -> None:
    if (reply := exchange.reply) is None:
        return
    if model := reply.model or exchange.upstream_model:
        attributes["gen_ai.response.model"] = _model_name(exchange, model)
    if exchange.operation != "embedding":
        attributes |= ending(reply)
    if isinstance(reply, Streamed) and exchange.attempts and (first := exchange.attempts[-1].first_chunk):
        attributes["gen_ai.response.time_to_first_chunk"] = round(first - exchange.started, 6)


def _add_usage(attributes: Attributes, exchange: Exchange) -> None:
    if (usage := exchange.usage) is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.completion_tokens
        if usage.cached_tokens:
            attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        if written := usage.cache_write_tokens + usage.cache_write_1h_tokens:
            attributes["gen_ai.usage.cache_creation.input_tokens"] = written
        if usage.estimated:
            attributes["llmgateway.usage_estimated"] = True
    if exchange.cost_usd is not None:
        attributes["llmgateway.cost_usd"] = exchange.cost_usd


def _fill_attempt(span: Span, attempt: Attempt) -> None:
    attributes, account = span.attributes, attempt.deployment.account
    attributes["gen_ai.provider.name"] = provider_name(account.provider)
    attributes["llmgateway.account"] = account.name
    attributes |= _server_of(account.api_base)
    if attempt.upstream_status is not None:
        attributes["http.response.status_code"] = attempt.upstream_status
    if attempt.first_chunk is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = round(attempt.first_chunk - attempt.started, 6)
    if attempt.outcome not in {None, "ok", "superseded"}:
        attributes["error.type"] = attempt.outcome
    span.failed = attempt.outcome not in _NOT_FAILED


@lru_cache(maxsize=1024)
def _server_of(api_base: str | None) -> Attributes:
    """Give `server.address` and `server.port` of an account's address; nothing where LiteLLM knows it."""
    address = urlsplit(api_base or "")
    if not address.hostname:
        return {}
    return {"server.address": address.hostname, "server.port": address.port or _PORTS.get(address.scheme, 443)}
