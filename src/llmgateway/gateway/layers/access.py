"""Turns the name that a client asked for into its model, if there is one and this caller may use it."""

from collections.abc import Callable
from typing import Protocol

from llmgateway.errors import ModelNotFoundError, PermissionDeniedError
from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.gateway.target import Answering, Names, Target, model_not_found
from llmgateway.routing.choosing.auto import AUTO, AutoModel
from llmgateway.routing.choosing.auto import Offer as AutoOffer


class Offer(Names, AutoOffer, Protocol):
    """What is on offer, by name or to be picked from."""


class Access:
    """The outermost layer: whatever follows, a kept answer too, is for those who may use the model.

    Args:
        names: Gives the catalog served at this moment, which a reload replaces.
        auto: Picks the model where a client leaves that to us.
        peek: Only look: for dry runs.
    """

    def __init__(self, names: Callable[[], Offer], auto: AutoModel, target: Target, *, peek: bool = False) -> None:
        self._names = names
        self._auto = auto
        self._peek = peek
        self._target = target

    def send(self, exchange: Exchange, call: Call) -> Answering:
        names, caller = self._names(), exchange.caller
        model = names.resolve(call.model)
        if model is None:
            if call.model == AUTO:
                return self._send_auto(exchange, call, names)
            raise self._not_found(exchange, call, names)
        exchange.model, exchange.model_label = model, model.label
        if caller.models is not None and not caller.may_use(call.model):
            raise PermissionDeniedError(
                f"This key may not use the model `{call.model[:200]}`. GET /v1/models lists those that it may.",
                param="model",
                code="model_not_allowed",
            )
        return self._target.send(exchange, call)

    async def _send_auto(self, exchange: Exchange, call: Call, names: Offer) -> Reply:
        model = await self._auto.pick(exchange, call, names, peek=self._peek)
        if model is None:
            raise self._not_found(exchange, call, names)
        exchange.model, exchange.model_label = model, model.label
        return await self._target.send(exchange, call)

    def _not_found(self, exchange: Exchange, call: Call, names: Offer) -> ModelNotFoundError:
        caller = exchange.caller
        return model_not_found(call.model, names, None if caller.models is None else caller.may_use)
