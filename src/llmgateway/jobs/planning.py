"""What a run will do, decided before it starts: which flavor runs, with how many calls, and for how much.

One function for those who only ask and for those who order.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct, structs

from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents.planning import plan as planned_by
from llmgateway.documents.planning import reduces
from llmgateway.documents.readers.reading import MOST_CHARS
from llmgateway.documents.recipe import Plan, Recipe
from llmgateway.errors import DocumentError, MaxCostError, NotFoundError, RequestTooLargeError
from llmgateway.jobs.order import Order
from llmgateway.jobs.recipes import Prepared, Recipes, check_caller
from llmgateway.jobs.services import Service, Services
from llmgateway.jobs.windows import Window, counting
from llmgateway.jobs.work import Work
from llmgateway.storage.documents.rows import FlavorRow, ServiceRow
from llmgateway.storage.jobs.rows import Records
from llmgateway.tokens.counter import TokenCounter

_LONGEST_SHOWN = 100
# Above this share of the window a document only just fits.
_TIGHT = 0.8
# What usual models do: seconds before an answer begins, tokens of it in a second, and its share of what was read.
_BEGIN_S, _TOKENS_PER_S, _USUAL_SHARE = 1.0, 60.0, 0.25
_SHORTEST_SHARE = 0.02
_LEAST_TOKENS = 16
# Calls side by side where a flavor says nothing.
_USUAL_CONCURRENCY = 8


class Cost(Struct, frozen=True):
    """Between what a run will cost, in US dollars; a call that must be gone on with costs more."""

    low_usd: float
    high_usd: float


class Planned(Struct, frozen=True, kw_only=True):
    """A run as it will be.

    Args:
        flavor: The one that will run: another than was asked for where `records` say so.
        calls: Of models, without those that continue an answer that was cut.
        cost: `None` is not known.
        warning: What whoever asks should know before.
    """

    service: ServiceRow
    flavor: FlavorRow
    work: Work
    records: Records
    calls: int
    seconds: float
    cost: Cost | None = None
    warning: str | None = None


class _Fitting(Struct, frozen=True):
    """A flavor that can take the document."""

    flavor: FlavorRow
    prepared: Prepared
    plan: Plan
    records: Records


class Planner:
    """Plans runs.

    Args:
        names: Gives the catalog as it is now.
        counter: Counts in threads of its own: a long document takes seconds.
    """

    def __init__(self, services: Services, names: Callable[[], Catalog], counter: TokenCounter) -> None:
        self._services = services
        self._recipes = Recipes(services, names)
        self._counter = counter

    async def plan(self, order: Order) -> Planned:
        """Decide what a run of this order does.

        Raises:
            NotFoundError: There is no such service or flavor, or it is another organization's: the same text.
            PermissionDeniedError: The key may not run it.
            DocumentError: It cannot run, or not with this document; `code` says why.
            RequestTooLargeError: The document is longer than any may be.
            MaxCostError: It would cost more than the order allows, even with short answers.
        """
        check_text(order.text)
        service = await self._service(order)
        flavor = _flavor(service, order.flavor)
        fitting = await self._fitting(order, service, flavor)
        after = await self._recipes.after(service, fitting.flavor, order.caller)
        cost = _cost(fitting.prepared.window, fitting.prepared.recipe, fitting.plan)
        _check_cost(cost, order.max_cost_usd)
        work = Work(
            recipes=tuple(_capped(recipe, order.max_cost_usd) for recipe in (fitting.prepared.recipe, *after)),
            plan=fitting.plan,
            extras=order.extras,
            tags=order.tags,
            allow_new_tags=order.allow_new_tags,
        )
        return Planned(
            service=service.row,
            flavor=fitting.flavor,
            work=work,
            records=fitting.records,
            calls=_calls(fitting.prepared.recipe, fitting.plan),
            seconds=_seconds(fitting.prepared.recipe, fitting.plan),
            cost=cost,
            warning=_warning(fitting.prepared.recipe, fitting.plan),
        )

    async def check(self, order: Order, model: str) -> None:
        """Only look whether whoever orders may run that service. Raises: as `plan`, without what the text decides.

        Args:
            model: What the run will ask for; the flavor may name another one by now.
        """
        service = await self._service(order)
        check_caller(order.caller, service, _flavor(service, order.flavor), model)

    async def _service(self, order: Order) -> Service:
        service = await self._services.service(order.service, order.organization, everyone=order.everyone)
        if service is None:
            raise NotFoundError(
                f"There is no service {_short(order.service)} here, or it is not yours. GET /api/v1/services lists "
                "those that there are.",
                param="service",
            )
        if not service.row.is_active:
            raise DocumentError(
                f"The service `{service.row.name}` is switched off: PATCH /api/v1/services/{service.row.id} "
                '{"is_active": true} switches it on.',
                code="service_inactive",
                details={"service_id": service.row.id},
            )
        return service

    async def _fitting(self, order: Order, service: Service, flavor: FlavorRow) -> _Fitting:
        prepared = await self._recipes.of(flavor, service.row.organization_id)
        check_caller(order.caller, service, flavor, prepared.recipe.model)
        try:
            return _Fitting(flavor, prepared, await self._planned(order, prepared.recipe), Records())
        except DocumentError as error:
            if error.code != "context_exceeded":
                raise
            return await self._otherwise(order, service, flavor, prepared, error)

    async def _otherwise(
        self, order: Order, service: Service, flavor: FlavorRow, prepared: Prepared, error: DocumentError
    ) -> _Fitting:
        """Take what the flavor names for documents that do not fit, or go through it in parts."""
        settings = flavor.settings
        records = Records(
            fallback_applied=True,
            original_flavor_id=flavor.id,
            original_flavor_name=flavor.name,
            fallback_reason=f"context_exceeded: {error.message}",
        )
        if settings.fallback_flavor_id is not None:
            return await self._other(order, service, flavor, records)
        if settings.processing_mode == "single_pass" and settings.auto_fallback_to_iterative:
            parts = structs.replace(prepared.recipe.settings, processing_mode="iterative")
            prepared = structs.replace(prepared, recipe=structs.replace(prepared.recipe, settings=parts))
            return _Fitting(flavor, prepared, await self._planned(order, prepared.recipe), records)
        named = {"flavor_id": flavor.id, "flavor_name": flavor.name}
        raise DocumentError(error.message, code=error.code, details={**(error.details or {}), **named}) from None

    async def _other(self, order: Order, service: Service, flavor: FlavorRow, records: Records) -> _Fitting:
        """Run the flavor that another one names for documents that do not fit it."""
        other_id = flavor.settings.fallback_flavor_id or ""
        other, its_service = await self._services.flavor(other_id), await self._services.service_of(other_id)
        named = {"flavor_id": flavor.id, "flavor_name": flavor.name, "fallback_flavor_id": other_id}
        if other is None or its_service is None or not its_service.is_seen_by(service.row.organization_id):
            raise DocumentError(
                f"The document does not fit the flavor `{flavor.name}`, and the one that it names for this case is not "
                f"there: PATCH /api/v1/flavors/{flavor.id} with another `fallback_flavor_id`, or with null.",
                code="fallback_flavor_not_found",
                details=named,
            )
        if not other.is_active:
            raise DocumentError(
                f"The document does not fit the flavor `{flavor.name}`, and `{other.name}`, which it names for this "
                "case, is switched off: switch it on, or name another one.",
                code="fallback_flavor_inactive",
                details=named,
            )
        prepared = await self._recipes.of(other, its_service.row.organization_id)
        check_caller(order.caller, service, flavor, prepared.recipe.model)
        try:
            return _Fitting(other, prepared, await self._planned(order, prepared.recipe), records)
        except DocumentError as error:
            if error.code != "context_exceeded":
                raise
            raise DocumentError(
                f"The document fits neither the flavor `{flavor.name}` nor `{other.name}`, which it names for this "
                f"case: {error.message}",
                code="fallback_context_exceeded",
                details={**(error.details or {}), **named},
            ) from None

    async def _planned(self, order: Order, recipe: Recipe) -> Plan:
        count = counting(self._counter, recipe.upstream_model, recipe.tokenizer)
        return await self._counter.apart(partial(planned_by, order.text, recipe, order.extras, count))


def explained(planned: Planned) -> dict[str, Any]:
    """Tell what a run will do, as clients read it."""
    recipe, plan, records, cost = planned.work.recipe, planned.work.plan, planned.records, planned.cost
    return {
        "valid": True,
        "error_code": None,
        "warning": planned.warning,
        "mode": plan.mode,
        "service_id": planned.service.id,
        "service_name": planned.service.name,
        "flavor": {"id": recipe.flavor_id, "name": recipe.flavor_name, "model": recipe.model},
        "fallback_applied": records.fallback_applied,
        "original_flavor_id": records.original_flavor_id,
        "original_flavor_name": records.original_flavor_name,
        "fallback_reason": records.fallback_reason,
        "failover_flavors": [one.flavor_name for one in planned.work.recipes[1:]],
        "input_tokens": plan.input_tokens,
        "prompt_tokens": plan.prompt_tokens,
        "max_generation": recipe.max_generation,
        "context_length": recipe.context_length,
        "context_estimated": recipe.window_estimated,
        "context_available": plan.available,
        "batches": len(plan.batches),
        "turns": plan.turns,
        "calls": planned.calls,
        "estimated_cost": None if cost is None else {"low": cost.low_usd, "high": cost.high_usd},
        "estimated_seconds": planned.seconds,
    }


def check_text(text: str) -> None:
    """Refuse what no service can do anything with. Raises: DocumentError, RequestTooLargeError."""
    if not text.strip():
        raise DocumentError("The document is empty: send some text.", code="empty_input", param="input")
    if len(text) > MOST_CHARS:
        raise RequestTooLargeError(
            f"The document has {len(text):,} characters, and {MOST_CHARS:,} is the most: split it.", param="input"
        )


def _flavor(service: Service, name: str | None) -> FlavorRow:
    flavor = service.default if name is None else service.flavor(name)
    if flavor is None and name is None:
        raise DocumentError(
            f"The service `{service.row.name}` has no default flavor: name one of its flavors, or make one the default "
            "with POST /api/v1/flavors/{id}/set-default.",
            code="no_default_flavor",
            details={"service_id": service.row.id},
        )
    if flavor is None:
        there = ", ".join(f"`{one.name}`" for one in service.flavors) or "none"
        raise NotFoundError(
            f"The service `{service.row.name}` has no flavor {_short(name or '')}; it has {there}.", param="flavor"
        )
    if not flavor.is_active:
        raise DocumentError(
            f"The flavor `{flavor.name}` of `{service.row.name}` is switched off: name another one, or switch it on "
            f"with PATCH /api/v1/flavors/{flavor.id}.",
            code="flavor_inactive",
            details={"flavor_id": flavor.id, "flavor_name": flavor.name},
        )
    return flavor


def _short(text: str) -> str:
    return f"`{text if len(text) <= _LONGEST_SHOWN else f'{text[:_LONGEST_SHOWN]}…'}`"


def _usual_answer(recipe: Recipe, tokens: int) -> float:
    return min(recipe.max_generation, max(float(_LEAST_TOKENS), tokens * _USUAL_SHARE))


def _reduce_levels(recipe: Recipe, plan: Plan) -> list[int]:
    """Guess how many calls each level of the final consolidation has, the widest first."""
    parts = len(plan.batches)
    if not parts or not reduces(plan.mode, recipe.settings):
        return []
    answer = max(1.0, _usual_answer(recipe, plan.input_tokens // max(1, parts)))
    at_once = max(2, int(plan.available // answer))
    levels: list[int] = []
    while not levels or parts > 1:
        parts = -(-parts // at_once)
        levels.append(parts)
    return levels


def _calls(recipe: Recipe, plan: Plan) -> int:
    return len(plan.batches) + sum(_reduce_levels(recipe, plan))


def _cost(window: Window, recipe: Recipe, plan: Plan) -> Cost | None:
    """Estimate a run's cost: shortest answers at the cheapest price, and longest ones at the dearest."""
    if window.cheapest is None or window.dearest is None:
        return None
    calls, reduces = _calls(recipe, plan), sum(_reduce_levels(recipe, plan))
    read = plan.input_tokens + plan.prompt_tokens * calls
    short = max(_LEAST_TOKENS * calls, plan.input_tokens * _SHORTEST_SHARE)
    long = recipe.max_generation * calls
    # What is shown again: earlier turns with each batch, and everything in each level of the consolidation.
    again = sum(min(recipe.max_generation, max(0, plan.available - batch.tokens)) for batch in plan.batches[1:])
    again = (again if plan.mode == "iterative" else 0) + plan.available * reduces
    return Cost(
        round(read * window.cheapest.input_usd + short * window.cheapest.output_usd, 9),
        round((read + again) * window.dearest.input_usd + long * window.dearest.output_usd, 9),
    )


