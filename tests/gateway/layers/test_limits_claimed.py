"""The claim that a call takes on the way on which it asks for leave (pitfall 81)."""

import asyncio

import pytest
from typing_extensions import override

from llmgateway.caller import CacheAsk
from llmgateway.exchange import Call, Exchange
from llmgateway.stores.base import Ask, Claim, Decision, Held, StoreAwayError
from tests.gateway.desk import BODY, CLIENT, RICH, Desk, desk, tier
from tests.gateway.scripted_store import ScriptedLimiter, ScriptedStore, ScriptedValues

KEY = "answer:1"
FLIGHT = "flight:answer:1"
ASKED = Call("chat", "chat", BODY)
REFUSAL = Decision(allowed=False, refused_by="key.requests_per_minute", retry_after_s=2)


class World:
    """A shared store, and the layer before it."""

    def __init__(self, limiter: ScriptedLimiter | None = None, *, counts: bool = True, away: bool = False) -> None:
        self.values = ScriptedValues(away=away)
        self.store = ScriptedStore(limiter or ScriptedLimiter(), self.values, shared=True)
        self.desk: Desk = desk(self.store, tier(requests_per_minute=6), enabled=counts)

    async def refused(self) -> Exchange:
        return (await self.desk.refused(cache_key=KEY))[1]


async def test_pitfall_081_a_call_is_claimed_on_the_way_on_which_it_asks_for_leave() -> None:
    world = World()

    exchange = await world.desk.ask(cache_key=KEY)

    assert exchange.claimed == exchange.id.encode()
    assert world.store.limiter.claims == [Claim(FLIGHT, exchange.claimed, 5.0)]
    assert world.values.released == []


async def test_pitfall_081_where_nothing_is_counted_it_is_claimed_on_the_way_that_reads() -> None:
    world = World(counts=False)

    first, second = await world.desk.ask(cache_key=KEY), await world.desk.ask(cache_key=KEY)

    assert first.claimed == second.claimed == first.id.encode()
    world.values.kept[KEY] = b"kept"
    third = await world.desk.ask(cache_key=KEY)
    assert (third.cached, third.claimed) == (b"kept", None)


async def test_without_the_store_nobody_has_a_claim() -> None:
    exchange = await World(counts=False, away=True).desk.ask(cache_key=KEY)

    assert (exchange.cached, exchange.claimed) == (None, None)


async def test_a_claim_of_a_call_that_may_not_pass_is_given_back() -> None:
    world = World(ScriptedLimiter([REFUSAL]))

    exchange = await world.refused()

    assert world.values.released == [(FLIGHT, exchange.id.encode())]


@pytest.mark.parametrize("limiter", [ScriptedLimiter(value=b"kept"), ScriptedLimiter(holder=b"another")])
async def test_nothing_is_given_back_that_was_not_taken(limiter: ScriptedLimiter) -> None:
    world = World(limiter)
    limiter.decisions.append(REFUSAL)

    await world.refused()

    assert world.values.released == []


@pytest.mark.parametrize("error", [StoreAwayError(), None])
async def test_a_claim_of_which_no_answer_came_is_given_back(error: StoreAwayError | None) -> None:
    class Silent(ScriptedLimiter):
        @override
        async def reserve(
            self, ask: Ask, read: str | None = None, claim: Claim | None = None
        ) -> tuple[Decision, bytes | Held | None]:
            if error is not None:
                raise error
            await asyncio.Event().wait()
            raise AssertionError

    world = World(Silent())
    exchange = world.desk.exchange(CLIENT, KEY)
    asking = asyncio.ensure_future(world.desk.layer.send(exchange, ASKED))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])

    assert world.values.released == [(FLIGHT, exchange.id.encode())]


async def test_who_leaves_while_the_kept_answer_is_read_gives_its_claim_back() -> None:
    class Silent(ScriptedValues):
        @override
        async def get_or_claim(self, key: str, claim: Claim) -> bytes | Held | None:
            await asyncio.Event().wait()
            return None

    values = Silent()
    silent = desk(ScriptedStore(values=values, shared=True), enabled=False)
    exchange = silent.exchange(CLIENT, KEY)
    asking = asyncio.ensure_future(silent.layer.send(exchange, ASKED))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])

    assert values.released == [(FLIGHT, exchange.id.encode())]


async def test_who_wants_no_kept_answer_reads_and_claims_none_and_is_not_let_pass_for_one() -> None:
    refusal = Decision(allowed=False, refused_by="key.budget", unit="money")
    world = World(ScriptedLimiter([refusal], value=b"kept"))
    exchange = world.desk.exchange(RICH, KEY)
    exchange.cache_ask = CacheAsk(no_cache=True)

    with pytest.raises(Exception, match="budget"):
        await world.desk.layer.send(exchange, ASKED)

    assert (world.store.limiter.reads, world.store.limiter.claims) == ([None], [None])
    assert world.desk.answers.calls == 0


async def test_a_purse_that_must_be_seeded_first_leaves_the_claim_as_it_is() -> None:
    world = World(ScriptedLimiter(asks_for_seeds=True))

    exchange = await world.desk.ask(RICH, cache_key=KEY)

    assert [claim is None for claim in world.store.limiter.claims] == [False, True]
    assert exchange.claimed == exchange.id.encode()
    assert world.values.released == []
