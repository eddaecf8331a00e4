"""Services: tasks on documents that are on offer, each with its flavors."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import (
    body_asked,
    in_time,
    one_of,
    organization_asked,
    page_asked,
    sees_everything,
    text_in_query,
)
from llmgateway.documents_api.entities.checks import flavors_resting_on
from llmgateway.documents_api.entities.fields import NewService, ServiceChange
from llmgateway.documents_api.entities.making import Draft, make_service, type_asked
from llmgateway.documents_api.entities.shown import page_of, service_shown
from llmgateway.documents_api.shelves.keeping import Keeping, named_in, not_there, unique
from llmgateway.documents_api.shelves.viewer import Viewer, owner_asked, viewer_of
from llmgateway.documents_api.shown import json_answer, removed
from llmgateway.errors import ConflictError
from llmgateway.jobs.recipes import check_caller
from llmgateway.jobs.services import Service
from llmgateway.storage.admin.rows import Deed
from llmgateway.storage.documents.rows import FlavorRow, ServiceRow

_PATH = "/api/v1/services"
_FILTERS = ("service_type", "is_active", "organization_id")
_KEPT = ("description", "is_active", "default_template_id", "metadata")


def routes(keeping: Keeping) -> list[Route]:
    """Serve `/api/v1/services`; what is done with documents is served elsewhere."""
    services = _Services(keeping)
    one = f"{_PATH}/{{service_id}}"
    return [
        Route(_PATH, services.list, methods=["GET"]),
        Route(_PATH, services.make, methods=["POST"]),
        Route(one, services.read, methods=["GET"]),
        Route(one, services.change, methods=["PATCH"]),
        Route(one, services.remove, methods=["DELETE"]),
    ]


async def service_asked(keeping: Keeping, viewer: Viewer, named: str) -> Service:
    """Find a service by its id or its route. Raises: NotFoundError."""
    question = partial(keeping.services.service, named, viewer.organization, everyone=viewer.everyone)
    found = await in_time(question)
    if found is None:
        raise not_there("service", named)
    return found


class _Services:
    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    async def list(self, request: Request) -> Response:
        number, size = page_asked(request, _FILTERS)
        kind = text_in_query(request, "service_type")
        active = one_of(request, "is_active", ("true", "false"))
        organization = organization_asked(request, text_in_query(request, "organization_id"), "query")
        everyone = sees_everything(request, organization)
        listed = await in_time(partial(self._keeping.services.listed, organization, everyone=everyone))
        found = [
            service
            for service in listed
            if kind in {None, service.row.service_type} and active in {None, str(service.row.is_active).lower()}
        ]
        return page_of(found, number, size, service_shown)

    async def read(self, request: Request) -> Response:
        found = await service_asked(self._keeping, viewer_of(request), request.path_params["service_id"])
        return json_answer(service_shown(found))

    async def make(self, request: Request) -> Response:
        body = body_asked(request, NewService)
        draft = Draft(
            name=body.name,
            service_type=body.service_type,
            flavors=body.flavors,
            owner=owner_asked(request, body, "service"),
            route=body.route or None,
            more={name: getattr(body, name) for name in _KEPT},
        )
        made = await make_service(self._keeping, viewer_of(request), draft)
        return json_answer(service_shown(made), 201, {"location": f"{_PATH}/{made.row.id}"})

    async def change(self, request: Request) -> Response:
        body, viewer = body_asked(request, ServiceChange), viewer_of(request)
        service = await service_asked(self._keeping, viewer, request.path_params["service_id"])
        before = service.row
        viewer.check_may_change(before.organization_id, "service")
        if "route" in body.named and body.route != before.route:
            # Keys name services by it: nobody gives what he may not run a name that he may.
            for flavor in service.flavors:
                check_caller(viewer.caller, service, flavor, flavor.settings.model)
        if "service_type" in body.named:
            await type_asked(self._keeping, body.service_type)
        values = {name: getattr(body, name) for name in sorted(body.named)}

        def changed(row: ServiceRow) -> tuple[ServiceRow, Deed]:
            return self._with(row, values), _deed(viewer, "update", row, values)

        row = await self._keeping.replace("service", before.id, changed)
        return json_answer(service_shown(await service_asked(self._keeping, viewer, row.id)))

    async def remove(self, request: Request) -> Response:
        viewer = viewer_of(request)
        row = (await service_asked(self._keeping, viewer, request.path_params["service_id"])).row
        viewer.check_may_change(row.organization_id, "service")
        flavors = list((await self._keeping.known()).flavors.values())
        own = [flavor for flavor in flavors if flavor.service_id == row.id]
        _check_removal(own, flavors)
        # Its flavors last: without their service nobody sees them.
        await self._keeping.remove("service", row.id, _deed(viewer, "remove", row, {}))
        for flavor in own:
            told = viewer.deed("flavor.remove", flavor.id, row.organization_id, {"service_id": row.id})
            await self._keeping.remove("flavor", flavor.id, told)
        return removed(row.id)

    def _with(self, row: ServiceRow, values: dict[str, Any]) -> ServiceRow:
        new = structs.replace(row, **values)
        if new == row:
            return row
        return structs.replace(
            new,
            unique_name=unique(row.organization_id, new.name),
            unique_route=unique(row.organization_id, new.route),
            updated_at=self._keeping.now(),
        )


def _check_removal(own: Sequence[FlavorRow], flavors: Sequence[FlavorRow]) -> None:
    ids = {flavor.id for flavor in own}
    resting = [flavor for flavor in flavors_resting_on(ids, flavors) if flavor.id not in ids]
    if resting:
        raise ConflictError(
            f"{len(resting)} flavors of other services rest on flavors of this one "
            f"({named_in(flavor.name for flavor in resting)}): give them another fallback or failover first.",
            code="flavor_in_use",
            details={"flavor_ids": [flavor.id for flavor in resting]},
        )


def _deed(viewer: Viewer, what: str, row: ServiceRow, values: dict[str, Any]) -> Deed:
    told: dict[str, Any] = {
        name: values[name] for name in ("name", "route", "service_type", "is_active") if name in values
    }
    details = {"route": row.route, "fields": sorted(values), **told} if values else {"route": row.route}
    return viewer.deed(f"service.{what}", row.id, row.organization_id, details)
