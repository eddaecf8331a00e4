"""The list of models, in OpenAI's shape with what the gateway knows beside it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.caller import ANYONE, Caller
from llmgateway.catalog.model import ListedModel
from llmgateway.catalog.snapshot import Catalog
from llmgateway.exchange import Exchange
from llmgateway.gateway.target import model_not_found
from llmgateway.gateway.virtual.asking import PREFIX

# Bytes; no name in a catalog is that long, and a message must not repeat more.
_LONGEST_ID = 512

# Gives the document services that whoever asks may name as models.
Services = Callable[[Exchange], Awaitable[Sequence[ListedModel]]]


async def _no_services(_: Exchange) -> Sequence[ListedModel]:
    return ()


def routes(current: Callable[[], Catalog], services: Services = _no_services) -> list[Route]:
    """Serve the list and one model of it, as far as whoever asks may use them.

    Args:
        current: Gives the catalog as it is now, since it may be exchanged at any time.
        services: Gives the document services that may be named as models.
    """

    async def list_models(request: Request) -> Response:
        listed = select(
            [*current().listed(), *await services(_exchange_of(request))],
            capabilities=request.query_params.getlist("capability"),
            providers=request.query_params.getlist("provider"),
        )
        caller = _exchange_of(request).caller
        return _json({"object": "list", "data": [model_object(model) for model in listed if may_see(caller, model)]})

    async def read_model(request: Request) -> Response:
        exchange, model_id = _exchange_of(request), request.path_params["model_id"]
        named = [one for one in await services(exchange) if one.id == model_id] if _is_service(model_id) else []
        if named and may_see(exchange.caller, named[0]):
            return _json(model_object(named[0]))
        return _json(find_model(current(), model_id, exchange.caller))

    return [
        Route("/v1/models", list_models, methods=["GET"]),
        # `:path`, since most names have a slash in them.
        Route("/v1/models/{model_id:path}", read_model, methods=["GET"]),
    ]


def select(
    listed: Iterable[ListedModel], *, capabilities: Iterable[str] = (), providers: Iterable[str] = ()
) -> list[ListedModel]:
    """Keep the models that have ALL the capabilities and are answered for by one of the providers."""
    wanted, accepted = set(capabilities), set(providers)
    return [
        model
        for model in listed
        if wanted <= set(model.capabilities) and (not accepted or accepted & set(model.providers))
    ]


def may_see(caller: Caller, model: ListedModel) -> bool:
    """Whether a model is one that the caller may use; with a provider's key, one that this provider answers for."""
    if caller.models is not None and not caller.may_use(model.id):
        return False
    return caller.provider is None or caller.provider in model.providers


def find_model(catalog: Catalog, model_id: str, caller: Caller = ANYONE) -> dict[str, Any]:
    """Give one model's object.

    Raises:
        ModelNotFoundError: It is not on offer, or not for this caller; `details.available_models` has the nearest.
    """
    model = catalog.describe(model_id)
    if model is None or not may_see(caller, model):
        raise model_not_found(model_id[:_LONGEST_ID], catalog, None if caller.models is None else caller.may_use)
    return model_object(model)


def model_object(model: ListedModel) -> dict[str, Any]:
    """Give OpenAI's `model` object; what is not known is null, and a price is never 0 for it."""
    shown: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "context_length": model.context_length,
        "max_output_tokens": model.max_output_tokens,
        "pricing": dict(model.pricing) or None,
        "capabilities": list(model.capabilities),
        "providers": list(model.providers),
    }
    if model.demo:
        shown["demo"] = True
    return shown


def _exchange_of(request: Request) -> Exchange:
    exchange: Exchange = request.scope["exchange"]
    return exchange


def _is_service(model_id: str) -> bool:
    return model_id.startswith(PREFIX)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
