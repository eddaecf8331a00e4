"""What a provider itself says of its models: one question to it, for administrators."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.catalog import known
from llmgateway.catalog.model import Account
from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents_api.asked import in_time, short
from llmgateway.documents_api.catalog.accounts import Rows
from llmgateway.documents_api.shelves.viewer import administrator
from llmgateway.documents_api.shown import json_answer, moment
from llmgateway.errors import ConflictError, NotFoundError, ProviderTimeoutError

_LIMIT_S = 15.0
_WIRES = frozenset({"openai", "azure"})

# Gives the names of an account's models. Raises: UpstreamError.
Discover = Callable[[Account], Awaitable[Sequence[str]]]


def routes(rows: Rows, catalog: Callable[[], Catalog], discover: Discover) -> list[Route]:
    """Serve `/api/v1/providers/{id}/discover-models` and `/api/v1/models/{id}/verify`."""

    async def discover_models(request: Request) -> Response:
        administrator(request)
        account = _account(catalog(), request.path_params["id"])
        names = await _listed(discover, account)
        served = catalog().models.values()
        taken = {one.model for model in served for one in model.deployments if one.account.name == account.name}
        items = [
            {
                "model_identifier": name,
                "is_registered": name in taken,
                "context_length": None
                if (facts := known.find(account.provider, name)) is None
                else facts.context_length,
                "max_generation_length": None if facts is None else facts.max_output_tokens,
            }
            for name in names
        ]
        return json_answer({"provider_id": account.name, "items": items, "total": len(items)})

    async def verify(request: Request) -> Response:
        administrator(request)
        model_id: str = request.path_params["id"]
        row = await in_time(partial(rows.deployment, model_id))
        if row is None:
            raise NotFoundError(f"There is no model {short(model_id)}. GET /api/v1/models lists them.")
        account = _account(catalog(), row.fields.get("provider", ""))
        identifier = row.fields.get("model")
        is_there = identifier in await _listed(discover, account)
        told = {"model_id": row.id, "provider_id": account.name, "model_identifier": identifier}
        return json_answer({**told, "is_listed": is_there, "verified_at": moment(datetime.now(UTC))})

    return [
        Route("/api/v1/providers/{id}/discover-models", discover_models, methods=["POST"]),
        Route("/api/v1/models/{id}/verify", verify, methods=["POST"]),
    ]


def _account(catalog: Catalog, name: str) -> Account:
    """Give an account that can be asked. Raises: NotFoundError, ConflictError."""
    account = catalog.accounts.get(name)
    if account is None:
        raise NotFoundError(f"There is no provider {short(name)} that is served now.")
    if account.wire not in _WIRES:
        raise ConflictError(
            f"The provider {short(name)} does not speak OpenAI's wire: its models cannot be listed from here.",
            code="not_discoverable",
        )
    return account


async def _listed(discover: Discover, account: Account) -> Sequence[str]:
    try:
        with anyio.fail_after(_LIMIT_S):
            return await discover(account)
    except TimeoutError:
        raise ProviderTimeoutError(
            f"The provider {short(account.name)} did not list its models within {_LIMIT_S:g} s."
        ) from None
