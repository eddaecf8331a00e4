import asyncio
from datetime import UTC, datetime

import pytest

from llmgateway.stores.base import Ask, Claim, Purse, Rate, Reservation, Rules, Slots
from llmgateway.stores.memory.limiter import MemoryLimiter
from tests.stores.rig import Rig, cooldown, purse, rate, slots
from tests.timing import relative_cost


def test_asking_never_waits() -> None:
    waiting = MemoryLimiter(read=lambda key: key.encode()).reserve(Ask("a", Rules((rate(60, 1),)), 0, 0, 1.0), "kept")

    with pytest.raises(StopIteration) as ended:
        waiting.send(None)
    decision, value = ended.value.value
    assert (decision.allowed, value) == (True, b"kept")


async def test_nobody_shares_it_so_nothing_is_claimed() -> None:
    ask = Ask("a", Rules((rate(60, 1),)), 0, 0, 1.0)

    assert (await MemoryLimiter().reserve(ask, "answer:1", Claim("flight:1", b"mine", 5.0)))[1] is None


async def test_the_clock_is_that_of_the_wall() -> None:
    limiter = MemoryLimiter()
    spent = purse(10, datetime.now(UTC).timestamp() + 100)
    await limiter.seed(spent, 10)

    assert 99 < limiter.reserve_now(Ask("a", Rules(purses=(spent,)), 0, 0, 1.0)).retry_after_s <= 100


async def test_what_nobody_uses_any_more_is_forgotten_little_by_little() -> None:
    rig = Rig()
    for at in range(20_000):
        name = f"{at}:"
        rules = Rules((rate(60, 10, key=name),), (slots(1, name),), (), (purse(5, rig.now_s, name),))
        if at % 1000 == 0:
            await rig.limiter.seed(rules.purses[0], 0)
        await rig.ask(name, rules)
        rig.now_s += 0.01
        rig.limiter.settle(Reservation(Ask(name, rules, 0, 0, 1.0), 0), tokens=0, cost_nusd=0)

    assert isinstance(rig.limiter, MemoryLimiter)
    assert len(rig.limiter) < 4000


async def test_what_the_last_rule_or_every_choice_refuses_takes_nothing_of_the_others() -> None:
    rig = Rig()
    rates = (rate(60, 5), rate(6000, 1000, unit="tokens"))
    rules = Rules(rates, (slots(3),), (), (purse(100), purse(5, key="small")))
    full = Rules(slots=(slots(0, "full"),))
    for one in rules.purses:
        await rig.limiter.seed(one, 0)

    spent = await rig.ask("a", rules, tokens=10, nusd=10)
    no_choice = await rig.ask("b", rules, tokens=10, nusd=5, choices=(full,))

    assert (spent.allowed, spent.unit, no_choice.allowed, no_choice.of_choice) == (False, "money", False, True)
    standing = await rig.look(rules)
    assert [state.remaining for state in standing.rates] == [5, 1000]
    assert (standing.slots, standing.spent_nusd) == ([0], [0, 0])


async def test_what_is_in_use_is_never_forgotten() -> None:
    rig = Rig()
    rules = Rules((rate(60, 10),), (slots(3),), (cooldown(3600.0, after=1),))
    assert await rig.passed(3, rules, lease_s=3600.0) == 3
    for at in range(5000):
        await rig.ask(str(at), Rules((rate(60, 1, key=f"{at}:"),), (slots(1, f"{at}:"),)))

    standing = await rig.look(rules)
    assert (standing.rates[0].remaining, standing.slots) == (7, [3])


async def test_rules_of_the_same_key_made_anew_for_each_call_are_one() -> None:
    rig = Rig()

    assert sum([(await rig.ask(str(at), Rules((rate(60, 10),)))).allowed for at in range(5000)]) == 10


async def test_two_sets_of_rules_that_differ_in_a_limit_hold_for_each_its_own() -> None:
    rig = Rig()
    narrow, wide = Rules((rate(60, 5),)), Rules((rate(60, 10),))
    passed = [(await rig.ask(str(at), rules)).allowed for at in range(10) for rules in (narrow, wide)]

    assert passed[0::2].count(True) == 3
    assert passed[1::2].count(True) == 7


async def test_pitfall_031_parallel_tasks_never_hold_more_than_all_slots() -> None:
    limiter, rules = MemoryLimiter(), Rules(slots=(slots(4),))
    flights = most = 0

    async def call(at: int) -> None:
        nonlocal flights, most
        ask = Ask(str(at), rules, 0, 0, 60.0)
        for _ in range(20):
            decision, _ = await limiter.reserve(ask)
            if not decision.allowed:
                await asyncio.sleep(0)
                continue
            flights += 1
            most = max(most, flights)
            await asyncio.sleep(0)
            flights -= 1
            limiter.settle(Reservation(ask, 0), tokens=0, cost_nusd=0)

    await asyncio.gather(*(call(at) for at in range(50)))
    assert most == 4
    assert (await limiter.look(rules)).slots == [0]


@pytest.mark.alone
async def test_five_rules_cost_some_five_microseconds() -> None:
    """Both asking leave and settling; the unit is some three microseconds."""
    rules = Rules(
        (
            Rate("rpm", "rpm", "requests", 6_000_000, 60.0, 1_000_000),
            Rate("rph", "rph", "requests", 360_000_000, 3600.0, 60_000_000),
            Rate("tpm", "tpm", "tokens", 3_000_000_000, 60.0, 3_000_000_000),
        ),
        (Slots("slots", "slots", 100),),
        (),
        (Purse("budget", "budget", "key", "key_1", 10**15),),
    )
    limiter = MemoryLimiter(spent=lambda _, __: None)
    await limiter.seed(rules.purses[0], 0)
    ask = Ask("req_1", rules, 500, 1000, 60.0)

    def call() -> None:
        decision = limiter.reserve_now(ask)
        limiter.settle(Reservation(ask, decision.choice), tokens=400, cost_nusd=900)

    assert relative_cost(call, number=2000) < 3
    assert limiter.reserve_now(ask).allowed
