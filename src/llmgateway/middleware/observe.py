"""Has every request written down at its end, however it ends."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.errors import ClientGoneError
from llmgateway.exchange import Exchange
from llmgateway.outgoing import Outgoing


class Recorder(Protocol):
    """Writes exchanges down; a second call for the same one does nothing."""

    def secure(self, exchange: Exchange) -> None:
        """Write down what must not be lost."""
        ...

    def record(self, exchange: Exchange) -> None:
        """Write everything down."""
        ...


class Observe:
    """Sees the status that goes out and the last byte, before which what a client must find again is secured."""

    def __init__(self, app: ASGIApp, *, recorder: Recorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange: Exchange = scope["exchange"]
        outgoing = send if isinstance(send, Outgoing) else Outgoing(send)
        outgoing.exchange, outgoing.last = exchange, self._send_last
        try:
            await self._app(scope, receive, outgoing)
        finally:
            if not exchange.recorded:  # it has no last byte
                if exchange.error_code == ClientGoneError.code:
                    exchange.status = ClientGoneError.status
                self._recorder.record(exchange)

    def _send_last(self, exchange: Exchange, send: Send, message: Message) -> Awaitable[None]:
        self._recorder.secure(exchange)
        sent = send(message)
        if isinstance(sent, asyncio.Future) and sent.done():  # as by our own server, unless its client is slow
            self._recorder.record(exchange)
            return sent
        return self._record_after(sent, exchange)

    async def _record_after(self, sent: Awaitable[None], exchange: Exchange) -> None:
        await sent
        self._recorder.record(exchange)
