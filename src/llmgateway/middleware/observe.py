"""Has every request written down at its end, however it ends."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.errors import ClientGoneError
from llmgateway.exchange import Exchange
from llmgateway.outgoing import Outgoing
from llmgateway.turn import Turn


class Recorder(Protocol):
    """Writes exchanges down; a second call for the same one does nothing."""

    def secure(self, exchange: Exchange) -> None:
        """Write down what must not be lost."""
        ...

    def record(self, exchange: Exchange) -> None:
        """Write everything down."""
        ...

    @property
    def turn(self) -> Turn:
        """That of what the next two are for."""
        ...

    def secure_in_turn(self, exchange: Exchange) -> None:
        """Write down what must not be lost before our own server writes anything that is put off from now on."""
        ...

    def record_in_turn(self, exchange: Exchange) -> None:
        """Write everything down once our own server has written."""
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
        # Of our own server, unless somebody has put the application into another one.
        in_turn = getattr(scope.get("request"), "turn", None) is self._recorder.turn
        outgoing.exchange, outgoing.last = exchange, self._put_off_last if in_turn else self._send_last
        try:
            await self._app(scope, receive, outgoing)
        finally:
            if not exchange.recorded:  # it has no last byte
                if exchange.error_code == ClientGoneError.code:
                    exchange.status = ClientGoneError.status
                self._recorder.record(exchange)

    async def _send_last(self, exchange: Exchange, send: Send, message: Message) -> None:
        self._recorder.secure(exchange)
        await send(message)
        self._recorder.record(exchange)

    def _put_off_last(self, exchange: Exchange, send: Send, message: Message) -> Awaitable[None]:
        """Send by our own server, which writes an answer's end at the end of the turn."""
        self._recorder.secure_in_turn(exchange)
        sent = send(message)
        if isinstance(sent, asyncio.Future):  # unless its client is slow, or somebody stands in between
            self._recorder.record_in_turn(exchange)
            return sent
        return self._record_after(sent, exchange)

    async def _record_after(self, sent: Awaitable[None], exchange: Exchange) -> None:
        await sent
        self._recorder.record(exchange)
