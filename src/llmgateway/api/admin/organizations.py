"""Organizations: whoever has keys, limits and a budget in common."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.admin.asked import (
    Body,
    BudgetBody,
    Id,
    Line,
    Metadata,
    admin_only,
    body_asked,
    budget_asked,
    deed,
    limits_asked,
    page_asked,
)
from llmgateway.api.admin.shown import UNKNOWN, json_answer, listed, organization_shown, removed
from llmgateway.api.admin.spending import Spending, spent_of
from llmgateway.api.admin.writing import Changed, in_time, not_there, replaced, there
from llmgateway.api.ledger.asking import short
from llmgateway.catalog.schema import Tier
from llmgateway.errors import ConflictError, InvalidRequestError
from llmgateway.ids import new_id
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import Deed, OrganizationRow


class OrganizationChange(Body):
    """What may be said of an organization; `null` is none."""

    name: Line | None = None
    limits: Tier | None = None
    budget: BudgetBody | None = None
    metadata: Metadata | None = None


class NewOrganization(OrganizationChange):
    """An organization to be made; without an id it gets one."""

    id: Id | None = None
    name: Line


def _now() -> datetime:
    return datetime.now(UTC)


def routes(
    storage: AdminStorage, spending: Spending, changed: Changed, *, now: Callable[[], datetime] = _now
) -> list[Route]:
    """Serve `/admin/organizations`."""
    organizations = _Organizations(storage, spending, changed, now)
    one = "/admin/organizations/{organization_id}"
    return [
        Route("/admin/organizations", organizations.make, methods=["POST"]),
        Route("/admin/organizations", organizations.list, methods=["GET"]),
        Route(one, organizations.read, methods=["GET"]),
        Route(one, organizations.change, methods=["PATCH"]),
        Route(one, organizations.remove, methods=["DELETE"]),
    ]


class _Organizations:
    def __init__(
        self, storage: AdminStorage, spending: Spending, changed: Changed, now: Callable[[], datetime]
    ) -> None:
        self._storage = storage
        self._spending = spending
        self._changed = changed
        self._now = now

    async def make(self, request: Request) -> Response:
        body = await body_asked(request, NewOrganization)
        organization_id = body.id or new_id("org")
        blank = OrganizationRow(id=organization_id, name=body.name, created_at=self._now())
        row = structs.replace(blank, **_values(body))
        written = _deed(request, "organization.create", organization_id, body)
        await in_time(partial(self._storage.add_organization, row, written))
        await self._changed()
        return json_answer(await self._shown(row), 201)

    async def list(self, request: Request) -> Response:
        admin_only(request)
        number, size = page_asked(request)
        page = await in_time(partial(self._storage.organizations, number, size))
        spent = await spent_of(self._spending, "organization", page.rows)
        return listed((organization_shown(row, spent.get(row.id, UNKNOWN)) for row in page.rows), page, number, size)

    async def read(self, request: Request) -> Response:
        admin_only(request)
        organization_id: str = request.path_params["organization_id"]
        return json_answer(await self._shown(await there("organization", organization_id, self._storage.organization)))

    async def change(self, request: Request) -> Response:
        organization_id: str = request.path_params["organization_id"]
        body = await body_asked(request, OrganizationChange)
        if "name" in body.named and body.name is None:
            raise InvalidRequestError("`name`: an organization has one; leave it out to keep it.", param="name")
        values = _values(body)
        row, is_new = await replaced(
            partial(self._storage.organization, organization_id),
            lambda row: (structs.replace(row, **values), _deed(request, "organization.update", row.id, body)),
            self._storage.replace_organization,
            lambda: not_there("organization", organization_id),
        )
        if is_new:
            await self._changed()
        return json_answer(await self._shown(row))

    async def remove(self, request: Request) -> Response:
        admin_only(request)
        organization_id: str = request.path_params["organization_id"]
        keys = await in_time(partial(self._storage.keys, organization_id, 1, 1))
        if keys.total:
            raise ConflictError(
                f"The organization {short(organization_id)} has {keys.total} keys: revoke them first "
                f"(GET /admin/keys?organization_id={organization_id[:128]}).",
                code="organization_has_keys",
            )
        written = deed(request, "organization.remove", organization_id, organization_id=organization_id)
        if not await in_time(partial(self._storage.remove_organization, organization_id, written)):
            raise not_there("organization", organization_id)
        await self._changed()
        return removed(organization_id)

    async def _shown(self, row: OrganizationRow) -> dict[str, Any]:
        spent = await spent_of(self._spending, "organization", [row])
        return organization_shown(row, spent.get(row.id, UNKNOWN))


def _values(body: OrganizationChange) -> dict[str, Any]:
    """Give what was sent as fields of the row, without its id."""
    made: dict[str, Callable[[], Any]] = {
        "limits": lambda: limits_asked(body.limits),
        "budget": lambda: budget_asked(body.budget),
        "metadata": lambda: body.metadata or {},
    }
    return {name: made[name]() if name in made else getattr(body, name) for name in sorted(body.named - {"id"})}


def _deed(request: Request, action: str, organization_id: str, body: OrganizationChange) -> Deed:
    told = body.model_dump(mode="json", include={"name", "limits", "budget"}, exclude_unset=True)
    details = {"fields": sorted(body.named), **told}
    return deed(request, action, organization_id, organization_id=organization_id, details=details)
