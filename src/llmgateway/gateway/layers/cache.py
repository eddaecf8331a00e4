"""Answers from what was kept, has identical questions asked once, and keeps what came whole."""

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct

from llmgateway.exchange import Call, Complete, Exchange, Reply, Streamed
from llmgateway.gateway.answers.collect import CollectedChunks, is_whole, is_whole_stream
from llmgateway.gateway.answers.entry import LARGE_BYTES, MOST_BYTES, Kept, pack, unpack
from llmgateway.gateway.answers.give import give
from llmgateway.gateway.cache_admin import Tally, name_tag, tags_of
from llmgateway.gateway.coalescing import Flights, Lead
from llmgateway.gateway.target import Answering, Target
from llmgateway.stores.base import Values


class Cache:
    """Gives `exchange.cached` where it may; else asks, or waits for whoever asks the same at this moment.

    Args:
        ttl_s: How long an answer is kept of which neither the client nor its model says anything.
        now: Unix seconds.
    """

    def __init__(
        self,
        target: Target,
        *,
        values: Values,
        flights: Flights,
        tally: Tally,
        ttl_s: float,
        now: Callable[[], float],
    ) -> None:
        self._target = target
        self._values = values
        self._flights = flights
        self._tally = tally
        self._ttl_s = ttl_s
        self._now = now

    def send(self, exchange: Exchange, call: Call) -> Answering:
        key = exchange.cache_key
        return self._target.send(exchange, call) if key is None else self._send_kept(exchange, call, key)

    async def _send_kept(self, exchange: Exchange, call: Call, key: str) -> Reply:
        ask, value = exchange.cache_ask, exchange.cached
        exchange.cached = None
        if ask is not None and ask.no_cache:
            return await self._ask(exchange, call, key, None)
        if value is not None:
            kept = unpack(value) if len(value) <= LARGE_BYTES else await asyncio.to_thread(unpack, value)
            reply = None if kept is None else await give(exchange, call, kept, "HIT", "exact")
            if reply is not None:
                self._tally.hits += 1
                return reply
        return await self._together(exchange, call, key)

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
        return await self._ask(exchange, call, key, joined)

    async def _ask(self, exchange: Exchange, call: Call, key: str, lead: Lead | None) -> Reply:
        exchange.cache_status = "MISS"
        keeping = _Keeping(self, exchange, call, key, lead)
        if lead is not None:
            # Whatever becomes of this request, those who wait for it are not forgotten.
            exchange.at_end.append(lead.leave)
        try:
            reply = await self._target.send(exchange, call)
        except Exception:
            keeping.broken()
            raise
        except BaseException:
            keeping.left()
            raise
        # A layer further in may have found an answer of its own.
        found = exchange.cache_status != "MISS"
        if found:
            self._tally.hits += 1
            self._tally.semantic_hits += 1
        else:
            self._tally.misses += 1
        keeping.reply = reply
        if isinstance(reply, Streamed):
            reply.chunks = chunks = CollectedChunks(reply.chunks, keeping)
            if lead is not None:
                lead.stream = chunks
        else:
            keeping.complete(reply)
        return reply

    def keep(self, exchange: Exchange, call: Call, key: str, kept: Kept, done: Callable[[bool], None]) -> None:
        """Keep an answer for as long as the client, its model or the setting says; large ones are packed beside."""
        model, ask = exchange.model, exchange.cache_ask
        ttl_s = ask.ttl_s if ask is not None else None
        if ttl_s is None:
            ttl_s = model.cache_ttl_s if model is not None and model.cache_ttl_s is not None else self._ttl_s
        name = call.model if model is None else model.name
        whose = {"organization_id": exchange.organization, "key_id": exchange.caller.key_id}
        tags = (*tags_of(user=call.user, model=name, **whose), name_tag(call.user, name, key))

        def put(packed: bytes) -> None:
            self._values.put(key, packed, ttl_s, tags)
            self._tally.stored += 1
            done(True)

        kept.created = self._now()
        if kept.size_bytes <= LARGE_BYTES:
            put(pack(kept))
            return
        packing = asyncio.get_running_loop().run_in_executor(None, pack, kept)
        packing.add_done_callback(lambda packed: done(False) if _failed(packed) else put(packed.result()))


# Another model's answer is good enough for now, not for an hour.
_STOOD_IN = frozenset({"fallback", "rescue"})


class _Keeping(Struct, eq=False):
    """What becomes of one answer that is on its way: told to those who wait for it, and kept."""

    cache: Cache
    exchange: Exchange
    call: Call
    key: str
    lead: Lead | None
    reply: Reply | None = None

    def complete(self, reply: Complete) -> None:
        self._take(Kept(body=reply.body), whole=is_whole(self.call, reply.body))

    def whole(self, chunks: Sequence[bytes]) -> None:
        self._take(Kept(chunks=tuple(chunks)), whole=is_whole_stream(self.call, chunks))

    def broken(self) -> None:
        if self.lead is not None:
            self.lead.fail()

    def left(self) -> None:
        if self.lead is not None:
            self.lead.leave()

    def _take(self, kept: Kept, *, whole: bool) -> None:
        exchange, reply, lead = self.exchange, self.reply, self.lead
        if not whole or kept.size_bytes > MOST_BYTES:
            # An answer that was cut is this client's alone: another may have better luck.
            self.broken()
            return
        kept.usage = (reply.usage if reply is not None else None) or exchange.usage
        kept.model = reply.model if reply is not None else None
        kept.provider, kept.upstream_model = exchange.provider, exchange.upstream_model
        kept.cost_usd = exchange.cost_usd
        if lead is not None:
            lead.land(kept)
        if exchange.cache_status != "MISS" or any(event.name in _STOOD_IN for event in exchange.events):
            self._done(False)
            return
        self.cache.keep(exchange, self.call, self.key, kept, self._done)

    def _done(self, kept: bool) -> None:
        if self.lead is not None:
            self.lead.done(kept=kept)


def _failed(packing: "asyncio.Future[bytes]") -> bool:
    return packing.cancelled() or packing.exception() is not None
