"""A dry run: the plan of a call with every candidate, its score, what it would cost, and why it is taken or not.

It is made by the same planner as the call itself, at the same turn, so that both agree; nobody is asked and nothing is
counted. What a caller's own limits and budgets would say, and whether an answer is kept, is no part of it.
"""

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llmgateway.catalog.model import Model
from llmgateway.errors import GatewayError, MaxCostError, RateLimitedError
from llmgateway.exchange import Call, Complete, Exchange, Reply
from llmgateway.gateway.rules import NO_RULES, RuleBook
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.cheapest import name_cheapest
from llmgateway.routing.choosing.filters import Wanted
from llmgateway.routing.choosing.planner import Planned, Planner
from llmgateway.routing.choosing.strategies import STRATEGIES
from llmgateway.routing.estimate import PromptCount, counted_prompt
from llmgateway.routing.failover.causes import Cause
from llmgateway.routing.model import Names as Offer
from llmgateway.routing.model import may_fall_back, others
from llmgateway.stores.base import Limiter, Rules, Standing, StoreAwayError
from llmgateway.tokens import TokenCounter

_ONLY_FIRST = "X-Disable-Fallbacks leaves only the first choice"
_JSON = msgspec.json.Encoder()
_CAUSES: tuple[Cause, ...] = ("any", "context", "content_filter", "rate_limit")
_FULL = "deployment_limits"
Shown = dict[str, Any]
_Full = Callable[[Exchange, Planned, int], Awaitable[list[str | None]]]


class Explain:
    """The innermost target of a dry run.

    Args:
        names: Gives the catalog served at this moment.
        limiter: Asked what is left of the limits of deployments.
    """

    def __init__(
        self, planner: Planner, counter: TokenCounter, book: RuleBook, limiter: Limiter, names: Callable[[], Offer]
    ) -> None:
        self._planner = planner
        self._counter = counter
        self._book = book
        self._limiter = limiter
        self._names = names

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        """Answer with the plan as JSON, also where nobody may answer the call: then with its error."""
        model = exchange.model
        if model is None:
            raise TypeError(f"nobody resolved {call.model!r}")
        planner, counter = self._planner, self._counter
        run = _DryRun(exchange, call, self._names(), planner=planner, counter=counter, full=self._full)
        return Complete(_JSON.encode(await run.told(model)))

    async def _full(self, exchange: Exchange, plan: Planned, tokens: int) -> list[str | None]:
        """Name for each in the plan which of its own limits has no room for the call now, if one has none."""
        choices = self._book.choices(plan.ordered(), exchange.caller)
        if not choices:
            return [None] * len(plan.order())
        try:
            return [
                None if rules is NO_RULES else _full_rule(await self._limiter.look(rules), rules, tokens)
                for rules in choices
            ]
        except StoreAwayError:
            return [None] * len(choices)  # as the call itself would see it


class _Leg(Struct):
    """What would become of a call at one model.

    Args:
        taken: Who would be asked; `None` where an error says why nobody is.
    """

    model: Model
    shown: Shown
    taken: Shown | None
    error: GatewayError | None


class _DryRun:
    """One call on its way to a plan, through the same steps as the call itself."""

    def __init__(
        self,
        exchange: Exchange,
        call: Call,
        offer: Offer,
        *,
        planner: Planner,
        counter: TokenCounter,
        full: _Full,
    ) -> None:
        self._exchange = exchange
        self._call = call
        self._offer = offer
        self._planner = planner
        self._counter = counter
        self._full = full
        self._legs: dict[str, _Leg] = {}
        self._counts: dict[tuple[str, str | None], PromptCount] = {}
        # The models that were come to, from which one, and after which error.
        self._from: dict[str, tuple[str, Cause]] = {}
        # All limits are asked for the tokens of the model that was asked for.
        self._tokens: int | None = None

    async def told(self, model: Model) -> Shown:
        exchange = self._exchange
        decision = await self._decision(model, {model.name})
        first = self._legs[model.name]
        error = None if decision is not None else first.error
        looked = exchange.sensitivity
        return {
            "object": "route",
            "request_id": exchange.id,
            "requested_model": exchange.requested_model,
            **({} if exchange.task is None else {"task": exchange.task}),
            **({} if looked is None else {"sensitivity": looked}),
            **first.shown,
            "decision": decision,
            "error": None if error is None else _error(error),
            "fallbacks": [
                {"of": of, "causes": causes, **(await self._leg(other)).shown}
                for other, of, causes in self._fallbacks(model)
            ],
        }

    async def _decision(self, model: Model, seen: set[str]) -> Shown | None:
        """Find who would be asked first: of this model, or of what it falls back to, and so on."""
        leg = await self._leg(model)
        if leg.error is None:
            return leg.taken
        cause = may_fall_back(self._exchange, leg.error)
        if cause is None:
            return None
        for other in others(self._exchange, model, cause, self._offer):
            if other.name in seen:
                continue
            seen.add(other.name)
            self._from[other.name] = (model.name, cause)
            found = await self._decision(other, seen)
            if found is not None:
                why = f"{other.name}, the fallback of {model.name} after {leg.error.code}: {found['reason']}"
                return {**found, "fallback": found["fallback"] or other.name, "reason": why}
        return None

    async def _leg(self, model: Model) -> _Leg:
        leg = self._legs.get(model.name)
        if leg is None:
            leg = self._legs[model.name] = await self._made(model)
        return leg

    async def _made(self, model: Model) -> _Leg:
        exchange, call, planner = self._exchange, self._call, self._planner
        count = await self._count(model)
        if planner.must_count(exchange, call, model):
            exchange.prompt_tokens = count.tokens
        wanted = planner.wanted(exchange, call, model)
        if self._tokens is None:
            self._tokens = wanted.prompt_tokens + wanted.answer_tokens
        taken, error, told = None, None, list[Shown]()
        try:
            plan = planner.plan(exchange, call, model, peek=True, wanted=wanted)
        except GatewayError as refusal:
            error = refusal
            if isinstance(error, MaxCostError):
                name_cheapest(error, exchange, call, planner, self._offer)
        else:
            full = await self._full(exchange, plan, self._tokens)
            told = list(_asked(plan, full, count, wanted))
            taken = next((_taken(one) for one in told if one["taken"]), None)
            if taken is None:
                error = _all_full(model, full)
        told += self._dropped(model, wanted, count)
        shown = {
            "model": model.name,
            "strategy": planner.strategy_of(exchange, model.strategy),
            "decision": taken,
            "error": None if error is None else _error(error),
            "estimate": _estimate(count, wanted.answer_tokens),
            "candidates": told,
        }
        return _Leg(model, shown, taken, error)

    async def _count(self, model: Model) -> PromptCount:
        first = model.deployments[0]
        counted = (first.model, first.tokenizer)
        if counted not in self._counts:
            self._counts[counted] = await counted_prompt(self._call, first, self._counter)
        return self._counts[counted]

    def _dropped(self, model: Model, wanted: Wanted, count: PromptCount) -> Iterator[Shown]:
        for drop in self._planner.route(model).pool.sieved(wanted).drops:
            yield {
                **_named(drop.candidate),
                "position": None,
                "taken": False,
                "filter": drop.filter,
                "reason": f"dropped: {drop.reason}",
                "score": None,
                **_figures(drop.candidate, wanted, count),
            }

    def _fallbacks(self, model: Model) -> list[tuple[Model, str, list[Cause]]]:
        """Give the models that may be asked after this one with the causes for it, and those come to on the way."""
        exchange, found = self._exchange, dict[str, tuple[Model, str, list[Cause]]]()
        ask = exchange.route_ask
        if (ask is not None and ask.alone) or exchange.caller.provider_key is not None:
            return []
        for cause in _CAUSES:
            for other in others(exchange, model, cause, self._offer):
                causes = found.setdefault(other.name, (other, model.name, []))[2]
                if cause not in causes:
                    causes.append(cause)
        for name, (of, cause) in self._from.items():
            found.setdefault(name, (self._legs[name].model, of, [cause]))
        return list(found.values())


