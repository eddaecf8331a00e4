"""Leave to ask: slots and money."""

import asyncio

import pytest

from llmgateway.errors import MaxCostError
from llmgateway.exchange import Exchange
from llmgateway.jobs.running.leave import Purse, Room
from llmgateway.jobs.running.means import Means
from llmgateway.jobs.running.reins import PulledError, Reins
from llmgateway.storage.jobs.rows import Lease
from llmgateway.stores.base import Ask, Claim, Decision, Held, StoreAwayError
from tests.jobs.rig import Rig
from tests.jobs.scripted import Says, recipe_of


def means() -> Means:
    return Rig(Says()).runner._means  # noqa: SLF001  what a process gives all its runs


def room(given: Means, most: int | None = 1, fence: int = 1, reins: Reins | None = None) -> Room:
    recipe = recipe_of(max_concurrent_requests=most)
    return Room(given, Lease("job-1", fence), recipe, (reins or Reins()).check)


async def test_a_flavor_without_a_most_needs_no_slot() -> None:
    assert await room(means(), most=None).enter("a") is None


async def test_a_slot_is_waited_for_and_passed_on_at_once() -> None:
    given = means()
    first, second = room(given), room(given)
    held = await first.enter("a")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(second.enter("b"))
        await asyncio.sleep(0)
        assert not waiting.done()
        first.leave(held)

    assert waiting.result() is not None


async def test_whoever_goes_on_after_a_worker_that_died_has_its_slot() -> None:
    given = means()
    await room(given, fence=1).enter("a")

    async with asyncio.timeout(5):
        assert await room(given, fence=2).enter("a") is not None


async def test_nobody_waits_for_a_slot_whose_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.jobs.running.leave._POLL_S", 0.01)
    given, reins = means(), Reins()
    await room(given).enter("a")
    reins.pull("stop")

    with pytest.raises(PulledError):
        await room(given, reins=reins).enter("b")


async def test_counters_that_are_away_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.jobs.running.leave._POLL_S", 0.01)
    given, asked = means(), 0
    reserve = given.limiter.reserve

    async def away_once(
        ask: Ask, read: str | None = None, claim: Claim | None = None
    ) -> tuple[Decision, bytes | Held | None]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreAwayError("away")
        return await reserve(ask, read, claim)

    monkeypatch.setattr(given.limiter, "reserve", away_once)

    assert await room(given).enter("a") is not None


def purse(most_usd: float | None, spent_nusd: int = 0, **prices: float | None) -> Purse:
    from msgspec import structs  # noqa: PLC0415

    recipe = structs.replace(recipe_of(max_cost_usd=most_usd), **prices)
    return Purse(recipe, spent_nusd, Reins().check)


async def test_no_most_and_no_price_are_no_limit() -> None:
    assert await purse(None).has_room(10**18)
    assert purse(None).is_open
    assert not purse(None).is_blind
    blind = purse(1.0, input_usd=None)
    assert await blind.has_room(10**18)
    assert blind.is_blind


async def test_a_call_that_would_pass_the_most_does_not_begin() -> None:
    assert purse(1.0).estimate(1000, 500) == 2_000_000
    assert await purse(0.003, 1_000_000).has_room(2_000_000)
    with pytest.raises(MaxCostError, match="max_cost_usd"):
        await purse(0.003, 1_000_001).has_room(2_000_000)


async def test_a_call_waits_for_those_in_flight_which_may_cost_less() -> None:
    held = purse(0.003)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        with held.holding(2_000_000):
            waiting = group.create_task(held.has_room(2_000_000))
            await asyncio.sleep(0)
            assert not waiting.done()
            held.spend(Exchange(cost_usd=0.001))

    assert waiting.result() is False
    assert await held.has_room(2_000_000)


async def test_nobody_waits_for_money_whose_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.jobs.running.leave._POLL_S", 0.01)
    reins = Reins()
    held = Purse(recipe_of(max_cost_usd=0.003), 0, reins.check)
    with held.holding(2_000_000):
        reins.pull("stop")
        with pytest.raises(PulledError):
            await held.has_room(2_000_000)
