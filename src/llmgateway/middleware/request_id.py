"""Makes the exchange of a request and puts its ids on the answer."""

import re
from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.exchange import Exchange
from llmgateway.outgoing import Outgoing

_VALID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestID:
    """`X-Gateway-Request-ID` is always ours; `X-Request-ID` is the client's own, when it is a valid one.

    The headers by their names stand in `scope["named_headers"]`, of several alike the last: whoever needs one need not
    look through all of them again. Our own server has put them there already.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        exchange = scope["exchange"] = Exchange(method=scope["method"], path=scope["path"])
        ours = exchange.id.encode()
        headers = scope.get("named_headers")
        if headers is None:
            headers = scope["named_headers"] = dict(scope["headers"])
        shown = ours
        theirs = headers.get(b"x-request-id")
        if theirs is not None and _VALID.fullmatch(theirs):
            exchange.client_id = theirs.decode()
            shown = theirs
        outgoing = Outgoing(send)
        outgoing.takes_whole = "request" in scope
        outgoing.lines = b"x-request-id: %b\r\nx-gateway-request-id: %b\r\n" % (shown, ours)
        return self._app(scope, receive, outgoing)
