"""Makes the exchange of a request and puts its ids on the answer."""

import re
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.exchange import Exchange

_VALID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestID:
    """`X-Gateway-Request-ID` is always ours; `X-Request-ID` is the client's own, when it is a valid one.

    The headers by their names stand in `scope["named_headers"]`, of several alike the last: whoever needs one need not
    look through all of them again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        exchange = scope["exchange"] = Exchange(method=scope["method"], path=scope["path"])
        ours = exchange.id.encode()
        headers = scope["named_headers"] = dict(scope["headers"])
        theirs = headers.get(b"x-request-id")
        if theirs is not None and _VALID.fullmatch(theirs):
            exchange.client_id = theirs.decode()
        ids = [(b"x-request-id", theirs if theirs and exchange.client_id else ours), (b"x-gateway-request-id", ours)]

        def send_with_ids(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *ids]
            return send(message)

        return self._app(scope, receive, send_with_ids)
