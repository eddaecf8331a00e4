"""Providers and models: views on the rows of `/admin/providers` and `/admin/deployments`, which do the writing.

Everybody reads what is no secret; whoever writes is an administrator.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from llmgateway.catalog.model import Deployment
from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents_api.asked import body_asked, exchange_of, in_time, page_asked, short, text_in_query
from llmgateway.documents_api.catalog.fields import (
    MODEL_NAMES,
    PROVIDER_NAMES,
    ModelFields,
    NewModelFields,
    NewProviderFields,
    ProviderFields,
    limits_shown,
    model_shown,
    model_told,
    provider_shown,
    provider_told,
)
from llmgateway.documents_api.entities.shown import page_of
from llmgateway.documents_api.shelves.viewer import Viewer, administrator, viewer_of
from llmgateway.documents_api.shown import json_answer
from llmgateway.errors import ConflictError, InvalidRequestError, NotFoundError
from llmgateway.keys.modes import LOCAL_ADMIN
from llmgateway.storage.admin.rows import DeploymentRow, Page, ProviderRow

_PAGE_SIZE = 100
_PROVIDERS, _MODELS = "/api/v1/providers", "/api/v1/models"
_UNKNOWN = "unknown"


class Rows(Protocol):
    """Where the rows are. Raises: StorageAwayError."""

    async def provider(self, name: str, /) -> ProviderRow | None: ...

    async def providers(self, page: int, page_size: int, /) -> Page[ProviderRow]: ...

    async def deployment(self, deployment_id: str, /) -> DeploymentRow | None: ...

    async def deployments(self, page: int, page_size: int, /) -> Page[DeploymentRow]: ...


# Says how a deployment is, such as `healthy`.
Health = Callable[[Deployment], str]


def _unknown(_: Deployment) -> str:
    return _UNKNOWN


def routes(
    rows: Rows, catalog: Callable[[], Catalog], admin: Sequence[Route], health: Health = _unknown
) -> list[Route]:
    """Serve `/api/v1/providers` and `/api/v1/models`.

    Args:
        admin: The routes of `/admin/providers` and `/admin/deployments`.
    """
    providers, models = _Providers(rows, Office(admin)), _Models(rows, catalog, Office(admin), health)
    one_provider, one_model = f"{_PROVIDERS}/{{id}}", f"{_MODELS}/{{id}}"
    return [
        Route(_PROVIDERS, providers.list, methods=["GET"]),
        Route(_PROVIDERS, providers.make, methods=["POST"]),
        Route(one_provider, providers.read, methods=["GET"]),
        Route(one_provider, providers.change, methods=["PATCH"]),
        Route(one_provider, providers.remove, methods=["DELETE"]),
        Route(_MODELS, models.list, methods=["GET"]),
        Route(_MODELS, models.make, methods=["POST"]),
        Route(one_model, models.read, methods=["GET"]),
        Route(one_model, models.change, methods=["PATCH"]),
        Route(one_model, models.remove, methods=["DELETE"]),
        Route(f"{one_model}/limits", models.read_limits, methods=["GET"]),
    ]


class Office:
    """Asks the administrators' own endpoints, which check and write, and tells their refusals in our words."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._endpoints = {(route.path, method): route.endpoint for route in routes for method in route.methods or ()}

    async def ask(
        self, request: Request, method: str, path: str, names: Mapping[str, str], body: object = None
    ) -> dict[str, Any]:
        """Ask as the administrator that the request is.

        Args:
            path: As it is served; what stands for a name in it is taken from the request's own `id`.
            names: What the fields are called here, to what they are called there.

        Raises:
            GatewayError: As it is raised there.
        """
        content = msgspec.json.encode({} if body is None else body)
        exchange = exchange_of(request)
        caller = exchange.caller if exchange.caller.kind == "admin" else LOCAL_ADMIN
        params = {name: request.path_params.get("id", "") for name in re.findall(r"\{(\w+)\}", path)}
        scope = {
            **request.scope,
            "path_params": params,
            "query_string": b"",
            "exchange": structs.replace(exchange, caller=caller),
        }

        async def receive() -> Message:
            return {"type": "http.request", "body": content, "more_body": False}

        try:
            response: Response = await self._endpoints[path, method](Request(scope, receive))
        except InvalidRequestError as error:
            raise _in_our_words(error, names) from None
        answer: dict[str, Any] = msgspec.json.decode(bytes(response.body))
        return answer


def _in_our_words(error: InvalidRequestError, names: Mapping[str, str]) -> InvalidRequestError:
    ours = {theirs: name for name, theirs in names.items()}
    told = re.sub(r"`(\w+)([`.])", lambda found: f"`{ours.get(found[1], found[1])}{found[2]}", error.message)
    told = told.replace("/admin/providers", _PROVIDERS).replace("/admin/deployments", _MODELS)
    first, dot, rest = (error.param or "").partition(".")
    param = None if error.param is None else f"{ours.get(first, first)}{dot}{rest}"
    return type(error)(told, param=param, code=error.code, details=error.details)


