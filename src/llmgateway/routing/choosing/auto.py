"""The name `auto`: a model for the task, by the catalog's list of tasks, by what the call needs, and by a strategy."""

import random
import time
from collections.abc import Mapping
from typing import Protocol

from llmgateway.catalog.model import AUTO, Auto, Model
from llmgateway.errors import GatewayError, InvalidRequestError, MaxCostError
from llmgateway.exchange import Call, Event, Exchange, Operation
from llmgateway.routing.choosing.candidate import Candidate, Weighing
from llmgateway.routing.choosing.cheapest import does, name_cheapest
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.choosing.strategies import STRATEGIES, ordered
from llmgateway.routing.choosing.tasks import task_of

__all__ = ["AUTO", "AutoModel", "Offer"]


class Offer(Protocol):
    """What is on offer: the part of the catalog that `auto` picks from."""

    @property
    def auto(self) -> Auto | None: ...

    @property
    def models(self) -> Mapping[str, Model]: ...

    def resolve(self, name: str) -> Model | None: ...


class AutoModel:
    """Picks a model; the others that would do are what the call falls back to."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._turn = random.getrandbits(32)

    async def pick(self, exchange: Exchange, call: Call, offer: Offer, *, peek: bool = False) -> Model | None:
        """Choose the model that is to answer, and note task and alternatives in the exchange.

        Args:
            peek: Only look: the next call gets the same turn.

        Returns:
            `None` where there is nothing to pick from.

        Raises:
            GatewayError: No model can answer this call; the error is the preferred one's.
        """
        auto = offer.auto
        if auto is None:
            return None
        if call.operation == "embedding":
            raise InvalidRequestError(
                "`auto` picks models for chats. Name one for embeddings: vectors of two models cannot be compared.",
                param="model",
            )
        named = None if exchange.route_ask is None else exchange.route_ask.task
        task = exchange.task = task_of(call.body, named, auto.tasks)
        models = self._offered(exchange, call.operation, auto, offer, task)
        if not models:
            return None
        if any(self._planner.must_count(exchange, call, model) for model in models):
            await self._planner.count(exchange, call, models[0])
        try:
            best = self._in_order(exchange, call, auto, models, auto.tasks.get(task), peek=peek)
        except MaxCostError as error:
            name_cheapest(error, exchange, call, self._planner, offer)
            raise
        exchange.others = tuple(model.name for model in best[1:])
        exchange.note(Event("auto", time.perf_counter(), {"task": task, "to": best[0].label}))
        return best[0]

    def _offered(self, exchange: Exchange, operation: Operation, auto: Auto, offer: Offer, task: str) -> list[Model]:
        """Give the models that this caller may use, the one for the task first."""
        names = list(offer.models) if auto.models is None else list(auto.models)
        if (named := auto.tasks.get(task)) is not None:
            names.insert(0, named)
        found = [model for name in dict.fromkeys(names) if (model := offer.resolve(name)) is not None]
        return [
            model
            for model in found
            if exchange.caller.may_use(model.name)
            and model.deployments[0].account.wire != "demo"
            and does(model.deployments[0], operation)
        ]

    def _in_order(
        self, exchange: Exchange, call: Call, auto: Auto, models: list[Model], named: str | None, *, peek: bool
    ) -> list[Model]:
        planner = self._planner
        by_candidate: dict[Candidate, Model] = {}
        errors: dict[str, GatewayError] = {}
        for model in models:
            try:
                among = planner.route(model).pool.left(planner.wanted(exchange, call, model))
            except GatewayError as error:
                errors[model.name] = error
            else:
                by_candidate |= dict.fromkeys(among, model)
        if not by_candidate:
            raise errors.get(named or "") or next(iter(errors.values()))
        strategy, wanted = planner.strategy_of(exchange, auto.strategy), planner.wanted(exchange, call, models[0])
        weighing = Weighing(wanted.now, self._turn, call.stream, wanted.prompt_tokens, wanted.answer_tokens)
        self._turn += not peek
        order = [by_candidate[one] for one in ordered(STRATEGIES[strategy], list(by_candidate), weighing)]
        first = [model for model in order if model.name == named]
        return list({model.name: model for model in (*first, *order)}.values())
