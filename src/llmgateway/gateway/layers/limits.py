"""Lets a call pass when every limit and budget has room for it, and settles at its end what it really used.

One round trip asks all of them at once and brings the kept answer with it; if there is none, it claims the call for
this process, so that no other asks the same meanwhile.
"""

import math
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Literal

from llmgateway.catalog.model import Deployment, Model
from llmgateway.errors import GatewayError
from llmgateway.exchange import Attempt, Call, Event, Exchange, Left, Reply
from llmgateway.gateway.budgets import BudgetWatch
from llmgateway.gateway.coalescing import Flights
from llmgateway.gateway.layers.refusals import away, budget_spent, rate_limited, rule_named, unpriced
from llmgateway.gateway.purses import NANO
from llmgateway.gateway.rules import NO_RULES, RuleBook
from llmgateway.gateway.spending import LedgerSilentError, Spending
from llmgateway.gateway.target import Answering, Target
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.cost import dearest_usd
from llmgateway.routing.expected import expected
from llmgateway.routing.model import Names, may_leave, others
from llmgateway.stores.base import (
    Ask,
    Claim,
    Decision,
    Held,
    Limiter,
    Purse,
    RateState,
    Reservation,
    Rules,
    Store,
    StoreAwayError,
)
from llmgateway.stores.memory.store import MemoryStore

_MOST_NUSD = 10**15
# A call ends at its deadline; what is left of it then is soon written down.
_LEASE_BEYOND_S = 60.0
_SEEDINGS = 3
_UNKNOWN = "unknown"
# How an attempt ended that the provider may have answered without our knowing.
_UNSURE = frozenset({None, "ok", "cancelled", "superseded", "provider_timeout"})


