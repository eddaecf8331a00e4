"""uvicorn's HTTP protocol, with answers written our way: head and body in one piece, and headers looked at once.

uvicorn writes a head by itself, which is a system call and a packet more, and runs two regular expressions over each of
our fifteen headers: together a sixth of what a relayed call costs (docs/performance.md).
"""

from typing import Any

from starlette.types import Message
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

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
        self._left_bytes = 0

    async def send(self, message: Message) -> None:
        """Take a message of the application. Raises: RuntimeError for one out of turn, or a body of another length."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        if cycle.response_complete or cycle.response_started is (message["type"] == "http.response.start"):
            raise RuntimeError(f"{message['type']} came out of turn")
        if not cycle.response_started:
            self._start(message["status"], message.get("headers", ()))
            return
        body = message.get("body", b"")
        over = not message.get("more_body", False)
        head, self._head = self._head, b""
        cycle.transport.write(head + self._framed(body, over=over))
        if over:
            self._finish()

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        cycle = self._cycle
        lines = [STATUS_LINE[status][:-2]]
        length = None
        for name, value in (*cycle.default_headers, *headers):
            lines.append(b"%b: %b" % (name, value))
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and value == b"close":
                cycle.keep_alive = False
        if length is None and status not in _BODILESS:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked")
        if not cycle.keep_alive:
            lines.append(b"connection: close")
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) - 1 or b"\0" in head:
            raise RuntimeError("a header holds a line break")
        self._left_bytes = length or 0
        self._head = head + b"\r\n\r\n"
        cycle.response_started = True
        cycle.waiting_for_100_continue = False

    def _framed(self, body: bytes, *, over: bool) -> bytes:
        if not self._chunked:
            self._left_bytes -= len(body)
            if self._left_bytes < 0 or (over and self._left_bytes):
                raise RuntimeError("the body is not as long as its Content-Length says")
            return body
        piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return piece + b"0\r\n\r\n" if over else piece

    def _finish(self) -> None:
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
