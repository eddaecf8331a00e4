"""A reply on the wire: a whole answer as JSON, a stream as server-sent events."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Self, cast

from starlette.types import Send

from llmgateway.errors import ClientGoneError, GatewayError, InvalidRequestError
from llmgateway.exchange import Complete, Exchange, Streamed
from llmgateway.headers import read_lines, write_lines
from llmgateway.outgoing import WHOLE
from llmgateway.wire.errors import error_event
from llmgateway.wire.sse import COMMENT, ENDS, WholeStream

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    # nginx and its kin buffer streams unless told.
    (b"x-accel-buffering", b"no"),
]
_STREAM_LINES = write_lines(_STREAM_HEADERS)


# Takes events; gives what is to be waited for, if anything.
Piece = Callable[[bytes], Awaitable[None] | None]


class _Over:
    """The chunks of an answer that has been given."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is open."""


_OVER = _Over()


def send_complete(exchange: Exchange, reply: Complete, send: Send) -> Awaitable[None]:
    """Write a whole answer; give what is to be waited for."""
    body = reply.body
    lines = b"content-type: application/json\r\ncontent-length: %d\r\n%b" % (len(body), exchange.lines())
    if getattr(send, "takes_whole", False):
        return send({"type": WHOLE, "status": 200, "lines": lines, "body": body})
    return _send_in_two(lines, body, send)


async def _send_in_two(lines: bytes, body: bytes, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": read_lines(lines)})
    await send({"type": "http.response.body", "body": body})


class EventStream:
    """A stream towards the client, from the moment its request is accepted.

    The 200 is held back until the first event, so that an error before it is a plain HTTP error; after `commit_after_s`
    it goes out all the same, and comments keep the connection open through every silence.

    Args:
        commit_after_s: Seconds after which the 200 goes out without an event.
        keep_alive_s: Seconds of silence after which a comment is sent.
        piece: Writes a piece that is neither the first nor the last; only those two are of interest to whoever looks
            at messages on their way.
    """

    def __init__(
        self, exchange: Exchange, send: Send, *, commit_after_s: float, keep_alive_s: float, piece: Piece | None = None
    ) -> None:
        self._exchange = exchange
        self._send = send
        self._piece = piece
        self._keep_alive_s = keep_alive_s
        self.started = False
        self._writing = False
        self._last_write = time.perf_counter()
        self._comment: asyncio.Task[None] | None = None
        self.task = cast("asyncio.Task[object]", asyncio.current_task())  # a coroutine always runs in one
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(commit_after_s, self._tick)

    async def relay(self, reply: Streamed) -> None:
        """Send every chunk as it comes, then the end. Raises: GatewayError when the answer breaks off."""
        chunks = reply.chunks
        if isinstance(chunks, WholeStream) and self._comment is None and getattr(self._send, "takes_whole", False):
            reply.chunks = _OVER
            await self._send_whole(chunks.events)
            return
        more = True
        try:
            async for chunk in chunks:
                # The client's answer ends here; what follows only gives the upstream's connection back.
                more = not chunk.endswith(ENDS)
                if (slow := self._pass(chunk) if more else self._write(chunk, more=False)) is not None:
                    await slow
        finally:
            # They hold the answer, the exchange and the body: in a circle, all that would wait for the collector.
            reply.chunks = _OVER
            await chunks.aclose()
        if more:
            await self._write(b"", more=False)

    async def _send_whole(self, events: bytes) -> None:
        self._writing = True  # until the end
        lines = b"%bcontent-length: %d\r\n%b" % (_STREAM_LINES, len(events), self._exchange.lines())
        await self._send({"type": WHOLE, "status": 200, "lines": lines, "body": events})
        self.started = True
        self.close()

    async def fail(self, error: GatewayError) -> None:
        """End a stream that has begun: an error event, and no `[DONE]`."""
        if not self._exchange.recorded:
            self._exchange.error_code = error.code
        await self._write(error_event(error, self._exchange.id), more=False)

    def close(self) -> None:
        """Stop the timer; safe to call twice."""
        self._timer.cancel()
        if self._comment is not None:
            self._comment.cancel()

    def _pass(self, events: bytes) -> Awaitable[None] | None:
        """Write a piece as `_write` does, at once where nothing is in its way, as for nearly all of them."""
        if self._piece is None or not self.started or self._comment is not None:
            return self._write(events)
        if (slow := self._piece(events)) is not None:
            return self._slowly(slow)
        self._last_write = time.perf_counter()
        return None

    async def _slowly(self, written: Awaitable[None]) -> None:
        """Wait for the client to read, so that nobody reads more from the upstream."""
        self._writing = True
        await written
        self._writing = False
        self._last_write = time.perf_counter()

    async def _write(self, events: bytes, *, more: bool = True) -> None:
        # From here on no comment begins, and the timer ends a reader who does not read: the end as well.
        self._writing = True
        if self._comment is not None:
            comment, self._comment = self._comment, None
            await comment
        if not self.started:
            await self._start()
        await self._send({"type": "http.response.body", "body": events, "more_body": more})
        self._writing = False
        self._last_write = time.perf_counter()
        if not more:
            self.close()

    async def _start(self) -> None:
        self.started = True
        headers = [*_STREAM_HEADERS, *self._exchange.headers()]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def _tick(self) -> None:
        """Comment on a silence; end a stream whose reader has not read until the request's time was over."""
        now = time.perf_counter()
        deadline = self._exchange.deadline
        left_s = math.inf if deadline is None else deadline - now
        wait_s = self._keep_alive_s
        if self._writing:
            if left_s < 0:
                # Whoever ends the request first says why; a second cancellation would hit what is sent in farewell.
                if self._exchange.cancelled_by is None:
                    # Who has not even read what stands before it on the connection is not told.
                    kind = InvalidRequestError if self.started else ClientGoneError
                    self._exchange.cancelled_by = kind("The client did not read its answer in time.")
                    self.task.cancel()
                return
        elif self._comment is None or self._comment.done():
            silent_s = now - self._last_write
            if not self.started or silent_s >= self._keep_alive_s:
                self._comment = self._loop.create_task(self._keep_alive())
            else:
                wait_s -= silent_s
        if left_s > 0:
            wait_s = min(wait_s, left_s)
        self._timer = self._loop.call_later(max(wait_s, 0.01), self._tick)

    async def _keep_alive(self) -> None:
        if not self.started:
            await self._start()
        await self._send({"type": "http.response.body", "body": COMMENT, "more_body": True})
        self._last_write = time.perf_counter()
