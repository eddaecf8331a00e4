"""One connection to a provider: the one object that the socket hands bytes to and the parser calls back.

A question is under way from `ask` until `freed` is called: first there is a waiter for the answer's head, then a body.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from typing_extensions import override

from llmgateway.turn import Turn
from llmgateway.upstream.http.body import Body
from llmgateway.upstream.http.failures import LostError, NotHTTPError
from llmgateway.upstream.http.head import MAX_HEAD_BYTES, Origin, end_of_whole, field
from llmgateway.upstream.http.response import ComingResponse, Response

_FIRST_FINAL_STATUS = _OK = 200
_BLANK_LINE = b"\r\n\r\n"
_BLANK_LINE_BYTES = len(_BLANK_LINE)
# A socket's own buffers hold this much, so that it is as good as sent.
_UNSEEN_BYTES = 64 * 1024
# A socket that is read from meanwhile takes megabytes at once, which is milliseconds: others have a turn in between.
_PART_BYTES = 512 * 1024


class Connection(asyncio.Protocol):
    """Asks one question at a time.

    Args:
        origin: Whom it leads to.
        freed: Called once for each question, when its answer has come or never will: whether another may be asked.
        lost: Called when the connection ends while nobody asks; may be called twice.
        turn: Writes its questions.
    """

    __slots__ = (
        "_answer_head",
        "_arrived",
        "_body",
        "_freed",
        "_head",
        "_head_start",
        "_is_complete",
        "_is_unsent",
        "_is_unsure",
        "_is_used",
        "_is_writing",
        "_loop",
        "_lost",
        "_may_stay",
        "_parser",
        "_transport",
        "_turn",
        "_valve",
        "_waiter",
        "on_body",
        "origin",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        freed: Callable[["Connection", bool], None],
        lost: Callable[["Connection"], None],
        turn: Turn,
    ) -> None:
        self.origin = origin
        self._turn = turn
        self._loop = loop
        self._freed = freed
        self._lost = lost
        # The parser's own call for each chunk: a stream has hundreds in one read, and a frame for each would cost more
        # than all else that is done with them.
        self._arrived: list[bytes] = []
        self.on_body = self._arrived.append
        self._parser = HttpResponseParser(self)
        self._waiter: asyncio.Future[Response] | None = None
        self._body: Body | None = None
        self._head = b""  # as far as it has come
        self._head_start = 0  # behind the provisional ones
        self._answer_head = b""  # the head of the answer that comes
        self._is_complete = self._is_unsure = self._is_writing = self._may_stay = False
        self._is_unsent = self._is_used = False

    async def ask(self, head: bytes, body: bytes) -> Response:
        """Send a request and wait for the head of its answer. Raises: LostError, NotHTTPError."""
        if self._transport.is_closing():
            self._freed(self, False)
            raise LostError("closed")
        self._is_complete = False
        waiter: asyncio.Future[Response] = self._loop.create_future()
        self._waiter = waiter
        try:
            if len(body) > _UNSEEN_BYTES:
                # A TLS transport does not count what the socket under it has yet to send.
                self._is_unsure = self.origin.is_secure
                self._transport.writelines((head, memoryview(body)[:_PART_BYTES]))
                if len(body) > _PART_BYTES:
                    await self._write_on(memoryview(body)[_PART_BYTES:])
            else:
                self._is_unsure, self._is_unsent = False, True
                self._turn.put_off(self._write, head + body)
            return await waiter
        except BaseException:
            self._give_up(waiter)
            # The waiter holds the failure, which holds this frame: a circle.
            del waiter
            raise

    def _write(self, question: bytes) -> None:
        self._is_unsent = False
        # uvloop raises for a closed one.
        if not self._transport.is_closing():
            self._transport.write(question)

    async def _write_on(self, rest: memoryview) -> None:
        self._is_writing = True
        for at in range(0, len(rest), _PART_BYTES):
            await asyncio.sleep(0)
            if self._transport.is_closing():
                return
            self._transport.write(rest[at : at + _PART_BYTES])
        self._is_writing = False

    def hang_up(self) -> None:
        """End the connection now, whatever is under way on it."""
        self._fail(LostError("hung up"))

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = self._valve = cast("asyncio.Transport", transport)

    def secured(self, transport: asyncio.Transport) -> None:
        """Speak through TLS from now on.

        It is held up below TLS: uvloop's own drops what it has when the peer closes while it is held up.
        """
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        if self._body is None and self._needs_no_parser(data):
            return
        failure: OSError | None = None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._may_stay = False
            failure = None if self._is_complete else NotHTTPError(str(error))
        body = self._body
        if body is not None and self._arrived:
            # Before a failure, too: what has come is read.
            body.feed(self._arrived)
            self._arrived.clear()
        if failure is not None:
            self._fail(failure)
        elif body is None:
            if len(self._head) > MAX_HEAD_BYTES:
                self._fail(NotHTTPError("too long a head"))
        elif self._is_complete:
            self._finish(body)
        else:
            body.settle()

    @override
    def eof_received(self) -> None:
        self._ended(None)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)
        # It holds this object's methods: a circle.
        del self._parser

    def on_message_begin(self) -> None:
        """What the parser calls first; an exception makes it stop."""
        if self._is_complete:
            raise NotHTTPError("more than one answer")

    def on_headers_complete(self) -> None:
        """Hand the answer over, or pass over a provisional one."""
        status: int = self._parser.get_status_code()
        head, start = self._head, self._head_start
        end = head.find(_BLANK_LINE, start) + _BLANK_LINE_BYTES
        if end - start > MAX_HEAD_BYTES or not head.startswith(b"HTTP/", start):
            raise NotHTTPError("too long a head, or none")
        if status < _FIRST_FINAL_STATUS:
            if status != HTTPStatus.SWITCHING_PROTOCOLS:
                self._head_start = end
                return
            self._is_unsure = True
        elif self._is_unsure:
            # Who accepts has read all of the question.
            self._is_unsure = status >= HTTPStatus.BAD_REQUEST
        self._head, self._head_start = b"", 0
        head = head[start : end - 2]
        self._answer_head = head
        body = self._body = Body(self._loop, self._valve)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(ComingResponse(status, head, body, self._stop))

    def on_message_complete(self) -> None:
        """Note that the answer is whole, unless it was a provisional one."""
        if self._body is not None:
            self._is_complete = True
            self._may_stay = self._parser.should_keep_alive()

    def _needs_no_parser(self, data: bytes) -> bool:
        """Deal with an answer that came whole, or that nobody waits for; take anything else for a piece of a head."""
        waiter = self._waiter
        if waiter is None or waiter.done() or (self._is_unsent and self._is_used):
            # Nobody asked, or whoever did has gone, or the question is not out: it is the answer to another one.
            self.hang_up()
            return True
        self._is_used = True
        if self._head:
            self._head += data
            return False
        end = end_of_whole(data)
        if not end or self._is_unsent:
            # Who speaks first says why nobody may ask, and is asked no more: as if the question never came to its end.
            self._is_writing = self._is_writing or self._is_unsent
            self._head = data.lstrip(b"\r\n")
            return False
        self._waiter = None
        # As in `_finish`; who answers with success has read all of the question.
        may_stay = not self._is_writing and not self._transport.get_write_buffer_size()
        if not may_stay:
            self._transport.abort()
        waiter.set_result(Response(_OK, data[: end - 2], data[end:]))
        self._freed(self, may_stay)
        return True

    def _finish(self, body: Body) -> None:
        self._body = None
        # Answered before all of the question was read: what is left of it would be taken for the next one.
        is_read = not self._is_unsure and not self._is_writing and not self._transport.get_write_buffer_size()
        may_stay = self._may_stay and is_read
        if may_stay:
            body.resume()
        else:
            self._transport.abort()
        body.end()
        self._freed(self, may_stay)

    def _ended(self, error: Exception | None) -> None:
        body = self._body
        if error is None and body is not None and self._ends_with_connection():
            self._may_stay = False
            self._finish(body)
        else:
            self._fail(LostError(str(error or "closed")))

    def _ends_with_connection(self) -> bool:
        lowered = self._answer_head.lower()
        return all(field(lowered, name) is None for name in (b"content-length", b"transfer-encoding"))

    def _fail(self, failure: OSError) -> None:
        # To close waits until all is written, which a peer that stopped reading puts off for ever.
        self._transport.abort()
        waiter, self._waiter = self._waiter, None
        body, self._body = self._body, None
        if waiter is None and body is None:
            self._lost(self)
            return
        if waiter is not None and not waiter.done():
            waiter.set_exception(failure)
        if body is not None:
            body.end(failure)
        self._freed(self, False)

    def _give_up(self, waiter: asyncio.Future[Response]) -> None:
        """End what is under way for a waiter that was cancelled, which by now may be nothing."""
        # Nobody has waited for it yet while a long question is written.
        waiter.cancel()
        if self._waiter is waiter:
            self.hang_up()
        elif not waiter.cancelled() and waiter.exception() is None:
            waiter.result().close()

    def _stop(self, body: Body) -> None:
        if self._body is body:
            self.hang_up()
