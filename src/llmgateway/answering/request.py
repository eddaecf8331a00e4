"""One request and its answer: what an application calls `receive` and `send`, in one object."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Scope

from llmgateway.answering.head import Header, beginning_of, shape_of
from llmgateway.headers import may_leave
from llmgateway.outgoing import WHOLE

if TYPE_CHECKING:
    from llmgateway.answering.connection import Protocol

# Their answers have no body, whatever their headers say (RFC 9110, 15.3.5 and 15.4.5).
_BODILESS = frozenset({204, 304})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FAILED = b"Internal Server Error"
_FAILED_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(_FAILED)),
    (b"connection", b"close"),
]

_log = logging.getLogger("uvicorn.error")


def _out_of_turn(message: Message) -> RuntimeError:
    return RuntimeError(f"{message['type']} came out of turn")


def _closes(connection: list[bytes]) -> bool:
    return b"close" in [token.strip() for value in connection for token in value.lower().split(b",")]


class Request:
    """Is filled by its connection while it is read; itself an ASGI `receive`.

    Args:
        named: Its headers by their names.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_head",
        "_is_head",
        "_is_told",
        "_left_bytes",
        "_takes_chunks",
        "_waits",
        "awaited",
        "body",
        "is_over",
        "is_taken",
        "is_whole",
        "keep_alive",
        "started",
        "task",
        "turn",
        "when_gone",
    )

    def __init__(self, connection: "Protocol", method: str, version: str, named: Mapping[bytes, bytes]) -> None:
        self._connection = connection
        # Who knows it may have something done before the answer is written, and after.
        self.turn = connection.turn
        self._is_head = method == "HEAD"
        self._takes_chunks = version == "1.1"
        # The client waits to be told that it may send the body.
        self._waits = b"expect" in named and named[b"expect"].lower() == b"100-continue"
        # Another request may follow on the connection, which says so.
        self.keep_alive = False
        # What came of the body and nobody has taken yet; in one piece it stays what it was.
        self.body: bytes | bytearray = b""
        self.is_whole = self.is_taken = self._is_told = self.started = self.is_over = self._chunked = False
        # Set by the connection when something is to be received; made by who must wait for that.
        self.awaited: asyncio.Event | None = None
        self.task: Any = None
        # Called with the task when the client leaves after its body was taken and before its answer is over.
        self.when_gone: Callable[[asyncio.Task[None]], None] | None = None
        self._head = b""
        # None: no length was said; chunks, or the connection's end, say where the body ends.
        self._left_bytes: int | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Have an application answer; if it does not, say so."""
        try:
            await app(scope, self, self.send)
        except BaseException as error:  # noqa: BLE001  the last one: whatever it is, the connection must not hang
            _log.error("Exception in ASGI application\n", exc_info=error)
            await self._give_up()
        else:
            if not self.is_over and not self._connection.is_lost:
                _log.error("ASGI callable returned without completing response.")
                await self._give_up()
        finally:
            self._connection.server_state.tasks.discard(self.task)
            # An idle connection would keep them, and what they hold.
            self.task = self.when_gone = None

    async def _give_up(self) -> None:
        if self.started:
            self._connection.close()
        else:
            await self.send({"type": "http.response.start", "status": 500, "headers": _FAILED_HEADERS})
            await self.send({"type": "http.response.body", "body": _FAILED})

    async def __call__(self) -> Message:
        """Receive a message: what came of the body, or that the client is gone or has its answer."""
        connection = self._connection
        if self._waits and not connection.transport.is_closing():
            self._waits = False
            self.turn.put_off(connection.write, _CONTINUE)
        if not (self.body or (self.is_whole and not self._is_told) or connection.is_lost or self.is_over):
            connection.read_on()
            self.awaited = self.awaited or asyncio.Event()
            await self.awaited.wait()
            self.awaited.clear()
        if connection.is_lost or self.is_over:
            return {"type": "http.disconnect"}
        self._is_told = self.is_taken = self.is_whole
        return {"type": "http.request", "body": self._taken(), "more_body": not self.is_whole}

    def whole(self) -> bytes | None:
        """Take a body that has come to its end, as nearly all have by now; `None` is to be received, by messages."""
        if not self.is_whole or self._connection.is_lost:
            return None
        self.is_taken = True
        return self._taken()

    def lose(self) -> None:
        """Tell whoever waits that the client is gone."""
        if self.awaited is not None:
            self.awaited.set()
        if self.is_taken and not self.is_over and self.when_gone is not None:
            self.when_gone(self.task)

    def _taken(self) -> bytes:
        body, self.body = bytes(self.body), b""
        if self._connection.is_held:
            self._connection.read_on()
        return body

    def send(self, message: Message) -> Awaitable[None]:
        """Take a message of the application. Raises: RuntimeError for one out of turn, or a body of another length.

        Returns:
            What is to be waited for; as a rule it is done.
        """
        connection = self._connection
        if connection.is_slow:
            return self._send_later(message)
        kind = message["type"]
        if self.started:
            if kind != "http.response.body" or self.is_over:
                raise _out_of_turn(message)
        elif kind == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
            # A body that is still to come does not hold the head back.
            connection.loop.call_soon(self._flush)
            return connection.nothing
        elif kind == WHOLE:
            self._send_whole(message)
            return connection.nothing
        else:
            raise _out_of_turn(message)
        body = message.get("body", b"")
        if message.get("more_body", False):
            self._write(b"%x\r\n%b\r\n" % (len(body), body) if self._chunked and body else self._framed(body))
        else:
            self._write(self._framed(body, over=True))
            self.is_over = True
            connection.answered(self)
        return connection.nothing

    def _send_whole(self, message: Message) -> None:
        connection = self._connection
        beginning = beginning_of(message["status"], *connection.server_state.default_headers)
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        answer = b"%b%b%b%b" % (beginning, message["lines"], end, b"" if self._is_head else message["body"])
        self._waits, self.started, self.is_over = False, True, True
        self.turn.put_off(connection.write, answer)
        connection.answered(self)

    async def _send_later(self, message: Message) -> None:
        connection = self._connection
        while connection.is_slow and not connection.is_lost:
            await connection.drained()
        if not connection.is_lost:
            await self.send(message)

    def piece(self, events: bytes) -> Awaitable[None] | None:
        """Write a piece of a stream that has begun and goes on, as `send` would, but for all that stands before it.

        Returns:
            What is to be waited for: the client is slow, so the piece is not written yet.
        """
        connection = self._connection
        if connection.is_slow or not self.started or self.is_over or self._head:
            return self.send({"type": "http.response.body", "body": events, "more_body": True})
        if events:
            piece = b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else self._framed(events)
            if self.turn.is_due:
                self.turn.put_off(connection.write, piece)
            else:
                # Where pieces are all that there is to write, to put them off costs more than it brings.
                connection.write(piece)
        return None

    def _start(self, status: int, headers: Sequence[Header]) -> None:
        connection = self._connection
        pairs = [*connection.server_state.default_headers, *headers]
        names, values = zip(*pairs, strict=True) if pairs else ((), ())
        template, length_at, connection_at, frames = shape_of(status, names)
        if frames:  # that is ours to say
            self._start(status, [pair for pair in headers if pair[0].lower() != b"transfer-encoding"])
            return
        if not may_leave(values):
            raise RuntimeError("a header's value holds a line break or another control character")
        length = None if length_at is None else int(values[length_at])
        closes = bool(connection_at) and _closes([values[at] for at in connection_at])
        head: bytes = template % values
        # Nothing is kept before here: after a header that raises, another answer may still be started.
        self.keep_alive = self.keep_alive and not closes
        if not self.keep_alive and not closes:
            head += b"connection: close\r\n"
        self._left_bytes = 0 if status in _BODILESS else length
        # HTTP/1.0 knows no chunks: its answers end with the connection.
        if self._left_bytes is None and self._takes_chunks and not self._is_head:
            self._chunked = True
            head += b"transfer-encoding: chunked\r\n"
        self._head = head + b"\r\n"
        self.started = True
        self._waits = False

    def _framed(self, body: bytes, *, over: bool = False) -> bytes:
        if self._is_head:
            return b""
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
        self.turn.put_off(self._connection.write, head + piece)
