"""What every limiter does, in memory and in Redis alike."""

import pytest

from llmgateway.stores.base import Purse, Rules
from tests.stores.conftest import StartLink
from tests.stores.rig import Rig, cooldown, purse, rate, slots


@pytest.fixture(params=["memory", "redis"])
async def rig(request: pytest.FixtureRequest, start_link: StartLink) -> Rig:
    return Rig(await start_link() if request.param == "redis" else None)


async def test_a_burst_passes_at_once_and_then_the_rate(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 10),))

    assert await rig.passed(20, rules) == 10
    rig.now_s += 5
    assert await rig.passed(20, rules) == 5
    rig.now_s += 1000
    assert await rig.passed(20, rules) == 10


async def test_a_limit_that_divides_no_microsecond_is_exact_all_the_same(rig: Rig) -> None:
    rules = Rules(rates=(rate(7, 7, unit="tokens"),))

    assert await rig.passed(9, rules, tokens=1) == 7
    rig.now_s += 60
    assert await rig.passed(9, rules, tokens=1) == 7


async def test_headers_and_retry_after_come_from_the_same_numbers(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 2), rate(6000, 1000, unit="tokens")))

    first = await rig.ask("a", rules, tokens=300)
    await rig.ask("b", rules, tokens=300)
    refused = await rig.ask("c", rules, tokens=300)

    assert [(state.remaining, state.reset_s) for state in first.states] == [(1, 1.0), (700, 3.0)]
    assert [(state.remaining, state.reset_s) for state in refused.states] == [(0, 2.0), (400, 6.0)]
    assert (refused.allowed, refused.refused_by, refused.unit) == (False, "key.requests", "requests")
    assert refused.retry_after_s == 1.0
    rig.now_s += 1
    assert (await rig.ask("c", rules, tokens=300)).allowed


async def test_of_several_that_refuse_the_slowest_is_named(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 1), rate(60, 100, unit="tokens")), slots=(slots(1),))
    await rig.ask("a", rules, tokens=100)

    refused = await rig.ask("b", rules, tokens=50)

    assert (refused.refused_by, refused.unit, refused.retry_after_s) == ("key.tokens", "tokens", 50.0)


async def test_a_refused_call_takes_nothing(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 5), rate(600, 100, unit="tokens")), slots=(slots(1),), purses=(purse(100),))
    await rig.limiter.seed(rules.purses[0], 0)
    await rig.ask("a", rules, tokens=10, nusd=10)
    before = await rig.look(rules)

    assert not (await rig.ask("b", rules, tokens=10, nusd=10)).allowed
    assert await rig.look(rules) == before


async def test_more_tokens_than_the_burst_count_as_the_burst_and_are_a_debt_afterwards(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 100, unit="tokens"),))

    assert (await rig.ask("a", rules, tokens=5000)).allowed
    await rig.settle("a", tokens=160)

    refused = await rig.ask("b", rules, tokens=1)
    assert (refused.retry_after_s, refused.states[0].remaining, refused.states[0].reset_s) == (61.0, 0, 160.0)


async def test_tokens_that_were_not_used_are_given_back_once(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 100, unit="tokens"),))
    await rig.ask("a", rules, tokens=80)
    reservation = rig.held["a"]

    await rig.settle("a", tokens=30)
    rig.limiter.settle(reservation, tokens=0, cost_nusd=0)
    await rig.settled()

    assert (await rig.look(rules)).rates[0].remaining == 70


async def test_slots_are_freed_by_settling_and_by_the_end_of_their_lease(rig: Rig) -> None:
    rules = Rules(slots=(slots(2),))
    await rig.ask("a", rules)
    await rig.ask("b", rules, lease_s=10)

    refused = await rig.ask("c", rules)
    assert (refused.refused_by, refused.unit, refused.retry_after_s) == ("key.concurrent", "requests", 1.0)
    await rig.settle("a")
    assert (await rig.ask("c", rules)).allowed
    rig.now_s += 10
    assert (await rig.look(rules)).slots == [1]
    await rig.settle("b")  # late: it frees nobody else's
    assert (await rig.look(rules)).slots == [1]


