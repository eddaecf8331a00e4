"""Reads a request's body whole, within limits, before anything looks at it."""

import asyncio
import io
import time
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.errors import ClientGoneError, InvalidRequestError, OverloadedError, RequestTooLargeError
from llmgateway.exchange import Header

_MOST_DIGITS = 19


@dataclass(slots=True)
class _Held:
    """What one request's body takes of the total."""

    size_bytes: int


class Body:
    """Puts the body into `scope["body"]`.

    A `receive` with a method `whole` is asked by that first: for a body that is there already, a timer and a message
    cost more than all else that is done here.

    Args:
        max_bytes: For one request; a longer one is refused without reading it to its end.
        max_total_bytes: For all bodies held at a time; above it new ones are told to come again.
        piece_timeout_s: A client that sends nothing of its body for this long has gone or means harm.
        upload_timeout_s: However steadily it sends, a body takes no longer than this.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        max_total_bytes: int,
        piece_timeout_s: float = 30.0,
        upload_timeout_s: float = 600.0,
    ) -> None:
        self._app = app
        self._piece_timeout_s = piece_timeout_s
        self._upload_timeout_s = upload_timeout_s
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = _length(scope)
        whole = getattr(receive, "whole", None)
        body: bytes | None = None if whole is None else whole()
        if body is None:
            await self._receive(self._expected_bytes(length), scope, receive, send)
            return
        # What is there is as long as it is, whatever its sender said.
        size_bytes = len(body)
        if size_bytes > self._max_bytes:
            raise self._too_large()
        self._take(size_bytes)
        try:
            scope["body"] = body
            await self._app(scope, receive, send)
        finally:
            self._held_bytes -= size_bytes

    async def _receive(self, expected_bytes: int, scope: Scope, receive: Receive, send: Send) -> None:
        held = _Held(expected_bytes)
        self._take(expected_bytes)
        try:
            scope["body"] = await self._read(held, receive)
            await self._app(scope, receive, send)
        finally:
            self._held_bytes -= held.size_bytes

    async def _read(self, held: "_Held", receive: Receive) -> bytes:
        # Gives what it has without a copy: one of megabytes would take a millisecond in which nobody else gets on.
        pieces = io.BytesIO()
        late = time.perf_counter() + self._upload_timeout_s
        message = await self._next(receive)
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGoneError("The client closed the connection before its body was complete.")
            pieces.write(message.get("body", b""))
            self._grow(held, pieces.tell())
            if not message.get("more_body", False):
                return pieces.getvalue()
            if time.perf_counter() > late:
                raise InvalidRequestError(f"The body was not complete within {self._upload_timeout_s:g} s.")
            message = await self._next(receive)

    async def _next(self, receive: Receive) -> Message:
        try:
            async with asyncio.timeout(self._piece_timeout_s):
                return await receive()
        except TimeoutError:
            raise InvalidRequestError(f"No more of the body came for {self._piece_timeout_s:g} s.") from None

    def _grow(self, held: "_Held", size_bytes: int) -> None:
        if self._allowed_bytes(size_bytes) > held.size_bytes:
            self._take(size_bytes - held.size_bytes)
            held.size_bytes = size_bytes

    def _take(self, more_bytes: int) -> None:
        if self._held_bytes + more_bytes > self._max_total_bytes:
            raise OverloadedError("The gateway holds as many request bodies as it can.", retry_after_s=1.0)
        self._held_bytes += more_bytes

    def _allowed_bytes(self, size_bytes: int) -> int:
        if size_bytes > self._max_bytes:
            raise self._too_large()
        return size_bytes

    def _expected_bytes(self, length: bytes | None) -> int:
        if length is None:
            return 0
        if not length.isdigit():
            raise InvalidRequestError("Content-Length is not a number.")
        # More digits than any size has are not read at all: Python refuses to.
        if len(length) > _MOST_DIGITS:
            raise self._too_large()
        return self._allowed_bytes(int(length))

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(f"The body is larger than {self._max_bytes} bytes: send less, or raise the limit.")


def _length(scope: Scope) -> bytes | None:
    """Read how long the body will be. Raises: InvalidRequestError: It is compressed, or there are several lengths."""
    pairs: list[Header] = scope["headers"]
    headers: dict[bytes, bytes] = scope.get("named_headers") or dict(pairs)
    if len(headers) < len(pairs):
        _check_repeated(pairs)
    elif b"content-encoding" in headers:
        _check_plain(headers[b"content-encoding"])
    return headers.get(b"content-length")


def _check_repeated(pairs: Iterable[Header]) -> None:
    lengths = 0
    for name, value in pairs:
        if name == b"content-encoding":
            _check_plain(value)
        lengths += name == b"content-length"
    if lengths > 1:
        raise InvalidRequestError("The request has more than one Content-Length.")


def _check_plain(encoding: bytes) -> None:
    if encoding.lower() != b"identity":
        raise InvalidRequestError("Compressed bodies are not taken: send the JSON as it is.")
