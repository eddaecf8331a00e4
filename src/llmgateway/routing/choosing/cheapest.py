"""The cheapest model that would fit: for whom what was asked for is too dear."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from llmgateway.catalog import known
from llmgateway.catalog.model import Deployment, Model
from llmgateway.errors import GatewayError, MaxCostError
from llmgateway.exchange import Call, Exchange, Operation
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.planner import Planner


class Models(Protocol):
    """What is on offer: the models that the catalog names."""

    @property
    def models(self) -> Mapping[str, Model]: ...


def name_cheapest(error: MaxCostError, exchange: Exchange, call: Call, planner: Planner, offer: Models) -> None:
    """Add to the error which model would answer this call for what it may cost, if any would."""
    found = min(_fitting(exchange, call, planner, offer), key=lambda one: one[0], default=None)
    cheapest = None
    if found is not None:
        cost_usd, model, candidate = found
        provider = candidate.deployment.account.name
        cheapest = {"model": model.name, "provider": provider, "estimated_cost_usd": cost_usd}
    error.details = {**(error.details or {}), "cheapest": cheapest}


def does(deployment: Deployment, operation: Operation) -> bool:
    """Whether a deployment is for calls of this kind."""
    facts = known.find(deployment.account.provider, deployment.model)
    if facts is not None:
        return facts.mode == operation
    # A model of one's own is in no table: its name says whether it makes vectors.
    return ("embed" in deployment.model.lower()) is (operation == "embedding")


def _fitting(
    exchange: Exchange, call: Call, planner: Planner, offer: Models
) -> Iterator[tuple[float, Model, Candidate]]:
    for model in offer.models.values():
        first = model.deployments[0]
        if not exchange.caller.may_use(model.name) or first.account.wire == "demo" or not does(first, call.operation):
            continue
        wanted = planner.wanted(exchange, call, model)
        try:
            among = planner.route(model).pool.left(wanted)
        except GatewayError:
            continue  # it is no alternative
        for one in among:
            yield one.cost_usd(wanted.prompt_tokens, wanted.answer_tokens), model, one
