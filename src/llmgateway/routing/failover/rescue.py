"""Mid-stream rescue: when an upstream dies after its first byte, another one goes on with the same stream."""

import time
from collections.abc import Awaitable, Callable
from typing import Self

from llmgateway.errors import GatewayError, ProviderTimeoutError, UpstreamError, UpstreamRejectedError
from llmgateway.exchange import Attempt, Call, Chunks, Event, Exchange, Streamed
from llmgateway.exchange import Heard as HeardSoFar
from llmgateway.routing.failover.continuing import continues_exactly, may_continue, wants_json
from llmgateway.routing.failover.said import Said
from llmgateway.routing.heard import Heard
from llmgateway.wire.joining import Joined, JoinError, Told

# Asks the next deployment to go on after this text, told why the last one broke off; blank text is nothing to go on
# with. Gives a stream whose first event is there.
Again = Callable[[str, GatewayError], Awaitable[Streamed]]
_MOST_RESCUES = 2


class RescuedChunks:
    """Takes the place of a chat stream's chunks, where its model says `rescue`.

    While all is well, what passes is noted and nothing else. When the upstream fails, or is silent for too long, the
    next deployment is asked for the rest, and its events are rewritten into the first one's stream. An answer that was
    finished but for its end is completed here. Whatever cannot be one stream is an error, as without a rescue: an
    answer that holds more than text, a client's error, the end of the request's time, and nobody left to ask.

    Args:
        stream: The first stream, metered; what it is told of who spoke stays the first one's.
        again: See `Again`; raises what failover raises.
        may: Whether anybody else may be asked at all, asked when it is needed.
    """

    __slots__ = (
        *("_again", "_call", "_chunks", "_exchange", "_heard", "_is_over", "_joined", "_last", "_may", "_rescues"),
        *("_said", "_stream", "_told"),
    )

    def __init__(
        self, stream: Streamed, call: Call, exchange: Exchange, *, again: Again, may: Callable[[], bool]
    ) -> None:
        self._stream = stream
        self._chunks: Chunks = stream.chunks
        self._call = call
        self._exchange = exchange
        self._again = again
        self._may = may
        self._said = Said()
        self._told = Told()
        self._joined: Joined | None = None
        self._heard: Heard | None = None
        self._last = b""
        self._is_over = False
        self._rescues = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._joined is not None or self._is_over:
            return await self._next()
        try:
            chunk = await self._chunks.__anext__()
        except GatewayError as error:
            self._told = self._said.told()
            if not await self._rescued(error):
                raise
        else:
            self._said.append(chunk)
            return chunk
        return await self._next()

    async def aclose(self) -> None:
        self._is_over = True
        self._last = b""
        chunks, self._chunks = self._chunks, _OVER
        await chunks.aclose()

    async def _next(self) -> bytes:
        """Give the next events of the joined stream."""
        while not self._is_over:
            try:
                chunk = await self._joined_chunk()
            except GatewayError as error:
                if not await self._rescued(error):
                    raise
            else:
                if chunk:
                    self._note(chunk)
                    return chunk
        if self._last:
            last, self._last = self._last, b""
            self._note(last)
            return last
        raise StopAsyncIteration

    async def _joined_chunk(self) -> bytes:
        chunk = await self._chunks.__anext__()
        if self._joined is None:  # only told apart for the type: without it nothing is joined
            return chunk
        try:
            return self._joined.feed(chunk)
        except JoinError as error:
            if error.hopeless:
                self._rescues = _MOST_RESCUES
            broken = f"{self._exchange.provider} {error}: it was to go on with one that had broken off."
        raise UpstreamError(broken, may_retry=True)

    async def _rescued(self, error: GatewayError) -> bool:
        """Find somebody who goes on, or complete what only lacks its end; tell whether the stream lives."""
        exchange, told = self._exchange, self._told
        if not self._is_rescuable(error):
            return False
        broken = answering(exchange)
        await self._leave()
        if told.is_finished:
            self._last, self._is_over = told.ending(include_usage=self._call.include_usage), True
            self._tell(broken, None, ok=True, cause=error.code)
            return True
        self._rescues += 1
        text = told.text
        try:
            second = await self._again(text if text.strip() else "", error)
        except GatewayError as other:
            self._tell(broken, None, ok=False, cause=other.code)
            return False
        self._go_on(second)
        self._tell(broken, answering(exchange), ok=True, cause=error.code)
        return True

    def _is_rescuable(self, error: GatewayError) -> bool:
        if not isinstance(error, UpstreamError | ProviderTimeoutError) or isinstance(error, UpstreamRejectedError):
            return False
        if self._told.is_done:
            return False
        if self._told.is_finished:
            return True
        if self._told.is_more or self._exchange.is_late:
            return False
        return self._rescues < _MOST_RESCUES and may_continue(self._call) and self._may()

    async def _leave(self) -> None:
        """Close the stream that broke, so that what it used is charged, and note it as a client would count it."""
        exchange, told = self._exchange, self._told
        before = exchange.usage
        known = (0, 0) if before is None else (before.prompt_tokens, before.completion_tokens)
        await self._chunks.aclose()
        self._chunks = _OVER
        # The first upstream's own count is not the answer's: from here on the exchange has that.
        self._stream.usage = None
        used = exchange.usage
        if used is not None:
            told.prompt_tokens = told.prompt_tokens or used.prompt_tokens - known[0]
            told.completion_tokens += used.completion_tokens - known[1]

    def _go_on(self, second: Streamed) -> None:
        self._chunks, second.chunks = second.chunks, _OVER  # in a circle, all would wait for the collector
        attempt = answering(self._exchange)
        exact = attempt is not None and continues_exactly(self._call, attempt.deployment)
        self._joined = Joined(self._told, exact=exact, is_json=wants_json(self._call))

    def _note(self, chunk: bytes) -> None:
        if self._heard is None:
            self._heard = Heard()
            self._stream.heard = _Both(self._stream.heard, self._heard)
        self._heard.append(chunk)

    def _tell(self, broken: Attempt | None, other: Attempt | None, *, ok: bool, cause: str) -> None:
        told: dict[str, str | int | float | bool] = {
            "from": _name(broken),
            "to": _name(other),
            "ok": ok,
            "cause": cause,
            "said_chars": sum(map(len, self._told.parts)),
        }
        self._exchange.note(Event("rescue", time.perf_counter(), told))


class _Both:
    """What was heard of the first stream, and then of the joined one."""

    def __init__(self, first: HeardSoFar | None, joined: Heard) -> None:
        self._first = first
        self._joined = joined

    def text(self) -> str:
        return ("" if self._first is None else self._first.text()) + self._joined.text()

    def tail(self) -> bytes:
        return self._joined.tail()


class _Over:
    """The chunks of a stream that is closed."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is open."""


_OVER = _Over()


def answering(exchange: Exchange) -> Attempt | None:
    """Give the latest attempt that has begun to answer and was not given up."""
    begun = (one for one in reversed(exchange.attempts) if one.first_chunk is not None)
    return next((one for one in begun if one.outcome not in {"cancelled", "superseded"}), None)


def _name(attempt: Attempt | None) -> str:
    return "" if attempt is None else f"{attempt.provider}/{attempt.model}"
