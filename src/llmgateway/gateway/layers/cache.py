"""Answers from what was kept, has identical questions asked once, and keeps what came whole."""

import asyncio
from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from llmgateway.exchange import Call, Exchange, Reply, Streamed
from llmgateway.gateway.answers.collect import CollectedChunks, is_whole, is_whole_stream
from llmgateway.gateway.answers.entry import LARGE_BYTES, MOST_BYTES, Kept, pack, unpack
from llmgateway.gateway.answers.give import give, give_whole
from llmgateway.gateway.cache_admin import Tally, answer_tags
from llmgateway.gateway.coalescing import Flights, Lead
from llmgateway.gateway.target import Answering, Target
from llmgateway.stores.base import Values
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.wire.sse import WholeStream


class Cache:
    """Gives `exchange.cached` where it may; else asks, or waits for whoever asks the same at this moment.

    Args:
        ttl_s: How long an answer is kept of which neither the client nor its model says anything.
    """

    def __init__(self, target: Target, *, values: Values, flights: Flights, tally: Tally, ttl_s: float) -> None:
        self._target = target
        self._values = values
        # Where no other process reads them, short answers are kept as they are.
        self._memory = values if isinstance(values, MemoryValues) else None
        self._flights = flights
        self._tally = tally
        self._ttl_s = ttl_s

    def send(self, exchange: Exchange, call: Call) -> Answering:
        key, ask, value = exchange.cache_key, exchange.cache_ask, exchange.cached
        if key is None:
            return self._target.send(exchange, call)
        exchange.cached = None
        if ask is not None and ask.no_cache:
            return self._ask(exchange, call, key, Lead())
        if value is not None:
            return self._give(exchange, call, key, value)
        lead = self._flights.lead(key)
        return self._together(exchange, call, key) if lead is None else self._ask(exchange, call, key, lead)

    async def _give(self, exchange: Exchange, call: Call, key: str, value: object) -> Reply:
        """Give what was kept; ask when it cannot be read, or not be had in the form that is asked for."""
        kept = value if isinstance(value, Kept) else await _read(value)
        reply: Reply | None = None
        if kept is not None and kept.body and not call.stream:
            reply = give_whole(exchange, kept, "HIT", "exact")
        elif kept is not None:
            reply = await give(exchange, call, kept, "HIT", "exact")
        if reply is None:
            return await self._together(exchange, call, key)
        self._tally.hits += 1
        return reply

    async def _together(self, exchange: Exchange, call: Call, key: str) -> Reply:
        """Ask for all who ask the same, or take what another is answered."""
        # Whole answers and streams fly together: each is made of the other.
        joined = await self._flights.join(key, exchange.deadline, name=exchange.id, holder=exchange.claimed)
        if isinstance(joined, Kept):
            reply = await give(exchange, call, joined, "COALESCED", None)
            if reply is not None:
                self._tally.coalesced += 1
                return reply
            joined = None
        return await self._ask(exchange, call, key, joined or Lead())

    async def _ask(self, exchange: Exchange, call: Call, key: str, lead: Lead) -> Reply:
        exchange.cache_status = "MISS"
        try:
            reply = await self._target.send(exchange, call)
        except Exception:
            lead.fail()
            raise
        except BaseException:
            lead.leave()
            raise
        tally = self._tally
        if exchange.cache_status == "MISS":
            tally.misses += 1
        else:  # a layer further in has found an answer of its own
            tally.hits += 1
            tally.semantic_hits += 1
        if isinstance(reply, Streamed):
            keeping, coming = _Keeping(self, exchange, call, key, lead, reply), reply.chunks
            if isinstance(coming, WholeStream):
                keeping.whole((coming.events,))
                return reply
            reply.chunks = chunks = CollectedChunks(coming, keeping)
            lead.watch(chunks)
            # Whatever becomes of this request, those who wait for it are not forgotten.
            exchange.at_end.append(lead.leave)
        elif len(reply.body) <= MOST_BYTES and (is_whole(call, reply.body) if reply.whole is None else reply.whole):
            kept = Kept(reply.body, (), None, exchange.provider, exchange.upstream_model, reply.model)
            self.keep(exchange, call, key, lead, kept)
        else:
            lead.fail()
        return reply

    def keep(self, exchange: Exchange, call: Call, key: str, lead: Lead, kept: Kept) -> None:
        """Give an answer to all who wait for it, and keep it, unless it stands in for another; large ones later."""
        lead.land(kept)
        if exchange.cache_status != "MISS" or (exchange.events and _has_stood_in(exchange)):
            lead.done(kept=False)
        elif self._memory is not None and kept.is_short:
            self._put(exchange, call, key, lead, kept)
        elif kept.size_bytes <= LARGE_BYTES:
            self._put(exchange, call, key, lead, pack(kept))
        else:
            packing = asyncio.get_running_loop().run_in_executor(None, pack, kept)
            packing.add_done_callback(partial(self._packed, exchange, call, key, lead))

    def _packed(self, exchange: Exchange, call: Call, key: str, lead: Lead, packing: "asyncio.Future[bytes]") -> None:
        if not packing.cancelled() and packing.exception() is None:
            self._put(exchange, call, key, lead, packing.result())
        else:
            lead.done(kept=False)

    def _put(self, exchange: Exchange, call: Call, key: str, lead: Lead, value: bytes | Kept) -> None:
        """Put an answer where it is found, for as long as the client, its model or the setting says."""
        model, ask = exchange.model, exchange.cache_ask
        ttl_s = None if ask is None else ask.ttl_s
        if ttl_s is None:
            ttl_s = self._ttl_s if model is None or model.cache_ttl_s is None else model.cache_ttl_s
        name = call.model if model is None else model.name
        tags = answer_tags(call.user, name, exchange.organization, exchange.caller.key_id)
        if self._memory is not None:
            self._memory.put(key, value, ttl_s, tags)
        elif isinstance(value, bytes):
            self._values.put(key, value, ttl_s, tags.of(key))
        self._tally.stored += 1
        lead.done(kept=True)


# Another model's answer is good enough for now, not for an hour.
_STOOD_IN = frozenset({"fallback", "rescue"})


class _Keeping(Struct, eq=False):
    """What becomes of one stream that is on its way: told to those who wait for it, and kept."""

    cache: Cache
    exchange: Exchange
    call: Call
    key: str
    lead: Lead
    reply: Streamed

    def whole(self, chunks: Sequence[bytes]) -> None:
        if is_whole_stream(self.call, chunks):
            exchange, reply = self.exchange, self.reply
            usage = reply.usage or exchange.usage
            kept = Kept(b"", tuple(chunks), usage, exchange.provider, exchange.upstream_model, reply.model)
            self.cache.keep(exchange, self.call, self.key, self.lead, kept)
        else:
            # An answer that was cut is this client's alone: another may have better luck.
            self.lead.fail()

    def broken(self) -> None:
        self.lead.fail()

    def left(self) -> None:
        self.lead.leave()


async def _read(value: object) -> Kept | None:
    if not isinstance(value, bytes):
        return None
    return unpack(value) if len(value) <= LARGE_BYTES else await asyncio.to_thread(unpack, value)


def _has_stood_in(exchange: Exchange) -> bool:
    return any(event.name in _STOOD_IN for event in exchange.events)
