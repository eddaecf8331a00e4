"""Gives a kept answer to another call: whole or as a stream, whichever it asks for, however it was kept."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeVar

from llmgateway.exchange import Call, Complete, Event, Exchange, Reply, Streamed
from llmgateway.gateway.answers.entry import LARGE_BYTES, Kept
from llmgateway.gateway.answers.replay import replay
from llmgateway.gateway.answers.whole import whole
from llmgateway.routing.heard import Heard

# So many chunks of a stream go out before others have their turn.
_CHUNKS_A_TURN = 16

T = TypeVar("T")


async def give(exchange: Exchange, call: Call, kept: Kept, status: str, cache_type: str | None) -> Reply | None:
    """Answer a call with what was kept, and note whose answer it is; `None` when it cannot be had in this form.

    Args:
        status: `HIT` or `COALESCED`.
        cache_type: Of a hit: `exact` or `semantic`.
    """
    if kept.body and not call.stream:
        return give_whole(exchange, kept, status, cache_type)
    reply = await _in_form(call, kept)
    if reply is not None:
        _note(exchange, kept, status, cache_type)
    return reply


def give_whole(exchange: Exchange, kept: Kept, status: str, cache_type: str | None) -> Complete:
    """Answer a call for a whole answer with the one that was kept."""
    _note(exchange, kept, status, cache_type)
    return Complete(kept.body, model=kept.model)


def _note(exchange: Exchange, kept: Kept, status: str, cache_type: str | None) -> None:
    exchange.cache_status, exchange.cache_type = status, cache_type
    exchange.provider, exchange.upstream_model = kept.provider, kept.upstream_model
    exchange.usage, exchange.cost_usd = None, 0.0
    if cache_type is not None:
        exchange.note(Event("cache_hit", time.perf_counter(), {"type": cache_type}))


async def _in_form(call: Call, kept: Kept) -> Reply | None:
    """Put a kept answer in the form that a call asks for."""
    if not call.stream:
        body = await _converted(kept, lambda: whole(kept.chunks, kept.usage))
        return Complete(body, model=kept.model) if body else None
    chunks = kept.chunks or await _converted(kept, lambda: replay(kept.body, include_usage=call.include_usage))
    if not chunks:
        return None
    heard = Heard()
    for chunk in chunks:
        heard.append(chunk)
    return Streamed(_given(chunks), model=kept.model, heard=heard)


async def _converted(kept: Kept, convert: Callable[[], T | None]) -> T | None:
    return convert() if kept.size_bytes <= LARGE_BYTES else await asyncio.to_thread(convert)


async def _given(chunks: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
    for number, chunk in enumerate(chunks, 1):
        yield chunk
        if number % _CHUNKS_A_TURN == 0:
            await asyncio.sleep(0)