class Limits:
    """Asks the store for leave, once, before anything costs money.

    Args:
        names: Gives the catalog served at this moment.
        unpriced: What becomes of calls whose cost nobody knows, for callers with a budget.
        fail_open: Whether calls pass while nobody can say what was spent.
        request_s: The longest time of a call without a deadline.
        flights: Says how a call is claimed; `None` is not at all.
    """

    def __init__(
        self,
        store: Store,
        book: RuleBook,
        target: Target,
        *,
        planner: Planner,
        names: Callable[[], Names],
        spending: Spending,
        watch: BudgetWatch,
        unpriced: Literal["deny", "allow"] = "deny",
        fail_open: bool = True,
        request_s: float = 590.0,
        flights: Flights | None = None,
    ) -> None:
        self._store = store
        self._book = book
        self._target = target
        self._planner = planner
        self._names = names
        self._spending = spending
        self._watch = watch
        self._denies_unpriced = unpriced == "deny"
        self._fail_open = fail_open
        self._request_s = request_s
        self._flights = flights
        # Memory answers at once: then a call that passes costs no coroutine.
        self._memory = store if isinstance(store, MemoryStore) else None
        self.unpriced = 0
        self.unseeded = 0

    def send(self, exchange: Exchange, call: Call) -> Answering:
        model, book = exchange.model, self._book
        if model is None:
            raise TypeError(f"nobody resolved {call.model!r}")
        if book.limits_accounts and exchange.caller.provider_key is None:
            if self._planner.must_count(exchange, call, model):
                return self._send_counted(exchange, call, model)
            return self._send_planned(exchange, call, model)
        rules = book.of(exchange, call, model)
        if rules is NO_RULES:
            return self._target.send(exchange, call) if exchange.cache_key is None else self._send_read(exchange, call)
        return self._send_ask(exchange, call, self._ask(exchange, call, model, rules, ()))

    async def _send_counted(self, exchange: Exchange, call: Call, model: Model) -> Reply:
        await self._planner.count(exchange, call, model)
        return await self._send_planned(exchange, call, model)

    def _send_planned(self, exchange: Exchange, call: Call, model: Model) -> Answering:
        """Ask the limits of the deployments as well, in the order in which they would be asked."""
        book = self._book
        try:
            exchange.plan = self._planner.plan(exchange, call, model)
        except GatewayError:
            # Nobody may be asked: whoever would do it finds the same, and a kept answer may be given all the same.
            choices: tuple[Rules, ...] = ()
        else:
            choices = book.choices(exchange.plan.ordered(), exchange.caller)
        rules = book.of(exchange, call, model)
        ask = self._ask(exchange, call, model, rules, choices)
        exchange.leave = partial(self._leave_for, exchange, ask)
        if rules is NO_RULES and not choices:
            return self._target.send(exchange, call) if exchange.cache_key is None else self._send_read(exchange, call)
        return self._send_ask(exchange, call, ask)

    def _send_ask(self, exchange: Exchange, call: Call, ask: Ask) -> Answering:
        if self._memory is None:
            return self._send_asked(exchange, call, ask)
        decision = self._memory.reserve_now(ask)
        key, cache_ask = exchange.cache_key, exchange.cache_ask
        if key is not None and (cache_ask is None or not cache_ask.no_cache):
            exchange.cached = self._memory.values.find(key)
        if not decision.allowed:
            return self._send_again(exchange, call, ask, decision)
        if purses := ask.rules.purses:
            self._spending.asked(purses)
        return self._enter(exchange, call, ask, decision)

    async def _send_read(self, exchange: Exchange, call: Call) -> Reply:
        await self._read(exchange)
        return await self._target.send(exchange, call)

    async def _send_asked(self, exchange: Exchange, call: Call, ask: Ask) -> Reply:
        return await self._enter(exchange, call, *await self._leave(exchange, ask))

    async def _send_again(self, exchange: Exchange, call: Call, ask: Ask, decision: Decision) -> Reply:
        return await self._enter(exchange, call, *await self._again(exchange, ask, decision))

    def _enter(self, exchange: Exchange, call: Call, ask: Ask, decision: Decision) -> Answering:
        _tell(exchange, decision)
        exchange.choice = choice = decision.choice
        exchange.at_end.append(_Held(ask, choice, exchange=exchange, limiter=self._store.limiter).settle)
        return self._target.send(exchange, call)

    async def _read(self, exchange: Exchange) -> None:
        """Read the kept answer where nothing is counted."""
        values, (key, claim) = self._store.values, self._wanted(exchange)
        if key is None:
            return
        if self._memory is not None:
            exchange.cached = self._memory.values.find(key)
            return
        try:
            _note(exchange, await (values.get(key) if claim is None else values.get_or_claim(key, claim)))
        except StoreAwayError:
            exchange.cached = None
        except BaseException:
            self._give_back(exchange, claim)
            raise

    async def _leave(self, exchange: Exchange, ask: Ask) -> tuple[Ask, Decision]:
        """Get leave, and the kept answer, or the claim to the call."""
        key, claim = self._wanted(exchange)
        try:
            decision, found = await self._reserved(ask, key, claim)
            _note(exchange, found)
            if decision.allowed:
                return ask, decision
            return await self._again(exchange, ask, decision)
        except BaseException:
            # It was refused, or its client left: others who ask the same need not wait for it.
            self._give_back(exchange, claim)
            raise

    def _wanted(self, exchange: Exchange) -> tuple[str | None, Claim | None]:
        """Say what is to be read, and what to be claimed when it is not there: nothing for who wants no kept answer."""
        key = exchange.cache_key
        if key is None or (exchange.cache_ask is not None and exchange.cache_ask.no_cache):
            return None, None
        return key, None if self._flights is None else self._flights.claim(key, exchange.id)

    def _give_back(self, exchange: Exchange, claim: Claim | None) -> None:
        if self._flights is None or claim is None or exchange.cached is not None:
            return
        # Without an answer of the store it may have been taken all the same.
        if exchange.claimed is None or exchange.claimed == claim.holder:
            self._flights.release(claim)

    def _ask(self, exchange: Exchange, call: Call, model: Model, rules: Rules, choices: tuple[Rules, ...]) -> Ask:
        prompt_tokens, answer_tokens = expected(call, model.deployments[0], exchange.prompt_tokens)
        cost_nusd = 0
        if rules.purses:
            # At the dearest deployment, so that whoever answers, the budget holds.
            cost = dearest_usd(prompt_tokens, answer_tokens, model.deployments)
            cost_nusd = self._without_price(call) if cost is None else math.ceil(cost * NANO)
            if cost_nusd > _MOST_NUSD:  # noqa: PLR1730  a call of `min` costs five times that
                cost_nusd = _MOST_NUSD
        left_s = self._request_s if exchange.deadline is None else exchange.deadline - time.perf_counter()
        return Ask(exchange.id, rules, prompt_tokens + answer_tokens, cost_nusd, left_s + _LEASE_BEYOND_S, choices)

    def _without_price(self, call: Call) -> int:
        if self._denies_unpriced:
            raise unpriced(call.model)
        self.unpriced += 1
        return 0

    async def _reserved(
        self, ask: Ask, read: str | None = None, claim: Claim | None = None
    ) -> tuple[Decision, bytes | Held | None]:
        try:
            decision, found = await self._store.limiter.reserve(ask, read, claim)
        except StoreAwayError as error:
            raise away("The counters of this gateway's limits do not answer") from error
        if ask.rules.purses:
            self._spending.asked(ask.rules.purses)
        return decision, found

    async def _again(self, exchange: Exchange, ask: Ask, decision: Decision) -> tuple[Ask, Decision]:
        """Ask again where that may help: for purses that are known now, and for a kept answer."""
        for _ in range(_SEEDINGS):
            if not decision.unseeded:
                break
            await self._seed(ask, decision.unseeded)
            decision, _ = await self._reserved(ask)
        if decision.unseeded:
            raise away("What was spent of a budget is not known yet")
        if not decision.allowed and exchange.cached is not None and (decision.of_choice or decision.unit != "requests"):
            # The kept answer costs nothing, so only what counts requests has a say: as long as it can be given.
            exchange.refusal = self._refusal(ask, decision)
            ask = Ask(ask.id, _requests_only(ask.rules), 0, 0, ask.lease_s)
            decision, _ = await self._reserved(ask)
        if not decision.allowed and decision.of_choice and self._may_fall_back(exchange):
            # What the caller may ask is taken all the same: another model may have room.
            exchange.full, exchange.plan = self._refusal(ask, decision), None
            ask = Ask(ask.id, ask.rules, ask.tokens, ask.cost_nusd, ask.lease_s)
            decision, _ = await self._reserved(ask)
        if not decision.allowed:
            _tell(exchange, decision)
            self._note_refusal(exchange, ask, decision)
            raise self._refusal(ask, decision)
        return ask, decision

    def _may_fall_back(self, exchange: Exchange) -> bool:
        """Whether there is another model for a call whose own has no room."""
        if exchange.refusal is not None or exchange.model is None or not may_leave(exchange):
            return False
        return next(others(exchange, exchange.model, "rate_limit", self._names()), None) is not None

    async def _seed(self, ask: Ask, unseeded: Sequence[Purse]) -> None:
        unknown = set()
        for purse in unseeded:
            try:
                await self._spending.seed((purse,))
            except StoreAwayError as error:
                raise away("The counters of this gateway's limits do not answer") from error
            except LedgerSilentError as error:
                if not self._fail_open:
                    raise away("What was spent of a budget cannot be found out now") from error
                unknown.add(purse.key)
        if unknown:
            self.unseeded += 1
            rules = ask.rules
            purses = tuple(purse for purse in rules.purses if purse.key not in unknown)
            ask.rules = Rules(rules.rates, rules.slots, rules.cooldowns, purses)

    def _note_refusal(self, exchange: Exchange, ask: Ask, decision: Decision) -> None:
        name, retry_after_s = decision.refused_by or _UNKNOWN, decision.retry_after_s
        exchange.note(Event("limit", time.perf_counter(), {"rule": name, "retry_after_s": retry_after_s}))
        if decision.unit == "money":
            self._watch.refused(name, ask.rules.purses)

    def _refusal(self, ask: Ask, decision: Decision) -> GatewayError:
        name, retry_after_s = decision.refused_by or _UNKNOWN, decision.retry_after_s
        if decision.unit == "money":
            return budget_spent(name, ask.rules.purses, retry_after_s)
        return rate_limited(name, rule_named(name, (ask.rules, *ask.choices)), retry_after_s)

    async def _leave_for(self, exchange: Exchange, first: Ask, deployments: Sequence[Deployment]) -> int | None:
        """Find the first of these whose own limits have room, and take it."""
        choices = self._choices_left(exchange, deployments)
        if not choices or choices[0] is NO_RULES:
            return 0
        left_s = self._request_s if exchange.deadline is None else exchange.deadline - time.perf_counter()
        number = len(exchange.at_end)
        ask = Ask(f"{exchange.id}/{number}", NO_RULES, first.tokens, 0, left_s + _LEASE_BEYOND_S, choices)
        try:
            decision, _ = await self._store.limiter.reserve(ask)
        except StoreAwayError:
            return 0  # calls that are under way are not lost to it
        if not decision.allowed:
            return None
        deployment = deployments[decision.choice]
        exchange.at_end.append(partial(self._settle_part, exchange, Reservation(ask, decision.choice), deployment))
        return decision.choice

    def _choices_left(self, exchange: Exchange, deployments: Sequence[Deployment]) -> tuple[Rules, ...]:
        """Give what must have room for a further attempt: this call holds what it has taken until its end.

        Whoever was asked before has its place. Who is at the same account as one that failed goes on in its slot.
        """
        choices = self._book.choices(deployments, exchange.caller)
        if not choices or not exchange.attempts:
            return choices
        asked = [attempt.deployment for attempt in exchange.attempts]
        failed = [attempt.deployment for attempt in exchange.attempts if attempt.ended is not None]
        held = {slots.key for rules in self._book.choices(failed, exchange.caller) for slots in rules.slots}
        return tuple(
            NO_RULES if one in asked else _beyond(rules, held) for one, rules in zip(deployments, choices, strict=True)
        )

    def _settle_part(self, exchange: Exchange, reservation: Reservation, deployment: Deployment) -> None:
        """Count what a call used at the limits of a deployment that was asked after the first."""
        answered = bool(exchange.attempts) and exchange.attempts[-1].deployment is deployment
        tokens = used(exchange, reservation.ask.tokens, 0)[0] if answered else 0
        self._store.limiter.settle(reservation, tokens=tokens, cost_nusd=0)


