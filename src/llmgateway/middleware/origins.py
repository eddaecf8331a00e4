"""Keeps pages of other origins out where no key does: their readers' network may be trusted here."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.keys.origins import check_origin

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Origins:
    """Lets foreign pages change nothing; what they may read is for CORS to say.

    A browser sends a form, or JSON that says it is text, to any address without asking first: such a request would
    order jobs, cancel them and delete them in the name of whoever looks at the page.

    Args:
        allowed: Origins that may, beside those of this host; `*` is all.
    """

    def __init__(self, app: ASGIApp, *, allowed: Collection[str] = ()) -> None:
        self._app = app
        self._allowed = frozenset(origin.lower() for origin in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _HARMLESS:
            check_origin(scope["headers"], self._allowed, "may change nothing here")
        await self._app(scope, receive, send)