def _check_cost(cost: Cost | None, most_usd: float | None) -> None:
    """Refuse what will cost too much in any case. Raises: MaxCostError."""
    if cost is not None and most_usd is not None and cost.low_usd > most_usd:
        raise MaxCostError(
            f"This would cost at least ${cost.low_usd:.6f}, and X-Max-Cost-USD allows ${most_usd:.6f}: send a shorter "
            "document, choose a flavor with a cheaper model, or allow more.",
            details={"estimated_cost": {"low": cost.low_usd, "high": cost.high_usd}},
        )


def _capped(recipe: Recipe, most_usd: float | None) -> Recipe:
    """Let a run cost no more than its order allows."""
    allowed_usd = recipe.settings.max_cost_usd
    if most_usd is None or (allowed_usd is not None and allowed_usd <= most_usd):
        return recipe
    return structs.replace(recipe, settings=structs.replace(recipe.settings, max_cost_usd=most_usd))


def _seconds(recipe: Recipe, plan: Plan) -> float:
    """Estimate how long a run takes, with usual models and answers."""
    answers = [_BEGIN_S + _usual_answer(recipe, batch.tokens) / _TOKENS_PER_S for batch in plan.batches]
    side_by_side = recipe.settings.max_concurrent_requests or _USUAL_CONCURRENCY
    if plan.mode == "map_reduce":
        total = max(max(answers, default=0.0), sum(answers) / min(side_by_side, max(1, len(answers))))
    else:
        total = sum(answers)
    one = _BEGIN_S + recipe.max_generation * _USUAL_SHARE / _TOKENS_PER_S
    return round(total + sum(-(-level // side_by_side) * one for level in _reduce_levels(recipe, plan)), 1)


def _warning(recipe: Recipe, plan: Plan) -> str | None:
    told = []
    used = plan.prompt_tokens + max((batch.tokens for batch in plan.batches), default=0) + recipe.max_generation
    if plan.mode == "single_pass" and used > recipe.context_length * _TIGHT:
        share = 100 * used / recipe.context_length
        told.append(
            f"Prompt, document and answer take {share:.0f} % of the model's window of {recipe.context_length:,} tokens."
        )
    if recipe.window_estimated:
        told.append(
            f"Nobody says how long the window of `{recipe.model}` is: {recipe.context_length:,} tokens are assumed. "
            "Its `context_length` in the catalog says it."
        )
    if recipe.model.startswith("demo/"):
        told.append("A demo model answers, which picks sentences and understands nothing: configure a provider.")
    return " ".join(told) or None