class _Providers:
    def __init__(self, rows: Rows, office: Office) -> None:
        self._rows = rows
        self._office = office

    async def list(self, request: Request) -> Response:
        number, size = page_asked(request)
        rows = await _every(self._rows.providers)
        shown = partial(provider_shown, may_administer=viewer_of(request).may_administer)
        return page_of(rows, number, size, shown)

    async def read(self, request: Request) -> Response:
        return await self._answer(request, request.path_params["id"])

    async def make(self, request: Request) -> Response:
        administrator(request)
        body = body_asked(request, NewProviderFields)
        await self._office.ask(request, "POST", "/admin/providers", PROVIDER_NAMES, provider_told(body))
        return await self._answer(request, body.name, 201)

    async def change(self, request: Request) -> Response:
        administrator(request)
        body = body_asked(request, ProviderFields)
        path = "/admin/providers/{name}"
        await self._office.ask(request, "PATCH", path, PROVIDER_NAMES, provider_told(body))
        return await self._answer(request, request.path_params["id"])

    async def remove(self, request: Request) -> Response:
        administrator(request)
        return json_answer(await self._office.ask(request, "DELETE", "/admin/providers/{name}", PROVIDER_NAMES))

    async def _answer(self, request: Request, name: str, status: int = 200) -> Response:
        row = await in_time(partial(self._rows.provider, name))
        if row is None:
            raise NotFoundError(f"There is no provider {short(name)}. GET {_PROVIDERS} lists them.")
        return json_answer(provider_shown(row, may_administer=viewer_of(request).may_administer), status)


class _Models:
    def __init__(self, rows: Rows, catalog: Callable[[], Catalog], office: Office, health: Health) -> None:
        self._rows = rows
        self._catalog = catalog
        self._office = office
        self._health = health

    async def list(self, request: Request) -> Response:
        number, size = page_asked(request, ("provider_id",))
        provider, caller = text_in_query(request, "provider_id"), viewer_of(request).caller
        rows = [
            row
            for row in await _every(self._rows.deployments)
            if caller.may_use(row.model) and provider in {None, row.fields.get("provider")}
        ]
        return page_of(rows, number, size, self._shown)

    async def read(self, request: Request) -> Response:
        return json_answer(self._shown(await self._found(request)))

    async def read_limits(self, request: Request) -> Response:
        row = await self._found(request)
        named = {"model_id": row.id, "model_name": row.model}
        return json_answer({**named, **limits_shown(row, self._served(row))})

    async def make(self, request: Request) -> Response:
        administrator(request)
        body = body_asked(request, NewModelFields)
        await self._refuse_second(body.provider_id, body.model_identifier)
        made = await self._office.ask(request, "POST", "/admin/deployments", MODEL_NAMES, model_told(body))
        row = await self._row(made["id"])
        return json_answer(self._shown(row), 201, {"location": f"{_MODELS}/{row.id}"})

    async def change(self, request: Request) -> Response:
        administrator(request)
        body, row = body_asked(request, ModelFields), await self._found(request)
        if body.named & {"provider_id", "model_identifier"}:
            provider = body.provider_id or row.fields.get("provider", "")
            await self._refuse_second(provider, body.model_identifier or row.fields.get("model", ""), but=row.id)
        path = "/admin/deployments/{deployment_id}"
        await self._office.ask(request, "PATCH", path, MODEL_NAMES, model_told(body))
        return json_answer(self._shown(await self._row(row.id)))

    async def remove(self, request: Request) -> Response:
        administrator(request)
        path = "/admin/deployments/{deployment_id}"
        return json_answer(await self._office.ask(request, "DELETE", path, MODEL_NAMES))

    async def _refuse_second(self, provider: str, identifier: str, but: str | None = None) -> None:
        for row in await _every(self._rows.deployments):
            its = (row.fields.get("provider"), row.fields.get("model"))
            if its == (provider, identifier) and row.id != but:
                raise ConflictError(
                    f"The provider {short(provider)} has the model {short(identifier)} already, as {row.id}: change "
                    "that one with PATCH.",
                    param="model_identifier",
                    code="already_exists",
                )

    async def _found(self, request: Request) -> DeploymentRow:
        row = await self._row(request.path_params["id"])
        viewer: Viewer = viewer_of(request)
        if not viewer.caller.may_use(row.model):
            raise _no_model(row.id)
        return row

    async def _row(self, model_id: str) -> DeploymentRow:
        row = await in_time(partial(self._rows.deployment, model_id))
        if row is None:
            raise _no_model(model_id)
        return row

    def _shown(self, row: DeploymentRow) -> dict[str, Any]:
        served = self._served(row)
        return model_shown(row, served, _UNKNOWN if served is None else self._health(served))

    def _served(self, row: DeploymentRow) -> Deployment | None:
        model = self._catalog().models.get(row.model)
        deployments = () if model is None else model.deployments
        return next((deployment for deployment in deployments if deployment.row_id == row.id), None)


def _no_model(model_id: str) -> NotFoundError:
    return NotFoundError(f"There is no model {short(model_id)}. GET {_MODELS} lists them.")


async def _every(read: Callable[[int, int], Any]) -> Sequence[Any]:
    rows: list[Any] = []
    number = 1
    while more := (await in_time(partial(read, number, _PAGE_SIZE))).rows:
        rows += more
        number += 1
    return rows