def _asked(plan: Planned, full: Sequence[str | None], count: PromptCount, wanted: Wanted) -> Iterator[Shown]:
    """Tell of those that passed the filters, best first."""
    scores = STRATEGIES[plan.strategy].scores(plan.left, plan.weighing)
    score_of = {one.place: score for one, score in zip(plan.left, scores, strict=True)}
    position = 0
    for one, rule in zip(plan.order(), full, strict=True):
        position += rule is None
        is_first = rule is None and position == 1
        reason = plan.why(one) if is_first else "asked when those before it fail"
        yield {
            **_named(one),
            "position": position if rule is None else None,
            "taken": is_first,
            "filter": None if rule is None else _FULL,
            "reason": reason if rule is None else f"dropped: its limit {rule} has no room now",
            "score": _finite(score_of[one.place]),
            **_figures(one, wanted, count),
        }
    asked = {one.place for one in plan.among}
    why = "it cannot read what is sealed in this call" if plan.is_bound else _ONLY_FIRST
    for one in plan.left:
        if one.place not in asked:
            yield {
                **_named(one),
                "position": None,
                "taken": False,
                "filter": None,
                "reason": f"not asked: {why}",
                "score": _finite(score_of[one.place]),
                **_figures(one, wanted, count),
            }


def _named(candidate: Candidate) -> Shown:
    deployment = candidate.deployment
    return {"deployment": candidate.name, "provider": deployment.account.name, "model": deployment.model}


def _figures(candidate: Candidate, wanted: Wanted, count: PromptCount) -> Shown:
    health, now = candidate.health, wanted.now
    pace = health.pace(stream=wanted.stream)
    return {
        "estimated_cost_usd": _finite(candidate.cost_usd(count.tokens, wanted.answer_tokens)),
        "circuit": health.state(now),
        "in_flight": health.inflight,
        "latency_ms": round(pace.mean_s * 1e3, 3) if pace.samples else None,
    }


def _taken(told: Shown) -> Shown:
    named = {name: told[name] for name in ("deployment", "provider", "model", "reason", "estimated_cost_usd")}
    return {**named, "fallback": None}


def _estimate(count: PromptCount, answer_tokens: int) -> Shown:
    return {
        "prompt_tokens": count.tokens,
        "completion_tokens": answer_tokens,
        "tokenizer": count.tokenizer,
        "exact": count.exact,
    }


def _error(error: GatewayError) -> Shown:
    return {"message": error.message, "code": error.code, "status": error.status, "details": error.details}


def _all_full(model: Model, full: Sequence[str | None]) -> RateLimitedError:
    return RateLimitedError(
        f"Every deployment of `{model.name[:200]}` is at a limit that the catalog sets for it.",
        details={"filter": _FULL, "rule": full[0]},
    )


def _full_rule(standing: Standing, rules: Rules, tokens: int) -> str | None:
    for state in standing.rates:
        rate = state.rate
        if state.remaining < (1 if rate.unit == "requests" else min(tokens, rate.burst)):
            return rate.name
    full = (slots.name for taken, slots in zip(standing.slots, rules.slots, strict=True) if taken >= slots.limit)
    return next(full, None)


def _finite(figure: float) -> float | None:
    return figure if math.isfinite(figure) else None
