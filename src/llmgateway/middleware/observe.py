"""Has every request written down at its end, however it ends."""

from collections.abc import Awaitable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.errors import ClientGoneError
from llmgateway.exchange import Exchange


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
        recorder = self._recorder

        def send_and_look(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            elif not message.get("more_body", False):
                return send_last(message)
            return send(message)

        async def send_last(message: Message) -> None:
            recorder.secure(exchange)
            await send(message)
            recorder.record(exchange)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            if exchange.error_code == ClientGoneError.code and not exchange.recorded:
                exchange.status = ClientGoneError.status
            recorder.record(exchange)
