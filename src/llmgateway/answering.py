"""uvicorn's HTTP protocol, with answers written our way: head and body in one piece, and headers looked at once.

uvicorn writes a head by itself, which is a system call and a packet more, and runs two regular expressions over each of
our fifteen headers: together a sixth of what a relayed call costs (docs/performance.md).
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.types import Message
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

# Their answers have no body, whatever their headers say (RFC 9110, 9.3.2, 15.3.5 and 15.4.5).
_BODILESS = frozenset({204, 304})


class Protocol(HttpToolsProtocol):
    """Reads requests as uvicorn does; hands the application a `send` of ours."""

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["method"] == "HEAD":
            super()._start_asgi_task(cycle, app)
            return

        async def answering(scope: Any, receive: Any, _: Any) -> None:
            await app(scope, receive, Answering(cycle).send)

        super()._start_asgi_task(cycle, answering)


class Answering:
    """Writes one answer, and keeps uvicorn's account of it."""

    __slots__ = ("_chunked", "_cycle", "_head", "_left_bytes")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._head = b""
        self._chunked = False
        # None: no length was said; chunks, or the connection's end, say where the body ends.
        self._left_bytes: int | None = None

    async def send(self, message: Message) -> None:
        """Take a message of the application. Raises: RuntimeError for one out of turn, or a body of another length."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        turn = "http.response.body" if cycle.response_started else "http.response.start"
        if cycle.response_complete or message["type"] != turn:
            raise RuntimeError(f"{message['type']} came out of turn")
        if not cycle.response_started:
            self._start(message["status"], message.get("headers", ()))
            return
        over = not message.get("more_body", False)
        self._write(self._framed(message.get("body", b""), over=over))
        if over:
            self._finish()

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        cycle = self._cycle
        sent = [(name.lower(), value) for name, value in (*cycle.default_headers, *headers)]
        _check(sent)
        lines = [STATUS_LINE[status][:-2]]
        length = None
        closes = False
        for name, value in sent:
            if name == b"transfer-encoding":  # the framing is ours to say
                continue
            lines.append(b"%b: %b" % (name, value))
            if name == b"content-length" and length is None:
                length = int(value)
            elif name == b"connection":
                closes = closes or b"close" in [token.strip() for token in value.lower().split(b",")]
        # Nothing is kept before here: after a header that raises, another answer may still be started.
        cycle.keep_alive = cycle.keep_alive and not closes
        if not cycle.keep_alive and not closes:
            lines.append(b"connection: close")
        self._left_bytes = 0 if status in _BODILESS else length
        # HTTP/1.0 knows no chunks: its answers end with the connection.
        self._chunked = self._left_bytes is None and cycle.scope["http_version"] == "1.1"
        if self._chunked:
            lines.append(b"transfer-encoding: chunked")
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        # A body that is still to come does not hold the head back.
        asyncio.get_running_loop().call_soon(self._flush)

    def _framed(self, body: bytes, *, over: bool) -> bytes:
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return piece + b"0\r\n\r\n" if over else piece
        if self._left_bytes is not None:
            left_bytes = self._left_bytes - len(body)
            if left_bytes < 0 or (over and left_bytes):
                raise RuntimeError("the body is not as long as its Content-Length says")
            self._left_bytes = left_bytes
        return body

    def _flush(self) -> None:
        if self._head:
            self._write(b"")

    def _write(self, piece: bytes) -> None:
        head, self._head = self._head, b""
        transport = self._cycle.transport
        # uvloop raises for a closed one; uvicorn tells only the newest of pipelined requests that the client is gone.
        if not transport.is_closing():
            transport.write(head + piece)

    def _finish(self) -> None:
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def _check(headers: list[tuple[bytes, bytes]]) -> None:
    # All at once: a line break in one would let its author write headers, or a whole answer.
    if HEADER_RE.search(b"".join([name for name, _ in headers])):
        raise RuntimeError("a header's name holds a character that none may hold")
    if HEADER_VALUE_RE.search(b"".join([value for _, value in headers])):
        raise RuntimeError("a header's value holds a line break or another control character")
