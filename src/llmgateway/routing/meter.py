"""A stream while it passes: the time limits between its events, what it used, and how its attempt ends."""

import asyncio
import time
from typing import Self

from llmgateway.errors import GatewayError
from llmgateway.exchange import Call, Exchange, Streamed, Usage
from llmgateway.routing.charge import Charge
from llmgateway.routing.health.begun import Begun
from llmgateway.routing.heard import Heard
from llmgateway.routing.limit import TimeLimit
from llmgateway.wire.sse import ENDS

_BYTES_A_TOKEN = 4  # about, in most languages: for text that is too long to be kept


class MeteredChunks:
    """Passes chunks on; a silence longer than `idle_s`, or the end of the request's time, ends the stream.

    One timer a stream, set anew only when it fires: a chunk costs a few assignments. Time that the reader takes is not
    the upstream's silence and does not count. Usage and cost are in the exchange before the last chunk is given.
    """

    __slots__ = (
        *("_begun", "_call", "_charge", "_charged", "_chunks", "_exchange", "_heard"),
        *("_idle_s", "_is_silent", "_limit", "_stream", "_waits_since"),
    )

    def __init__(
        self, stream: Streamed, call: Call, begun: Begun, exchange: Exchange, *, idle_s: float, charge: Charge
    ) -> None:
        self._stream = stream
        self._chunks = stream.chunks
        self._call = call
        self._begun = begun
        self._exchange = exchange
        self._idle_s = idle_s
        self._charge = charge
        self._charged = False
        self._is_silent = False  # it broke off because its upstream did, not because the request's time is over
        self._heard = stream.heard = Heard()
        self._waits_since: float | None = None
        self._limit = TimeLimit(max(0.0, self._remaining_s()), self._verdict)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        limit = self._limit
        limit.task = asyncio.current_task(limit.loop)  # to find out the loop takes longer than to find the task
        self._waits_since = time.perf_counter()
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            await self._complete()
            raise
        except asyncio.CancelledError:
            late = self._limit.cancelled()
            self._limit.stop()
            if late is None:
                self._begun.left()
                raise
            self._begun.late(late, counts=self._is_silent)
            await self._chunks.aclose()
            try:
                raise late from None
            finally:
                late = None  # its traceback holds this frame: in a circle, both would wait for the collector
        except GatewayError as error:
            self._limit.stop()
            self._begun.refused(error)
            raise
        self._waits_since = None
        self._heard.append(chunk)
        if chunk.endswith(ENDS):
            await self._complete()
        return chunk

    async def aclose(self) -> None:
        self._limit.stop()
        self._begun.left()
        await self._chunks.aclose()
        if not self._charged:
            self._add(await self._counted())

    async def _complete(self) -> None:
        self._limit.stop()
        self._begun.end("ok")
        if not self._charged:
            # A client that leaves meanwhile is charged by `aclose`.
            self._add(self._stream.usage or await self._counted())

    def _add(self, usage: Usage) -> None:
        self._charged = True
        self._charge.add(self._exchange, self._begun.attempt.deployment, usage)

    async def _counted(self) -> Usage:
        heard, told = self._heard, self._stream.usage
        usage = await self._charge.counted(self._call, heard.text(), self._begun.attempt.deployment, told=told)
        usage.completion_tokens += heard.beyond_bytes // _BYTES_A_TOKEN
        return usage

    def _remaining_s(self) -> float:
        now = time.perf_counter()
        remaining_s = self._idle_s - (now - self._waits_since) if self._waits_since is not None else self._idle_s
        if self._exchange.deadline is not None:
            remaining_s = min(remaining_s, self._exchange.deadline - now)
        return remaining_s

    def _verdict(self) -> str | float:
        remaining_s = self._remaining_s()
        if remaining_s > 0 or self._waits_since is None:
            # A deadline that passes while the reader is slow is seen again soon.
            return max(remaining_s, 0.05)
        provider = self._begun.attempt.provider
        if self._exchange.deadline is not None and time.perf_counter() >= self._exchange.deadline:
            return f"{provider} did not complete its answer in time."
        self._is_silent = True
        return f"{provider} was silent for {self._idle_s:.3g} s in the middle of its answer."
