"""Says which trace a request belongs to, before anything else happens to it."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.exchange import Header, Trace
from llmgateway.telemetry.traces.context import TRACE_HEADERS


class Tracing:
    """Continues the client's trace, or begins one. The spans are made at the end, from the exchange.

    Args:
        begin: Reads a request's headers and decides whether its spans are kept; most have none that it looks for.
    """

    def __init__(self, app: ASGIApp, *, begin: Callable[[Sequence[Header]], Trace]) -> None:
        self._app = app
        self._begin = begin

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            named = scope.get("named_headers")
            has_none = named is not None and TRACE_HEADERS.isdisjoint(named)
            scope["exchange"].trace = self._begin(() if has_none else scope["headers"])
        return self._app(scope, receive, send)
