"""Headers that keep browsers from doing more with an answer than show it."""

from collections.abc import Awaitable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.exchange import Header

_ALWAYS = (b"x-content-type-options", b"nosniff")
_PAGES = [_ALWAYS, (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer")]


class SecurityHeaders:
    """Adds them: to JSON what JSON can do with, to a page all; its Content-Security-Policy a page sets itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    # Neither is a coroutine of its own: each would cost a request half a microsecond, and more with each that waits.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                message["headers"] = [*headers, *_PAGES] if _is_page(headers) else [*headers, _ALWAYS]
            return send(message)

        return self._app(scope, receive, send_with_headers)


def _is_page(headers: Iterable[Header]) -> bool:
    return next((value for name, value in headers if name == b"content-type"), b"").startswith(b"text/html")
