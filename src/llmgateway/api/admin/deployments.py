"""Further deployments of models, beside those of the catalog's file."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from msgspec import structs
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.admin.asked import Body, Line, admin_only, body_asked, deed, page_asked
from llmgateway.api.admin.shown import deployment_shown, json_answer, listed, removed
from llmgateway.api.admin.writing import Changed, in_time, not_there, replaced, there
from llmgateway.api.ledger.asking import short
from llmgateway.catalog.building import tokenizers
from llmgateway.catalog.building.models import name_fault
from llmgateway.catalog.check import nearest
from llmgateway.catalog.schema import Count, ModelName, PricesEntry, Probe, Text, Tier
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import InvalidRequestError
from llmgateway.ids import new_id
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import Deed, DeploymentRow


class DeploymentChange(Body):
    """What may be said of a deployment, as in the catalog's file; `null` is what is usual.

    Args:
        name: The model's, as clients ask for it.
        model: As the provider knows it.
    """

    name: ModelName | None = None
    provider: Text | None = None
    model: Text | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    limits: Tier | None = None
    prices_per_million: PricesEntry | None = None
    context_length: Count | None = None
    max_output_tokens: Count | None = None
    capabilities: tuple[Line, ...] | None = None
    tokenizer: Line | None = None
    probe: Probe | None = None


class NewDeployment(DeploymentChange):
    """A deployment to be made."""

    name: ModelName
    provider: Text
    model: Text


def _now() -> datetime:
    return datetime.now(UTC)


def routes(
    storage: AdminStorage, catalog: Callable[[], Catalog], changed: Changed, *, now: Callable[[], datetime] = _now
) -> list[Route]:
    """Serve `/admin/deployments`.

    Args:
        catalog: Gives the catalog as it is now, whose providers deployments may name.
    """
    deployments = _Deployments(storage, catalog, changed, now)
    one = "/admin/deployments/{deployment_id}"
    return [
        Route("/admin/deployments", deployments.make, methods=["POST"]),
        Route("/admin/deployments", deployments.list, methods=["GET"]),
        Route(one, deployments.read, methods=["GET"]),
        Route(one, deployments.change, methods=["PATCH"]),
        Route(one, deployments.remove, methods=["DELETE"]),
    ]


class _Deployments:
    def __init__(
        self,
        storage: AdminStorage,
        catalog: Callable[[], Catalog],
        changed: Changed,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._catalog = catalog
        self._changed = changed
        self._now = now

    async def make(self, request: Request) -> Response:
        body = await body_asked(request, NewDeployment)
        await self._check(body)
        now = self._now()
        blank = DeploymentRow(id=new_id("dep"), model=body.name, fields={}, created_at=now, updated_at=now)
        row = self._with(blank, body)
        written = _deed(request, "deployment.create", row.id, body)
        await in_time(partial(self._storage.add_deployment, row, written))
        await self._changed()
        return json_answer(deployment_shown(row), 201)

    async def list(self, request: Request) -> Response:
        admin_only(request)
        number, size = page_asked(request)
        page = await in_time(partial(self._storage.deployments, number, size))
        return listed(map(deployment_shown, page.rows), page, number, size)

    async def read(self, request: Request) -> Response:
        admin_only(request)
        row = await there("deployment", request.path_params["deployment_id"], self._storage.deployment)
        return json_answer(deployment_shown(row))

    async def change(self, request: Request) -> Response:
        deployment_id: str = request.path_params["deployment_id"]
        body = await body_asked(request, DeploymentChange)
        for name in ("name", "provider", "model"):
            if name in body.named and getattr(body, name) is None:
                raise InvalidRequestError(f"`{name}`: a deployment has one; leave it out to keep it.", param=name)
        await self._check(body)
        row, is_new = await replaced(
            partial(self._storage.deployment, deployment_id),
            lambda row: (self._with(row, body), _deed(request, "deployment.update", deployment_id, body)),
            self._storage.replace_deployment,
            partial(not_there, "deployment", deployment_id),
        )
        if is_new:
            await self._changed()
        return json_answer(deployment_shown(row))

    async def remove(self, request: Request) -> Response:
        admin_only(request)
        deployment_id: str = request.path_params["deployment_id"]
        row = await in_time(partial(self._storage.deployment, deployment_id))
        details = None if row is None else {"name": row.model, **_named_in(row.fields)}
        written = deed(request, "deployment.remove", deployment_id, details=details)
        if not await in_time(partial(self._storage.remove_deployment, deployment_id, written)):
            raise not_there("deployment", deployment_id)
        await self._changed()
        return removed(deployment_id)

    def _with(self, row: DeploymentRow, body: DeploymentChange) -> DeploymentRow:
        given = body.model_dump(mode="json", exclude={"name"}, exclude_unset=True)
        fields = {name: value for name, value in {**row.fields, **given}.items() if value is not None}
        model = body.name or row.model
        if (model, fields) == (row.model, row.fields):
            return row
        return structs.replace(row, model=model, fields=fields, updated_at=self._now())

    async def _check(self, body: DeploymentChange) -> None:
        """Refuse what could not be served."""
        catalog = self._catalog()
        if (fault := name_fault(body.name or "")) is not None:
            raise InvalidRequestError(f"`name`: {fault}.", param="name")
        if body.tokenizer is not None and (fault := tokenizers.name_fault(body.tokenizer)) is not None:
            raise InvalidRequestError(f"`tokenizer`: {fault}.", param="tokenizer")
        if body.provider is None:
            return
        known = [name for name, account in catalog.accounts.items() if account.wire != "demo"]
        # One that was made a moment ago may not be served yet.
        if body.provider in known or await in_time(partial(self._storage.provider, body.provider)) is not None:
            return
        near = nearest(body.provider, known)
        raise InvalidRequestError(
            f"`provider`: there is no provider {short(body.provider)}; the nearest is `{near}`. "
            "POST /admin/providers makes one.",
            param="provider",
        )


def _named_in(fields: Any) -> dict[str, Any]:
    return {name: fields[name] for name in ("provider", "model") if name in fields}


def _deed(request: Request, action: str, deployment_id: str, body: DeploymentChange) -> Deed:
    told = body.model_dump(mode="json", exclude_unset=True)
    return deed(request, action, deployment_id, details={"fields": sorted(body.named), **told})
