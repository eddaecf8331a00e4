"""The one thing that answers a call, and how a name becomes one."""

from collections.abc import Callable, Sequence
from typing import Protocol

from llmgateway.catalog.model import Model
from llmgateway.errors import ModelNotFoundError
from llmgateway.exchange import Call, Exchange, Reply


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


class Resolve:
    """The innermost target: hands the call to what its model's name stands for.

    Args:
        names: Gives the catalog served at this moment, which a reload replaces.
        routed: Makes the target of a model.
    """

    def __init__(self, names: Callable[[], Names], routed: Callable[[Model], Target]) -> None:
        self._names = names
        self._routed = routed

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        names = self._names()
        model = names.resolve(call.model)
        if model is None:
            raise model_not_found(call.model, names)
        exchange.model_label = model.label
        return await self._routed(model).send(exchange, call)


def model_not_found(name: str, names: Names) -> ModelNotFoundError:
    """Say that there is no such model, or none for this caller, and which are near."""
    near = names.nearest(name)
    return ModelNotFoundError(
        f"The model `{name[:200]}` does not exist or you do not have access to it. GET /v1/models lists what is there.",
        param="model",
        details={"available_models": near},
    )


def wrap(layers: Sequence[Layer], target: Target) -> Target:
    """Put layers around a target; the first in the list is the outermost."""
    for layer in reversed(layers):
        target = layer(target)
    return target
