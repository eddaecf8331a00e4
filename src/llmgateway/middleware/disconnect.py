"""Watches for a client that leaves and cancels all that runs for it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.errors import ClientGoneError
from llmgateway.exchange import Exchange

# Calls that are over this soon never pay for a watcher; one that leaves is still seen well within a second.
_LOOK_EVERY_S = 0.05


class Disconnect:
    """Cancels the task of a request whose body has been read, and whose client leaves before it has its answer.

    Our own server tells of that, by `when_gone` of what it puts into `scope["request"]`. With another one, the only
    message left to receive then is that the client is gone: one timer for all requests looks which of them are there
    for a second look, and those get a watcher each.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._new: set[_Watch] = set()
        self._seen: set[_Watch] = set()
        self._looking = False

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        request = scope.get("request")
        if request is None:
            return self._watched(scope, receive, send)
        request.when_gone = partial(_end, scope["exchange"])
        return self._app(scope, receive, send)

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = _Watch(scope["exchange"], receive, self._expect)
        try:
            await self._app(scope, watch, send)
        finally:
            self._new.discard(watch)
            self._seen.discard(watch)
            watch.stop()

    def _expect(self, watch: "_Watch") -> None:
        self._new.add(watch)
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        for watch in self._seen:
            watch.start()
        self._seen, self._new = self._new, set()
        self._looking = bool(self._seen)
        if self._looking:
            asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)


def _end(exchange: Exchange, request: "asyncio.Task[object]") -> None:
    # After its last byte there is nothing to leave from: what still runs gives a connection back.
    if exchange.cancelled_by is None and not exchange.recorded:
        exchange.cancelled_by = ClientGoneError("The client closed the connection.")
        request.cancel()


class _Watch:
    __slots__ = ("_exchange", "_expect", "_receive", "_request", "_watcher")

    def __init__(self, exchange: Exchange, receive: Receive, expect: Callable[["_Watch"], None]) -> None:
        self._exchange = exchange
        self._receive = receive
        self._expect = expect
        self._request: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __call__(self) -> Message:
        message = await self._receive()
        if self._request is None and message["type"] == "http.request" and not message.get("more_body", False):
            self._request = asyncio.current_task()
            self._expect(self)
        return message

    def whole(self) -> bytes | None:
        """Take a body that is there already, if the server knows of such: what may come after it is the same."""
        take: Callable[[], bytes | None] | None = getattr(self._receive, "whole", None)
        body = None if take is None else take()
        if body is not None and self._request is None:
            self._request = asyncio.current_task()
            self._expect(self)
        return body

    def start(self) -> None:
        # The one task beside a request: a task group costs several times as much (docs/decisions/0002).
        self._watcher = asyncio.get_running_loop().create_task(self._until_gone())

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            # Its cancellation holds its frame and that this object: with it, the request would wait for the collector.
            self._watcher = None

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        if self._request is not None:
            _end(self._exchange, self._request)