async def test_pitfall_023_calls_that_end_without_use_leave_no_slot_behind(rig: Rig) -> None:
    rules = Rules(rates=(rate(60000, 1000),), slots=(slots(2),))
    for at in range(50):
        assert (await rig.ask(str(at), rules)).allowed
        await rig.settle(str(at))

    assert (await rig.ask("a", rules)).allowed
    assert (await rig.ask("b", rules)).allowed
    assert not (await rig.ask("c", rules)).allowed


async def test_a_cooldown_begins_with_one_refusal_too_many_and_is_not_prolonged(rig: Rig) -> None:
    rules = Rules(rates=(rate(600, 1),), cooldowns=(cooldown(30.0),))
    await rig.ask("a", rules)

    refusals = [await rig.ask("b", rules) for _ in range(3)]
    rig.now_s += 29
    last = await rig.ask("b", rules)

    assert [refusal.refused_by for refusal in refusals] == ["key.requests", "key.requests", "key.cooldown"]
    assert [refusal.retry_after_s for refusal in refusals] == [0.1, 0.1, 30.0]
    assert (last.refused_by, last.retry_after_s) == ("key.cooldown", 1.0)
    assert (await rig.look(rules)).rests_s == [1.0]
    rig.now_s += 1
    assert (await rig.ask("b", rules)).allowed


async def test_refusals_far_apart_and_a_cooldown_of_nothing_begin_no_rest(rig: Rig) -> None:
    slow = Rules(slots=(slots(0),), cooldowns=(cooldown(30.0, within_s=10.0),))
    none = Rules(slots=(slots(0),), cooldowns=(cooldown(0.0),))
    for at in range(5):
        assert (await rig.ask(str(at), slow)).refused_by == "key.concurrent"
        assert (await rig.ask(str(at), none)).refused_by == "key.concurrent"
        rig.now_s += 6


async def test_money_does_not_begin_a_cooldown(rig: Rig) -> None:
    rules = Rules(purses=(purse(10),), cooldowns=(cooldown(30.0, after=1),))
    await rig.limiter.seed(rules.purses[0], 10)

    assert [(await rig.ask("a", rules)).refused_by for _ in range(3)] == ["key.budget"] * 3


async def test_a_purse_is_unknown_until_it_is_told_and_is_told_once(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 5),), purses=(purse(100),))

    refused = await rig.ask("a", rules, nusd=10)
    assert (refused.allowed, refused.refused_by, list(refused.unseeded)) == (False, None, list(rules.purses))
    assert refused.states[0].remaining == 5
    await rig.limiter.seed(rules.purses[0], 90)
    await rig.limiter.seed(rules.purses[0], 0)
    assert (await rig.look(rules)).spent_nusd == [90]
    assert (await rig.ask("a", rules, nusd=10)).allowed
    assert (await rig.look(Rules(purses=(purse(5, key="other"),)))).spent_nusd == [None]


async def test_pitfall_028_parallel_calls_reserve_money_and_settle_the_real_cost(rig: Rig) -> None:
    rules = Rules(purses=(purse(1000),))
    await rig.limiter.seed(rules.purses[0], 0)

    assert await rig.passed(200, rules, nusd=100) == 10
    for name in list(rig.held):
        await rig.settle(name, nusd=40)
    assert rig.told[-1] == ("budget:", 400)
    assert await rig.passed(200, rules, nusd=100) == 6


async def test_a_spent_purse_refuses_what_costs_nothing_until_its_period_ends(rig: Rig) -> None:
    def refused_by(ends_at: float | None) -> Purse:
        return purse(100, ends_at, key=str(ends_at))

    for spent, wait_s in ((refused_by(rig.now_s + 90), 90.0), (refused_by(None), 0.0)):
        await rig.limiter.seed(spent, 100)
        refused = await rig.ask("a", Rules(purses=(spent,)))
        assert (refused.refused_by, refused.unit, refused.retry_after_s) == ("key.budget", "money", wait_s)