class _Held(Reservation, kw_only=True, gc=True):
    """What a call holds, and who takes it back at its end."""

    exchange: Exchange
    limiter: Limiter

    def settle(self) -> None:
        ask = self.ask
        tokens, cost_nusd = used(self.exchange, ask.tokens, ask.cost_nusd)
        self.limiter.settle(self, tokens=tokens, cost_nusd=cost_nusd)


def used(exchange: Exchange, estimated_tokens: int, estimated_nusd: int) -> tuple[int, int]:
    """Give the tokens and billionths of a dollar that a call which is over has used.

    Nothing was, when nobody was asked or all who were asked failed. Of an answer that nobody heard to its end and
    counted, and where no price is known, the estimate stays.
    """
    if not exchange.attempts:
        return 0, 0
    usage, cost_usd = exchange.usage, exchange.cost_usd
    if usage is None and not any(map(_may_have_answered, exchange.attempts)):
        return 0, 0
    tokens = estimated_tokens if usage is None else usage.prompt_tokens + usage.completion_tokens
    return tokens, estimated_nusd if cost_usd is None else round(cost_usd * NANO)


def _note(exchange: Exchange, found: bytes | Held | None) -> None:
    if isinstance(found, Held):
        exchange.claimed = found.holder
    else:
        exchange.cached = found


