"""Headers that keep browsers from doing more with an answer than show it."""

from collections.abc import Awaitable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.exchange import Header
from llmgateway.headers import write_lines
from llmgateway.outgoing import Outgoing

_ANY = ((b"x-content-type-options", b"nosniff"),)
_PAGES = (*_ANY, (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer"))
_WHOLE_LINES = write_lines(_ANY)


class SecurityHeaders:
    """Adds them: to answers of the API what fits, to a page all; its Content-Security-Policy a page sets itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    # No coroutine of its own: it would cost a request half a microsecond, and more with each time that one waits.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        outgoing = send if isinstance(send, Outgoing) else Outgoing(send)
        outgoing.fitting, outgoing.whole_lines = _fitting, _WHOLE_LINES
        return self._app(scope, receive, outgoing)


def _fitting(headers: Sequence[Header]) -> Sequence[Header]:
    for name, value in headers:
        if name == b"content-type":
            return _PAGES if value.startswith(b"text/html") else _ANY
    return _ANY