async def test_what_a_killed_call_held_of_a_purse_comes_back(rig: Rig) -> None:
    rules = Rules(purses=(purse(100),))
    await rig.limiter.seed(rules.purses[0], 0)
    await rig.ask("a", rules, nusd=100, lease_s=10)

    rig.now_s += 10
    assert (await rig.ask("b", rules, nusd=60)).allowed
    await rig.settle("a", nusd=30)  # not killed after all: its money is spent all the same

    assert (await rig.look(rules)).spent_nusd == [90]
    assert rig.told == [("budget:", 90)]


async def test_the_first_choice_with_room_is_taken(rig: Rig) -> None:
    choices = [Rules(rates=(rate(60, 1, key=name),), slots=(slots(5, name),)) for name in ("a", "b")]
    rules = Rules(rates=(rate(600, 10),))

    decisions = [await rig.ask(str(at), rules, choices=choices) for at in range(3)]

    assert [(d.allowed, d.choice) for d in decisions[:2]] == [(True, 0), (True, 1)]
    refused = decisions[2]
    assert (refused.allowed, refused.of_choice, refused.refused_by) == (False, True, "key.requests")
    assert refused.retry_after_s == 1.0
    assert refused.states[0].remaining == 8
    await rig.settle("0")
    assert [(await rig.look(each)).slots for each in choices] == [[0], [1]]


async def test_reset_forgets_rates_and_rests_but_neither_slots_nor_money(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 1),), slots=(slots(5),), cooldowns=(cooldown(30.0, after=1),), purses=(purse(100),))
    await rig.limiter.seed(rules.purses[0], 50)
    await rig.ask("a", rules, nusd=10)
    assert (await rig.ask("b", rules)).refused_by == "key.cooldown"

    await rig.limiter.reset(rules)

    standing = await rig.look(rules)
    assert (standing.rates[0].remaining, standing.rests_s) == (1, [0.0])
    assert (standing.slots, standing.spent_nusd) == ([1], [60])
    assert (await rig.ask("b", rules)).allowed


async def test_a_rule_that_was_changed_goes_on_from_what_was_used(rig: Rig) -> None:
    await rig.ask("a", Rules(rates=(rate(60, 100, unit="tokens"),)), tokens=60)

    wider = await rig.look(Rules(rates=(rate(700, 200, unit="tokens"),)))

    assert wider.rates[0].remaining == 140


async def test_a_clock_that_steps_back_locks_nobody_out(rig: Rig) -> None:
    rules = Rules(rates=(rate(60, 10),), cooldowns=(cooldown(5.0, after=100),))
    await rig.passed(10, rules)

    rig.now_s -= 3600
    assert await rig.passed(5, rules) == 0
    rig.now_s += 5
    assert await rig.passed(10, rules) == 5


async def test_a_limit_of_nothing_lets_nothing_pass(rig: Rig) -> None:
    assert not (await rig.ask("a", Rules(rates=(rate(0, 0),)))).allowed
    assert not (await rig.ask("a", Rules(rates=(rate(0, 0, unit="tokens"),)), tokens=5)).allowed


async def test_pitfall_027_load_just_below_the_limit_is_never_refused(rig: Rig) -> None:
    """Five minutes at 99 % of 600 requests and 60,000 tokens; calls take seconds, and ask for twice what they use."""
    rules = Rules(rates=(rate(600, 100), rate(60_000, 60_000, unit="tokens")))
    refused, ends = 0, dict[int, list[tuple[str, int]]]()
    used = (20, 170, 100, 60, 150)
    for at in range(2970):
        rig.now_s += 60 / 594
        real = used[at % 5]
        refused += not (await rig.ask(str(at), rules, tokens=2 * real)).allowed
        ends.setdefault(at + 30 + 20 * (at % 7), []).append((str(at), real))
        for name, tokens in ends.pop(at, []):
            rig.limiter.settle(rig.held.pop(name), tokens=tokens, cost_nusd=0)

    assert refused == 0
