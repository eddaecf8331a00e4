"""Reads a request's body whole, within limits, before anything looks at it."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.errors import ClientGoneError, InvalidRequestError, OverloadedError, RequestTooLargeError

# A client that sends nothing of its body for this long has gone or means harm.
_PIECE_TIMEOUT_S = 30.0


class Body:
    """Puts the body into `scope["body"]`.

    Args:
        max_bytes: For one request; a longer one is refused without reading it to its end.
        max_total_bytes: For all bodies held at a time; above it new ones are told to come again.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_total_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        expected_bytes = self._expected_bytes(scope)
        if self._held_bytes + expected_bytes > self._max_total_bytes:
            raise OverloadedError("The gateway holds as many request bodies as it can.", retry_after_s=1.0)
        reserved_bytes = expected_bytes
        self._held_bytes += reserved_bytes
        try:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                body = message.get("body", b"")
                if len(body) > self._max_bytes:
                    raise self._too_large()
            else:
                body = await self._rest(message, receive)
            self._held_bytes += len(body) - reserved_bytes
            reserved_bytes = len(body)
            scope["body"] = body
            await self._app(scope, receive, send)
        finally:
            self._held_bytes -= reserved_bytes

    async def _rest(self, message: dict[str, object], receive: Receive) -> bytes:
        pieces = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGoneError("The client closed the connection before its body was complete.")
            pieces += message.get("body", b"")  # type: ignore[arg-type]  # ASGI: bytes
            if len(pieces) > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(pieces)
            try:
                async with asyncio.timeout(_PIECE_TIMEOUT_S):
                    message = await receive()  # type: ignore[assignment]  # ASGI: a mutable mapping
            except TimeoutError:
                raise InvalidRequestError(f"No more of the body came for {_PIECE_TIMEOUT_S:.0f} s.") from None

    def _expected_bytes(self, scope: Scope) -> int:
        lengths = []
        for name, value in scope["headers"]:
            if name == b"content-length":
                lengths.append(value)
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise InvalidRequestError("Compressed bodies are not taken: send the JSON as it is.")
        if len(lengths) > 1:
            raise InvalidRequestError("The request has more than one Content-Length.")
        if not lengths:
            return 0
        if not lengths[0].isdigit():
            raise InvalidRequestError("Content-Length is not a number.")
        if (expected_bytes := int(lengths[0])) > self._max_bytes:
            raise self._too_large()
        return expected_bytes

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(f"The body is larger than {self._max_bytes} bytes: send less, or raise the limit.")
