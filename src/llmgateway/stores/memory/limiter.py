"""Rates, slots, cooldowns and budgets of one process.

What nobody uses any more is forgotten: whenever a rule is met for the first time, two old ones are looked at, once
there are many.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal

from msgspec import Struct

from llmgateway.stores.base import (
    Ask,
    Claim,
    Decision,
    Held,
    Purse,
    RateState,
    Reservation,
    Rules,
    Spent,
    Standing,
)
from llmgateway.stores.gcra import NEVER_US, US
from llmgateway.stores.memory.counters import UNKNOWN, Account, Bucket, Leases, Rest, pour, take_back

_US_NS = 1000
_SWEPT_AT_ONCE = 2
# Fewer are not worth the trouble: most would soon be made again.
_FEW = 1000
_MOST_PLANS = 1000
_Table = OrderedDict[str, Any]


class _Plan:
    """The counters of one set of rules, found once: good as long as no counter was forgotten or changed its rule."""

    __slots__ = ("accounts", "buckets", "by_unit", "holders", "leases", "of_tokens", "rests", "rules")

    def __init__(
        self,
        rules: Rules,
        buckets: Sequence[Bucket],
        leases: Sequence[Leases],
        rests: Sequence[Rest],
        accounts: Sequence[Account],
    ) -> None:
        self.rules = rules  # kept, so that no other set of rules has its id
        self.buckets = buckets
        self.of_tokens = [bucket for bucket in buckets if bucket.rule.unit == "tokens"]
        of_requests = [bucket for bucket in buckets if bucket.rule.unit == "requests"]
        self.by_unit = [same for same in (of_requests, self.of_tokens) if same]
        self.leases = leases
        self.rests = rests
        self.accounts = accounts
        self.holders: tuple[Leases | Account, ...] = (*leases, *accounts)

    def take(self, ask: Ask, now_us: int) -> list[RateState] | None:
        """Take what a call asks for, if every rule lets it pass; else nothing.

        Returns:
            The tightest rate of each unit; `None` when it may not pass.
        """
        for rest in self.rests:
            if rest.until_us and rest.left_us(now_us):
                return None
        states = pour(self.by_unit, ask.tokens, now_us)
        if states is None:
            return None
        for holder in self.holders:
            if not holder.take(ask, now_us):
                self.take_back(ask, self.holders.index(holder))
                return None
        return states

    def take_back(self, ask: Ask, holders: int | None = None) -> None:
        """Undo `take`, at the same moment; of those who hold something only the first so many."""
        take_back(self.buckets, ask.tokens)
        for holder in self.holders[:holders]:
            holder.release(ask.id)


class _Refusal(Struct, gc=False):
    """Who refuses for how long; else the purses that are unknown."""

    wait_us: int = 0
    name: str | None = None
    unit: Literal["requests", "tokens", "money"] = "requests"
    unseeded: Sequence[Purse] = ()

    def also(self, wait_us: int, name: str, unit: Literal["requests", "tokens", "money"]) -> bool:
        """Hear another rule: of all that refuse, the one that takes longest counts. Whether it refuses."""
        if wait_us > self.wait_us:
            self.wait_us, self.name, self.unit = wait_us, name, unit
        return wait_us > 0


class MemoryLimiter:
    """A limiter whose counters nobody else sees.

    Args:
        now_ns: Unix time.
        spent: Told after each settlement of a purse.
        read: Reads a kept value for `reserve`.
    """

    def __init__(
        self,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        spent: Spent | None = None,
        read: Callable[[str], bytes | None] | None = None,
    ) -> None:
        self._now_ns = now_ns
        self._spent = spent
        self._read = read
        self._rates: _Table = OrderedDict()
        self._slots: _Table = OrderedDict()
        self._rests: _Table = OrderedDict()
        self._purses: _Table = OrderedDict()
        self._plans: dict[int, _Plan] = {}
        self._fresh = 0  # counters made since the last sweep

    def __len__(self) -> int:
        return len(self._rates) + len(self._slots) + len(self._rests) + len(self._purses)

    async def reserve(
        self, ask: Ask, read: str | None = None, claim: Claim | None = None
    ) -> tuple[Decision, bytes | Held | None]:
        # No other process could take what is claimed, so nothing is.
        return self.reserve_now(ask), None if read is None or self._read is None else self._read(read)

    def reserve_now(self, ask: Ask) -> Decision:
        """Ask leave without waiting: nothing here waits."""
        now_us = self._now_ns() // _US_NS
        plan = self._plans.get(id(ask.rules)) or self._plan(ask.rules, now_us)
        states = plan.take(ask, now_us)
        if states is None:
            return self._refused(plan, ask, now_us)
        choice = 0
        if ask.choices:
            choice = self._choose(ask, now_us)
            if choice < 0:
                plan.take_back(ask)
                return self._no_choice(plan, ask, now_us)
        if self._fresh:
            self._sweep(now_us)
        return Decision(True, choice, states=states)

    def settle(self, reservation: Reservation, *, tokens: int, cost_nusd: int) -> None:
        if reservation.settled:
            return
        reservation.settled = True
        now_us, spent = self._now_ns() // _US_NS, self._spent
        ask = reservation.ask
        for rules in (ask.rules, ask.choices[reservation.choice]) if ask.choices else (ask.rules,):
            plan = self._plans.get(id(rules)) or self._plan(rules, now_us)
            for bucket in plan.of_tokens:
                bucket.settle(ask, tokens, now_us)
            for leases in plan.leases:
                leases.release(ask.id)
            for account in plan.accounts:
                used = account.settle(ask.id, cost_nusd, now_us)
                if used is not None and spent is not None:
                    spent(account.rule, used)

    async def seed(self, purse: Purse, spent_nusd: int) -> None:
        account = self._kept(self._purses, purse, Account, self._now_ns() // _US_NS)
        if account.spent_nusd is None:
            account.spent_nusd = spent_nusd

    async def look(self, rules: Rules) -> Standing:
        now_us = self._now_ns() // _US_NS
        plan = self._plan(rules, now_us)
        for bucket in plan.buckets:
            bucket.sink(now_us)
        return Standing(
            rates=[bucket.state() for bucket in plan.buckets],
            slots=[leases.count(now_us) for leases in plan.leases],
            rests_s=[rest.left_us(now_us) / US for rest in plan.rests],
            spent_nusd=[account.used_nusd(now_us) for account in plan.accounts],
        )

    async def reset(self, rules: Rules) -> None:
        for rate in rules.rates:
            self._rates.pop(rate.key, None)
        for cooldown in rules.cooldowns:
            self._rests.pop(cooldown.key, None)
        self._plans.clear()

    def _choose(self, ask: Ask, now_us: int) -> int:
        """Take from the first choice that lets the call pass and return its index; -1 is none."""
        for choice, rules in enumerate(ask.choices):
            plan = self._plans.get(id(rules)) or self._plan(rules, now_us)
            if plan.take(ask, now_us) is not None:
                return choice
        return -1

    def _refused(self, plan: _Plan, ask: Ask, now_us: int) -> Decision:
        """Say who refuses, and count it where a cooldown counts refusals: not while one is on."""
        refusal = _Refusal()
        counts = _refused_by_use(plan, ask, now_us, refusal)
        rests = _refused_by_state(plan, ask, now_us, refusal)
        if counts and not rests:
            for rest in plan.rests:
                refusal.also(rest.refuse(now_us), rest.rule.name, "requests")
        self._sweep(now_us)
        return _decision(refusal, plan)

    def _no_choice(self, plan: _Plan, ask: Ask, now_us: int) -> Decision:
        """Say which choice will be the first to let the call pass."""
        soonest = _Refusal(wait_us=NEVER_US + 1)
        for rules in ask.choices:
            refusal, choice = _Refusal(), self._plans.get(id(rules)) or self._plan(rules, now_us)
            _refused_by_use(choice, ask, now_us, refusal)
            _refused_by_state(choice, ask, now_us, refusal)
            if refusal.unseeded:
                soonest = refusal
                break
            if refusal.wait_us < soonest.wait_us:
                soonest = refusal
        self._sweep(now_us)
        decision = _decision(soonest, plan)
        decision.of_choice = not soonest.unseeded
        return decision

    def _plan(self, rules: Rules, now_us: int) -> _Plan:
        plan = _Plan(
            rules,
            [self._kept(self._rates, rate, Bucket, now_us) for rate in rules.rates],
            [self._kept(self._slots, slots, Leases, now_us) for slots in rules.slots],
            [self._kept(self._rests, cooldown, Rest, now_us) for cooldown in rules.cooldowns],
            [self._kept(self._purses, purse, Account, now_us) for purse in rules.purses],
        )
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[id(rules)] = plan
        return plan

    def _kept(self, table: _Table, rule: Any, kind: Any, now_us: int) -> Any:
        """Return the counter of a rule, made now when it is met for the first time."""
        counter = table.get(rule.key)
        if counter is None:
            counter = table[rule.key] = kind(rule, now_us)
            self._fresh += 1
        elif counter.rule is not rule and counter.adopt(rule):
            self._plans.clear()
        return counter

    def _sweep(self, now_us: int) -> None:
        """Forget old ones that nobody uses, some for each new one; never while a plan is in hand."""
        forgotten = False
        for table in (self._rates, self._slots, self._rests, self._purses):
            for _ in range(self._fresh * _SWEPT_AT_ONCE if len(table) > _FEW else 0):
                key, counter = table.popitem(last=False)
                if counter.idle(now_us):
                    forgotten = True
                else:
                    table[key] = counter
        self._fresh = 0
        if forgotten:
            self._plans.clear()


def _refused_by_use(plan: _Plan, ask: Ask, now_us: int, refusal: _Refusal) -> bool:
    """Ask the rates and slots; whether one of them refuses."""
    refused = False
    for bucket in plan.buckets:
        refused |= refusal.also(bucket.wait_us(ask, now_us), bucket.rule.name, bucket.rule.unit)
    for leases in plan.leases:
        refused |= refusal.also(leases.wait_us(ask, now_us), leases.rule.name, "requests")
    return refused


def _refused_by_state(plan: _Plan, ask: Ask, now_us: int, refusal: _Refusal) -> bool:
    """Ask the cooldowns and purses; whether a cooldown is on."""
    rests, unseeded = False, []
    for rest in plan.rests:
        rests |= refusal.also(rest.left_us(now_us), rest.rule.name, "requests")
    for account in plan.accounts:
        wait_us = account.wait_us(ask, now_us)
        if wait_us == UNKNOWN:
            unseeded.append(account.rule)
        else:
            refusal.also(wait_us, account.rule.name, "money")
    if refusal.name is None:
        refusal.unseeded = unseeded
    return rests


def _decision(refusal: _Refusal, plan: _Plan) -> Decision:
    """Say no. Rates that nobody asked, since another rule refused before, are read now."""
    return Decision(
        allowed=False,
        refused_by=refusal.name,
        unit=refusal.unit,
        retry_after_s=0.0 if refusal.wait_us >= NEVER_US else refusal.wait_us / US,
        states=[bucket.state() for bucket in plan.buckets],
        unseeded=refusal.unseeded,
    )
