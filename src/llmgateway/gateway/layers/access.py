"""Turns the name that a client asked for into its model, if there is one and this caller may use it."""

from collections.abc import Callable

from llmgateway.errors import PermissionDeniedError
from llmgateway.exchange import Call, Exchange
from llmgateway.gateway.target import Answering, Names, Target, model_not_found


class Access:
    """The outermost layer: whatever follows, a kept answer too, is for those who may use the model.

    Args:
        names: Gives the catalog served at this moment, which a reload replaces.
    """

    def __init__(self, names: Callable[[], Names], target: Target) -> None:
        self._names = names
        self._target = target

    def send(self, exchange: Exchange, call: Call) -> Answering:
        names, caller = self._names(), exchange.caller
        model = names.resolve(call.model)
        if model is None:
            raise model_not_found(call.model, names, None if caller.models is None else caller.may_use)
        exchange.model, exchange.model_label = model, model.label
        if caller.models is not None and not caller.may_use(call.model):
            raise PermissionDeniedError(
                f"This key may not use the model `{call.model[:200]}`. GET /v1/models lists those that it may.",
                param="model",
                code="model_not_allowed",
            )
        return self._target.send(exchange, call)
