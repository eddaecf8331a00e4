"""Headers that keep browsers from doing more with an answer than show it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = (b"x-content-type-options", b"nosniff")
_PAGES = [_ALWAYS, (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer")]


class SecurityHeaders:
    """Adds them: to JSON what JSON can do with, to a page all; its Content-Security-Policy a page sets itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                is_page = dict(headers).get(b"content-type", b"").startswith(b"text/html")
                message["headers"] = [*headers, *_PAGES] if is_page else [*headers, _ALWAYS]
            await send(message)

        await self._app(scope, receive, send_with_headers)
