"""The one thing that answers a call, and how a name becomes one."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from llmgateway.catalog.model import Model
from llmgateway.errors import ModelNotFoundError
from llmgateway.exchange import Call, Exchange, Reply

# A layer that has nothing to do for a call hands on what the next one gives: that costs a plain function call.
Answering = Coroutine[Any, Any, Reply]


class Target(Protocol):
    """Whatever a call can be sent to: a layer, a routed model, a virtual model."""

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        """Answer the call. Raises: GatewayError."""
        ...


Layer = Callable[[Target], Target]


class Names(Protocol):
    """What is on offer: the part of the catalog that turns a name into a model."""

    def resolve(self, name: str) -> Model | None: ...

    def nearest(self, name: str, count: int = 10) -> list[str]: ...


class Answer:
    """The innermost target: hands the call to the models, unless limits let only a kept answer pass."""

    def __init__(self, models: Target) -> None:
        self._models = models

    def send(self, exchange: Exchange, call: Call) -> Answering:
        if exchange.refusal is not None:
            raise exchange.refusal
        return self._models.send(exchange, call)


def model_not_found(name: str, names: Names, may_use: Callable[[str], bool] | None = None) -> ModelNotFoundError:
    """Say that there is no such model, or none for this caller, and which of the caller's own are near."""
    near = [model for model in names.nearest(name) if may_use is None or may_use(model)]
    return ModelNotFoundError(
        f"The model `{name[:200]}` does not exist or you do not have access to it. GET /v1/models lists what is there; "
        "a provider's models are, once the gateway has its key.",
        param="model",
        details={"available_models": near},
    )


def wrap(layers: Sequence[Layer], target: Target) -> Target:
    """Put layers around a target; the first in the list is the outermost."""
    for layer in reversed(layers):
        target = layer(target)
    return target
