"""A model that clients name, as a target: its plan, its failovers, its fallbacks to other models, its retries."""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Never, Protocol

from llmgateway.catalog.model import Deployment, Model
from llmgateway.errors import AuthenticationError, GatewayError, MaxCostError, RateLimitedError, UpstreamAuthError
from llmgateway.exchange import Attempt, Call, Event, Exchange, Reply, Streamed
from llmgateway.routing.choosing.cheapest import name_cheapest
from llmgateway.routing.choosing.planner import Planned, Planner
from llmgateway.routing.failover.causes import Cause, cause_of
from llmgateway.routing.failover.continuing import continued, may_continue
from llmgateway.routing.failover.failover import Failover
from llmgateway.routing.failover.rescue import RescuedChunks
from llmgateway.routing.makers import Makers
from llmgateway.routing.retry import Retry

_MOST_SHOWN = 10


class Names(Protocol):
    """What is on offer: the part of the catalog that gives a model instead of another."""

    @property
    def models(self) -> Mapping[str, Model]: ...

    def reach(self, name: str) -> Model | None: ...

    def equivalents(self, deployment: Deployment) -> tuple[str, ...]: ...


class RoutedModels:
    """The target of every model of the catalog.

    Args:
        names: Gives the catalog served at this moment, which a reload replaces.
        makers: Told of answers of models with several deployments.
    """

    def __init__(
        self,
        planner: Planner,
        failover: Failover,
        retry: Retry,
        names: Callable[[], Names],
        makers: Makers | None = None,
    ) -> None:
        self._planner = planner
        self._makers = makers
        self._failover = failover
        self._retry = retry
        self._names = names

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        """Answer a call for `exchange.model`. Raises: GatewayError; `details.attempts` tells who was asked."""
        model = exchange.model
        if model is None:
            raise TypeError(f"nobody resolved {call.model!r}")
        try:
            reply = await self._asked(exchange, call, model) if exchange.full is None else _no_room(exchange)
        except GatewayError as error:
            reply = await self._otherwise(exchange, call, model, error)
        if self._makers is not None and len(model.deployments) > 1 and call.operation == "chat":
            self._makers.note(exchange, reply)
        if model.rescue and isinstance(reply, Streamed) and may_continue(call):
            again, may = partial(self._continue, exchange, call, model), partial(may_leave, exchange)
            reply.chunks = RescuedChunks(reply, call, exchange, again=again, may=may)
        return reply

    async def _continue(self, exchange: Exchange, call: Call, model: Model, said: str, error: GatewayError) -> Streamed:
        """Let another deployment say the rest. Raises: GatewayError: nobody does."""
        plan = self._planner.plan(exchange, call, model)
        asked = [attempt.deployment for attempt in exchange.attempts]
        plan.tried += [one for one in plan.among if one.deployment in asked]
        before = exchange.attempts[-1]
        reply = await self._failover.send(exchange, call, plan, call_of=partial(continued, call, said))
        broken = f"{before.provider}/{before.model}, which broke off with {error.code}"
        exchange.route_reason = f"{exchange.provider}/{exchange.upstream_model} goes on for {broken}"
        if not isinstance(reply, Streamed):
            raise TypeError("a whole answer came for a call that asked for a stream")
        return reply

    async def _otherwise(self, exchange: Exchange, call: Call, model: Model, error: GatewayError) -> Reply:
        """Find an answer when no deployment has given one. Raises: GatewayError."""
        try:
            reply = await self._fall_back(exchange, call, model, error, seen={model.name})
            if reply is not None:
                return reply
            return await self._retry.after(exchange, error, partial(self._round, exchange, call, model))
        except UpstreamAuthError as last:
            if exchange.caller.provider_key is None:
                raise _told(last, exchange) from last.__cause__
            # The key that was refused is the client's own.
            raise AuthenticationError(f"{exchange.caller.provider} does not take this key.") from last
        except GatewayError as last:
            if isinstance(last, MaxCostError):
                name_cheapest(last, exchange, call, self._planner, self._names())
            raise _told(last, exchange) from last.__cause__
        finally:
            del error  # its traceback holds this frame: in a circle, the body would wait for the collector

    async def _round(self, exchange: Exchange, call: Call, model: Model) -> Reply:
        """Ask everybody who may answer, once more."""
        try:
            return await self._asked(exchange, call, model, again=True)
        except GatewayError as error:
            reply = await self._fall_back(exchange, call, model, error, seen={model.name})
            if reply is None:
                raise
            return reply

    def _asked(self, exchange: Exchange, call: Call, model: Model, *, again: bool = False) -> Awaitable[Reply]:
        only = self._planner.only(exchange, call, model)
        if only is not None:
            return self._failover.only(exchange, call, only)
        if self._planner.must_count(exchange, call, model):
            return self._counted(exchange, call, model, again=again)
        return self._planned(exchange, call, model, again=again)

    async def _counted(self, exchange: Exchange, call: Call, model: Model, *, again: bool) -> Reply:
        await self._planner.count(exchange, call, model)
        return await self._planned(exchange, call, model, again=again)

    def _planned(self, exchange: Exchange, call: Call, model: Model, *, again: bool) -> Awaitable[Reply]:
        planner, early, is_alone = self._planner, exchange.plan, _is_alone(exchange)
        if isinstance(early, Planned) and early.route.model is model and (is_alone or not again):
            early.tried.clear()
            return self._failover.send(exchange, call, early, place=exchange.choice)
        plan = planner.plan(exchange, call, model, forced=again)
        if is_alone:
            exchange.plan = plan  # the first choice is asked again, and not another one
        place = 0 if exchange.leave is None else None
        return self._failover.send(exchange, call, plan, place=place, forced=again)

    async def _fall_back(
        self, exchange: Exchange, call: Call, model: Model, error: GatewayError, *, seen: set[str]
    ) -> Reply | None:
        """Ask other models, and theirs; `None` when none of them answers either, or would do better."""
        cause = may_fall_back(exchange, error)
        if cause is None:
            return None
        for other in others(exchange, model, cause, self._names()):
            if other.name in seen:
                continue
            if exchange.is_late:
                break
            seen.add(other.name)
            told: dict[str, str | int | float | bool] = {"from": model.label, "to": other.label, "cause": error.code}
            exchange.note(Event("fallback", time.perf_counter(), told))
            try:
                reply = await self._asked(exchange, call, other)
            except GatewayError as later:
                found = await self._fall_back(exchange, call, other, later, seen=seen)
                if found is None:
                    continue
                return found
            exchange.route_reason = f"{other.label}, the fallback of {model.label} after {error.code}"
            return reply
        return None


