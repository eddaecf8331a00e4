"""Watches for a client that leaves and cancels all that runs for it."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.errors import ClientGoneError
from llmgateway.exchange import Exchange

# Most calls that are over this soon never pay for a watcher; one that leaves is still seen well within a second.
_WATCH_AFTER_S = 0.1


class Disconnect:
    """Once the body has been read, the only message left to receive is that the client is gone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watch = _Watch(scope["exchange"], receive)
        try:
            await self._app(scope, watch.receive, send)
        finally:
            watch.stop()


class _Watch:
    __slots__ = ("_exchange", "_receive", "_request", "_timer", "_watcher")

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self._exchange = exchange
        self._receive = receive
        self._request: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if self._timer is None and message["type"] == "http.request" and not message.get("more_body", False):
            self._request = asyncio.current_task()
            self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._start)
        return message

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _start(self) -> None:
        # The one task beside a request: a task group costs several times as much (docs/decisions/0002).
        self._watcher = asyncio.get_running_loop().create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        if self._request is not None and self._exchange.cancelled_by is None:
            self._exchange.cancelled_by = ClientGoneError("The client closed the connection.")
            self._request.cancel()
