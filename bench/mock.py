"""The provider that every contestant is put in front of: lean enough that it is never what limits them.

It speaks just the HTTP/1.1 its callers do (keep-alive, declared lengths) and answers at once, unless paced or told to
take its time. Under /broken it always fails, and what is asked for a stream without end gets one.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import cast

import uvloop
from typing_extensions import override

from bench import payloads

# Only a short body is searched for what it asks: a long one is answered as the small chat.
SEARCHED_BYTES = 4096
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


def plain(body: bytes) -> bytes:
    """Frame a whole JSON answer."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def chunk(body: bytes) -> bytes:
    """Frame one piece of an answer without a declared length (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(body), body)


SMALL_ANSWER = plain(payloads.answer())
TRANSLATED_ANSWER = plain(payloads.translated_answer())
BROKEN_ANSWER = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_TOOL_ANSWERS = [plain(payloads.tool_answer(number)) for number in range(payloads.TOOL_CALLS)]
LENGTH_REQUIRED = b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BURST = b"".join(chunk(payloads.event(f" w{number}")) for number in range(payloads.EVENTS))
_TRANSLATED_BURST = chunk(payloads.translated_events())
_SHORT = chunk(payloads.event("We ship on ")) + chunk(payloads.event("Friday.", finish="stop"))
_FLOOD = chunk(payloads.event("w" * 16384))
_USAGE, _DONE = chunk(payloads.usage_event()), chunk(payloads.DONE)


def declared_bytes(head: bytes) -> int | None:
    """Read Content-Length out of a request's head; `None` when it has none."""
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    if at < 0:
        return None
    end = lowered.find(b"\r\n", at + 2)
    return int(lowered[at + 17 : end if end > 0 else None])


class Provider(asyncio.Protocol):
    """One connection of a caller.

    Args:
        delay_s: How long every answer takes; 0 is at once.
    """

    def __init__(self, call_later: Callable[..., asyncio.TimerHandle], delay_s: float = 0.0) -> None:
        self._call_later = call_later
        self._delay_s = delay_s
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._seen = bytearray()
        self._missing_bytes: int | None = None  # None: the head is not complete yet
        self._floods = self._is_full = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer:
            self._timer.cancel()

    @override
    def data_received(self, data: bytes) -> None:
        if self._missing_bytes is None:
            self._seen += data
            end = self._seen.find(b"\r\n\r\n")
            if end < 0:
                return
            length = declared_bytes(bytes(self._seen[:end]))
            if length is None:
                self._write(LENGTH_REQUIRED)
                return
            self._missing_bytes = length - (len(self._seen) - end - 4)
        else:
            self._missing_bytes -= len(data)
            if len(self._seen) < SEARCHED_BYTES:
                self._seen += data
        if self._missing_bytes <= 0:
            request, self._seen, self._missing_bytes = bytes(self._seen), bytearray(), None
            if self._delay_s:
                self._timer = self._call_later(self._delay_s, self._answer, request)
            else:
                self._answer(request)

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"POST /broken"):
            self._write(BROKEN_ANSWER)
        elif request.startswith(b"POST /v1/messages"):
            asked = b"bench-translated-stream" in request[:SEARCHED_BYTES]
            self._write(_STREAM_HEAD + _TRANSLATED_BURST + _END if asked else TRANSLATED_ANSWER)
        elif len(request) > SEARCHED_BYTES:
            self._write(SMALL_ANSWER)
        elif b'"stream":true' in request or b'"stream": true' in request:
            self._stream(request)
        else:
            results = request.count(b'"tool_call_id"')
            asked = b"bench-tools" in request and results < len(_TOOL_ANSWERS)
            self._write(_TOOL_ANSWERS[results] if asked else SMALL_ANSWER)

    def _stream(self, request: bytes) -> None:
        usage = _USAGE if b"include_usage" in request else b""
        if b"bench-burst" in request:
            self._write(_STREAM_HEAD + _BURST + usage + _DONE + _END)
        elif b"bench-paced" in request:
            self._write(_STREAM_HEAD)
            self._pace(payloads.EVENTS, usage)
        elif b"bench-idle" in request:
            self._write(_STREAM_HEAD + chunk(payloads.event("one")))
        elif b"bench-flood" in request:
            self._floods = True
            self._write(_STREAM_HEAD)
            self._flood()
        else:
            self._write(_STREAM_HEAD + _SHORT + usage + _DONE + _END)

    def _pace(self, left: int, usage: bytes) -> None:
        if left:
            self._write(chunk(payloads.event(f"@{time.monotonic_ns()}")))
            self._timer = self._call_later(payloads.PACE_S, self._pace, left - 1, usage)
        else:
            self._write(usage + _DONE + _END)

    def _flood(self) -> None:
        if self._transport is not None and not self._is_full:
            self._write(_FLOOD)
            self._timer = self._call_later(0.001, self._flood)

    @override
    def pause_writing(self) -> None:
        self._is_full = True

    @override
    def resume_writing(self) -> None:
        self._is_full = False
        if self._floods:
            self._flood()

    def _write(self, reply: bytes) -> None:
        if self._transport is not None:
            self._transport.write(reply)


async def serve(port: int, delay_s: float) -> None:
    """Answer on a port of 127.0.0.1 until ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider(loop.call_later, delay_s), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve on `--port`; each answer takes `--delay-ms`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.delay_ms / 1000))


if __name__ == "__main__":
    main()