def _may_have_answered(attempt: Attempt) -> bool:
    return attempt.outcome in _UNSURE


def _requests_only(rules: Rules) -> Rules:
    rates = tuple(rate for rate in rules.rates if rate.unit == "requests")
    return Rules(rates, rules.slots, rules.cooldowns)


def _beyond(rules: Rules, held: AbstractSet[str]) -> Rules:
    """Give the rules without the slots that are held already."""
    if not any(slots.key in held for slots in rules.slots):
        return rules
    slots = tuple(one for one in rules.slots if one.key not in held)
    return Rules(rules.rates, slots, rules.cooldowns, rules.purses)


def _tell(exchange: Exchange, decision: Decision) -> None:
    """Note the tightest rate of each kind; of several with as little left, the one that refuses.

    Told once for each exchange: nothing is noted of either kind before.
    """
    for state in decision.states:
        if state.rate.unit == "tokens":
            if exchange.tokens_left is None or _is_tighter(state, exchange.tokens_left, decision):
                exchange.tokens_left = state
        elif exchange.requests_left is None or _is_tighter(state, exchange.requests_left, decision):
            exchange.requests_left = state


def _is_tighter(one: RateState, other: Left, decision: Decision) -> bool:
    if one.remaining == other.remaining:
        return one.rate.name == decision.refused_by
    return one.remaining < other.remaining
