"""uvicorn's HTTP protocol, with answers written our way: head and body in one piece, and headers looked at once.

uvicorn writes a head by itself, which is a system call and a packet more, and runs two regular expressions over each of
our fifteen headers: together a sixth of what a relayed call costs (docs/performance.md).
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from starlette.types import Message
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

# Their answers have no body, whatever their headers say (RFC 9110, 9.3.2, 15.3.5 and 15.4.5).
_BODILESS = frozenset({204, 304})
# What a header's value may hold (RFC 9110, 5.5): a tab, and all that is no control character.
_VALUE_BYTES = b"\t" + bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F)  # noqa: PLR2004  DEL
_LENGTH, _CONNECTION, _FRAMING = b"\r\ncontent-length: ", b"\r\nconnection: ", b"\r\ntransfer-encoding: "
_TELLING = frozenset({_LENGTH, _CONNECTION, _FRAMING})
_CACHED_SHAPES = 256


class Protocol(HttpToolsProtocol):
    """Reads requests as uvicorn does; hands the application a `send` of ours."""

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["method"] == "HEAD":
            super()._start_asgi_task(cycle, app)
            return

        def answering(scope: Any, _: Any, __: Any) -> Awaitable[None]:
            writing = Answering(cycle)
            # A scope of its own: the cycle holds the other, and in a circle the body would wait for the collector.
            answer: Awaitable[None] = app({**scope, "piece": writing.piece}, Receiving(cycle), writing.send)
            return answer

        super()._start_asgi_task(cycle, answering)


def _out_of_turn(message: Message) -> RuntimeError:
    return RuntimeError(f"{message['type']} came out of turn")


class Receiving:
    """An ASGI `receive` that also has what is there already."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def __call__(self) -> Awaitable[Any]:
        return self._cycle.receive()

    def whole(self) -> bytes | None:
        """Take a body that has come to its end, as nearly all have by now; `None` is to be received, by messages."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.flow.resume_reading()
        return body


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
        if message["type"] != ("http.response.body" if cycle.response_started else "http.response.start"):
            raise _out_of_turn(message)
        if not cycle.response_started:
            self._start(message["status"], message.get("headers", ()))
            return
        if cycle.response_complete:
            raise _out_of_turn(message)
        body, more = message.get("body", b""), message.get("more_body", False)
        if more and self._chunked:
            # What a stream consists of.
            self._write(b"%x\r\n%b\r\n" % (len(body), body) if body else b"")
            return
        self._write(self._framed(body, over=not more))
        if not more:
            self._finish()

    def piece(self, events: bytes) -> Awaitable[None] | None:
        """Write a piece of a stream that has begun and goes on, as `send` would, but for all that stands before it.

        Returns:
            What is to be waited for: the client is slow, so the piece is not written yet.
        """
        cycle = self._cycle
        if cycle.flow.write_paused or not cycle.response_started or cycle.response_complete:
            return self.send({"type": "http.response.body", "body": events, "more_body": True})
        if events and not cycle.disconnected:
            self._write(b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else self._framed(events, over=False))
        return None

    def _start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        cycle = self._cycle
        pairs = [*cycle.default_headers, *headers]
        names, values = zip(*pairs, strict=True) if pairs else ((), ())
        begun, telling = _lines_begun(names)
        _check(values)
        length = None
        closes = False
        for at in telling:
            if begun[at] == _FRAMING:  # that is ours to say
                self._start(status, [pair for pair in headers if pair[0].lower() != b"transfer-encoding"])
                return
            if begun[at] == _CONNECTION:
                closes = closes or b"close" in [token.strip() for token in values[at].lower().split(b",")]
            elif length is None:
                length = int(values[at])
        lines = [STATUS_LINE[status][:-2], *chain.from_iterable(zip(begun, values, strict=True))]
        # Nothing is kept before here: after a header that raises, another answer may still be started.
        cycle.keep_alive = cycle.keep_alive and not closes
        if not cycle.keep_alive and not closes:
            lines += _CONNECTION, b"close"
        self._left_bytes = 0 if status in _BODILESS else length
        # HTTP/1.0 knows no chunks: its answers end with the connection.
        self._chunked = self._left_bytes is None and cycle.scope["http_version"] == "1.1"
        if self._chunked:
            lines += _FRAMING, b"chunked"
        lines.append(b"\r\n\r\n")
        self._head = b"".join(lines)
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


@lru_cache(maxsize=_CACHED_SHAPES)
def _lines_begun(names: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    """Begin the lines of headers, each with the end of the line before it, and say which tell of the body or the end.

    Most answers have the same headers, with other values. Raises: RuntimeError: One is no header's name.
    """
    begun = tuple(_begun(name) for name in names)
    return begun, tuple(at for at, line in enumerate(begun) if line in _TELLING)


def _begun(name: bytes) -> bytes:
    if HEADER_RE.search(name):
        raise RuntimeError("a header's name holds a character that none may hold")
    return b"\r\n%b: " % name.lower()


def _check(values: Iterable[bytes]) -> None:
    # All at once: a line break in a value would let its author write headers, or a whole answer.
    if b"".join(values).translate(None, _VALUE_BYTES):
        raise RuntimeError("a header's value holds a line break or another control character")
