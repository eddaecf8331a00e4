"""A stream while it passes: the time limits between its events, and how its attempt ends."""

import asyncio
import time
from typing import Self

from llmgateway.errors import GatewayError, ProviderTimeoutError
from llmgateway.exchange import Attempt, Chunks, Exchange


class MeteredChunks:
    """Passes chunks on; a silence longer than `idle_s`, or the end of the request's time, ends the stream.

    One timer a stream, set anew only when it fires: a chunk costs two assignments. Time that the reader takes is not
    the upstream's silence and does not count.
    """

    __slots__ = ("_attempt", "_chunks", "_exchange", "_expired", "_idle_s", "_loop", "_task", "_timer", "_waits_since")

    def __init__(self, chunks: Chunks, attempt: Attempt, exchange: Exchange, *, idle_s: float) -> None:
        self._chunks = chunks
        self._attempt = attempt
        self._exchange = exchange
        self._idle_s = idle_s
        self._waits_since: float | None = None
        self._expired: str | None = None
        self._task: asyncio.Task[object] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._remaining_s(), self._check)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._task = asyncio.current_task()
        self._waits_since = time.perf_counter()
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            self._end("ok")
            raise
        except asyncio.CancelledError:
            await self._stopped()
            raise
        except GatewayError as error:
            self._end(error.code)
            raise
        self._waits_since = None
        return chunk

    async def aclose(self) -> None:
        self._end("cancelled")
        await self._chunks.aclose()

    async def _stopped(self) -> None:
        """Tell our own timer from a client that left. Raises: ProviderTimeoutError."""
        if self._expired is None or self._task is None:
            self._end("cancelled")
            return
        self._task.uncancel()
        self._end(ProviderTimeoutError.code)
        await self._chunks.aclose()
        raise ProviderTimeoutError(self._expired)

    def _remaining_s(self) -> float:
        now = time.perf_counter()
        remaining_s = self._idle_s - (now - self._waits_since) if self._waits_since is not None else self._idle_s
        if self._exchange.deadline is not None:
            remaining_s = min(remaining_s, self._exchange.deadline - now)
        return remaining_s

    def _check(self) -> None:
        remaining_s = self._remaining_s()
        late = self._exchange.deadline is not None and time.perf_counter() >= self._exchange.deadline
        if remaining_s > 0 or self._waits_since is None:
            # A deadline that passes while the reader is slow is seen again soon.
            self._timer = self._loop.call_later(max(remaining_s, 0.05), self._check)
        elif self._task is not None:
            provider = self._attempt.provider
            silence = f"{provider} was silent for {self._idle_s:.3g} s in the middle of its answer."
            self._expired = f"{provider} did not complete its answer in time." if late else silence
            self._task.cancel()

    def _end(self, outcome: str) -> None:
        self._timer.cancel()
        if self._attempt.ended is None:
            self._attempt.ended = time.perf_counter()
            self._attempt.outcome = outcome
