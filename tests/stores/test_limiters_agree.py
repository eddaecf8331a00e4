"""For any order of events: the counters end right, no rule is broken, and memory and Redis decide the same."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmgateway.stores.base import Rules
from llmgateway.stores.redis.link import RedisLink
from tests.stores.rig import Rig, cooldown, purse, rate, shown, slots

FRESH = count()
HARD_NUSD, LEASE_S = 1000, 20.0
MONEY = st.integers(0, 400)
TOKENS = st.integers(0, 500)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3), TOKENS, MONEY),
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 100), st.integers(0, 100)),
        st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0), st.just(0)),
        st.tuples(st.just("pass"), st.sampled_from([0, 1, 700, 4_321, 21_000]), st.just(0), st.just(0)),
    ),
    max_size=40,
)


class Rules4:
    """Four callers of the same counters, each under other rules, and two choices; new counters for each example."""

    def __init__(self) -> None:
        key = f"{next(FRESH)}:"
        self.requests = rate(41, 4, key=key)
        self.tokens = rate(1001, 500, unit="tokens", key=key)
        self.slots = slots(3, key)
        self.purse = purse(HARD_NUSD, key=key)
        rest = cooldown(3.0)
        rest = type(rest)(rest.name, key + rest.key, rest.rest_s, rest.after, rest.within_s)
        self.choices = tuple(Rules(rates=(rate(30, 2, key=key + at),), slots=(slots(1, key + at),)) for at in "ab")
        self.all = Rules((self.requests, self.tokens), (self.slots,), (), (self.purse,))
        self.callers: Sequence[tuple[Rules, tuple[Rules, ...]]] = (
            (self.all, ()),
            (Rules((self.requests,), (), (rest,), ()), ()),
            (Rules((self.tokens,), (self.slots,), (rest,), (self.purse,)), self.choices),
            (Rules((), (self.slots,), (), (self.purse,)), self.choices),
        )


class Bound:
    """What passed a rate, less what was given back, and the most of it that may pass in any time."""

    def __init__(self, limit: int, burst: int) -> None:
        self._limit, self._burst = limit, burst
        self._events: list[tuple[float, int]] = []

    def count(self, at_s: float, units: int) -> None:
        self._events.append((at_s, units))
        for first in range(len(self._events)):
            passed = sum(units for _, units in self._events[first:])
            assert passed <= self._burst + self._limit * (at_s - self._events[first][0]) / 60 + 1e-6


class Model:
    """What must hold, from the outside."""

    def __init__(self, rules: Rules4, start_s: float) -> None:
        self._rules = rules
        self._requests = Bound(rules.requests.limit, rules.requests.burst)
        self._tokens = Bound(rules.tokens.limit, rules.tokens.burst)
        self._flights: dict[str, float] = {}
        self.spent_nusd = 0
        self.now_s = start_s

    def passed(self, name: str, rules: Rules, tokens: int) -> None:
        if self._rules.requests in rules.rates:
            self._requests.count(self.now_s, 1)
        if self._rules.tokens in rules.rates:
            self._tokens.count(self.now_s, tokens)
        if rules.slots:
            self._flights[name] = self.now_s + LEASE_S
            self._flights = {each: until for each, until in self._flights.items() if until > self.now_s}
            assert len(self._flights) <= self._rules.slots.limit

    def settled(self, name: str, rules: Rules, unused: int, nusd: int) -> None:
        self._flights.pop(name, None)
        if self._rules.tokens in rules.rates:
            self._tokens.count(self.now_s, -unused)
        if rules.purses:
            self.spent_nusd += nusd
            assert self.spent_nusd <= HARD_NUSD


class Drive:
    """Runs the steps of one example on some rigs at once."""

    def __init__(self, rigs: Sequence[Rig]) -> None:
        self._rigs = rigs
        self._names = count()
        self.rules = Rules4()
        self.model = Model(self.rules, rigs[0].now_s)

    async def run(self, steps: Sequence[tuple[str, int, int, int]]) -> None:
        for rig in self._rigs:
            await rig.limiter.seed(self.rules.purse, 0)
        for what, which, tokens, nusd in steps:
            if what == "ask":
                await self._ask(which, tokens, nusd)
            elif what == "pass":
                for rig in self._rigs:
                    rig.now_s += which / 1000
                self.model.now_s = self._rigs[0].now_s
            elif self._rigs[0].held:
                await self._settle(which, tokens, nusd)
        await self._end()

    async def _ask(self, which: int, tokens: int, nusd: int) -> None:
        rules, choices = self.rules.callers[which]
        name = str(next(self._names))
        made: list[Any] = []
        for rig in self._rigs:
            decision = await rig.ask(name, rules, tokens=tokens, nusd=nusd, lease_s=LEASE_S, choices=choices)
            made.append(shown(decision))
        assert all(each == made[0] for each in made), made
        if made[0]["allowed"]:
            self.model.passed(name, rules, tokens)

    async def _settle(self, which: int, tokens_percent: int, nusd_percent: int) -> None:
        held = self._rigs[0].held
        name = sorted(held, key=int)[which % len(held)]
        ask = held[name].ask
        tokens, nusd = ask.tokens * tokens_percent // 100, ask.cost_nusd * nusd_percent // 100
        if self.model.spent_nusd + nusd > HARD_NUSD:
            nusd = 0  # its lease was over: others have reserved what it held
        for rig in self._rigs:
            await rig.settle(name, tokens=tokens, nusd=nusd)
        self.model.settled(name, ask.rules, ask.tokens - tokens, nusd)

    async def _end(self) -> None:
        while self._rigs[0].held:
            await self._settle(0, 0, 0)
        for rig in self._rigs:
            rig.now_s += 1000
            standing = await rig.look(self.rules.all)
            assert [state.remaining for state in standing.rates] == [4, 500]
            assert standing.slots == [0]
            assert standing.spent_nusd == [self.model.spent_nusd]
            assert [(await rig.look(each)).slots for each in self.rules.choices] == [[0], [0]]
        assert all(rig.told == self._rigs[0].told for rig in self._rigs)


@given(STEPS)
@settings(max_examples=300, deadline=None)
async def test_whatever_happens_the_counters_end_right(steps: Sequence[tuple[str, int, int, int]]) -> None:
    await Drive([Rig()]).run(steps)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_memory_and_redis_decide_the_same(link: RedisLink, steps: Sequence[tuple[str, int, int, int]]) -> None:
    await Drive([Rig(), Rig(link)]).run(steps)


@pytest.mark.long
@given(steps=STEPS)
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.timeout(600)
async def test_memory_and_redis_decide_the_same_in_thousands_of_orders(
    link: RedisLink, steps: Sequence[tuple[str, int, int, int]]
) -> None:
    await Drive([Rig(), Rig(link)]).run(steps)


@given(
    limit=st.integers(1, 10**10),
    burst=st.integers(1, 10**9),
    period_s=st.sampled_from([1.0, 60.0, 3600.0, 86400.0]),
    steps=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**7)), max_size=10),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_large_rates_are_the_same_to_the_last_unit(
    link: RedisLink, limit: int, burst: int, period_s: float, steps: Sequence[tuple[int, int]]
) -> None:
    rules = Rules(rates=(rate(limit, burst, unit="tokens", period_s=period_s, key=f"{next(FRESH)}"),))
    rigs = [Rig(), Rig(link)]
    for name, (tokens, pass_us) in enumerate(steps):
        made = [shown(await rig.ask(str(name), rules, tokens=tokens)) for rig in rigs]
        assert made[0] == made[1]
        for rig in rigs:
            rig.now_s += pass_us / 1e6