def _is_alone(exchange: Exchange) -> bool:
    return exchange.route_ask is not None and exchange.route_ask.alone


def _no_room(exchange: Exchange) -> Never:
    """Say that every deployment is at a limit of its own. Raises: GatewayError, which nobody holds any longer."""
    error, exchange.full = exchange.full, None
    try:
        raise error or RateLimitedError("Every deployment is at its limits.")
    finally:
        del error


def may_leave(exchange: Exchange) -> bool:
    """Whether anybody else may be asked than who was chosen first."""
    return not _is_alone(exchange) and exchange.caller.provider_key is None


def may_fall_back(exchange: Exchange, error: GatewayError) -> Cause | None:
    """Name the list of fallbacks that an error leads to; `None` where no other model may be asked, or would help."""
    if not may_leave(exchange):
        return None
    if isinstance(error, MaxCostError) and exchange.others:
        return "any"  # the client left it to us which model answers
    return None if exchange.is_late else cause_of(error)


def others(exchange: Exchange, model: Model, cause: Cause, names: Names) -> Iterator[Model]:
    """Give the models that may stand in for one, best first: those it names, else equivalents; what the caller may use.

    Args:
        cause: What went wrong; a list of its own goes before `any`, also when it is empty.
    """
    for name in _names(exchange, model, cause, names):
        found = names.reach(name)
        if found is None or found.name == model.name or not exchange.caller.may_use(found.name):
            continue
        if not exchange.only_models or found.name in exchange.only_models:
            yield found


def _names(exchange: Exchange, model: Model, cause: Cause, names: Names) -> Iterator[str]:
    fallbacks = model.fallbacks
    if fallbacks is not None:
        own: tuple[str, ...] | None = getattr(fallbacks, cause)
        yield from (fallbacks.any if own is None else own) or ()
    elif model.in_catalog and exchange.operation != "embedding":
        # Vectors of two models cannot be compared.
        for deployment in model.deployments:
            yield from names.equivalents(deployment)
    yield from exchange.others


def _told(error: GatewayError, exchange: Exchange) -> GatewayError:
    """Add who was asked to an error that hides more than one."""
    if len(exchange.attempts) > 1:
        asked = [_shown(attempt) for attempt in exchange.attempts[-_MOST_SHOWN:]]
        error.details = {**(error.details or {}), "attempts": asked}
    return error


def _shown(attempt: Attempt) -> dict[str, object]:
    ended = attempt.started if attempt.ended is None else attempt.ended
    return {
        "provider": attempt.provider,
        "model": attempt.model,
        "outcome": attempt.outcome,
        "status": attempt.upstream_status,
        "ms": round((ended - attempt.started) * 1e3, 1),
    }
