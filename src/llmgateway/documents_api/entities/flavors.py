"""Flavors: the ways to run a service. Exactly one of them is its default."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import body_asked, in_time, page_asked
from llmgateway.documents_api.entities.checks import (
    Wish,
    chain_of,
    check_flavor,
    flavors_resting_on,
    next_of,
)
from llmgateway.documents_api.entities.fields import FlavorChange, NewFlavor
from llmgateway.documents_api.entities.making import type_asked
from llmgateway.documents_api.entities.services import service_asked
from llmgateway.documents_api.entities.shown import chain_shown, flavor_shown, page_of
from llmgateway.documents_api.shelves.keeping import Keeping, Known, named_in, not_there, unique
from llmgateway.documents_api.shelves.viewer import Viewer, viewer_of
from llmgateway.documents_api.shown import json_answer, removed
from llmgateway.errors import ConflictError
from llmgateway.ids import new_uuid
from llmgateway.jobs.recipes import check_caller
from llmgateway.jobs.services import Service, marked_at
from llmgateway.storage.admin.rows import Deed
from llmgateway.storage.documents.rows import FlavorRow

_OWN = ("name", "description", "is_active")
_TOLD = ("name", "model", "processing_mode", "is_active", "fallback_flavor_id", "failover_flavor_id")


def routes(keeping: Keeping) -> list[Route]:
    """Serve `/api/v1/services/{id}/flavors` and `/api/v1/flavors`."""
    flavors = Flavors(keeping)
    of_service, one = "/api/v1/services/{service_id}/flavors", "/api/v1/flavors/{flavor_id}"
    return [
        Route(of_service, flavors.list, methods=["GET"]),
        Route(of_service, flavors.make, methods=["POST"]),
        Route(one, flavors.read, methods=["GET"]),
        Route(one, flavors.change, methods=["PATCH"]),
        Route(one, flavors.remove, methods=["DELETE"]),
        Route(f"{one}/set-default", flavors.set_default, methods=["POST"]),
        Route(f"{one}/failover-chain", flavors.read_chain, methods=["GET"]),
    ]


class Found(Struct, frozen=True):
    """A flavor and the service it is one of."""

    service: Service
    flavor: FlavorRow

    @property
    def is_default(self) -> bool:
        """Whether it runs when none is named."""
        default = self.service.default
        return default is not None and default.id == self.flavor.id


async def flavor_asked(keeping: Keeping, viewer: Viewer, flavor_id: str) -> Found:
    """Find a flavor. Raises: NotFoundError."""
    service = await in_time(partial(keeping.services.service_of, flavor_id))
    if service is None or not viewer.sees(service.row.organization_id):
        raise not_there("flavor", flavor_id)
    flavor = service.flavor(flavor_id)
    if flavor is None or flavor.id != flavor_id:
        raise not_there("flavor", flavor_id)
    return Found(service, flavor)


class Flavors:
    """Reads and writes them; presets make flavors by it too."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    async def list(self, request: Request) -> Response:
        """Answer with a service's flavors, oldest first."""
        number, size = page_asked(request)
        service = await service_asked(self._keeping, viewer_of(request), request.path_params["service_id"])
        return page_of(service.flavors, number, size, partial(flavor_shown, service=service))

    async def read(self, request: Request) -> Response:
        """Answer with one."""
        found = await self._found(request)
        return json_answer(flavor_shown(found.flavor, found.service))

    async def make(self, request: Request) -> Response:
        """Make one of a service."""
        return await self.made(viewer_of(request), request.path_params["service_id"], body_asked(request, NewFlavor))

    async def made(self, viewer: Viewer, service_named: str, body: NewFlavor) -> Response:
        """Write a new one down and answer with it; the first of a service is its default."""
        service = await service_asked(self._keeping, viewer, service_named)
        viewer.check_may_change(service.row.organization_id, "service")
        kind = await type_asked(self._keeping, service.row.service_type)
        now = self._keeping.now()
        row = FlavorRow(
            id=new_uuid(),
            service_id=service.row.id,
            name=body.name,
            unique_name=unique(service.row.id, body.name),
            settings=body.settings(kind.default_processing_mode),
            created_at=now,
            updated_at=now,
            description=body.description,
            is_default=body.is_default or not service.flavors,
            is_active=body.is_active,
        )
        if row.is_default and not row.is_active:
            raise _default_must_run()
        self._check(row, None, service, await self._keeping.known(), viewer)
        told = {"service_id": row.service_id, "name": row.name, "model": row.settings.model}
        deed = viewer.deed("flavor.create", row.id, service.row.organization_id, told)
        await self._keeping.add("flavor", row, deed)
        if row.is_default:
            await self._unmark_others(viewer, Found(service, row))
        return await self._answer(viewer, row.id, 201)

    async def change(self, request: Request) -> Response:
        """Change one."""
        body, viewer = body_asked(request, FlavorChange), viewer_of(request)
        found = await self._changeable(request, viewer)
        if "name" in body.named and body.name != found.flavor.name:
            # Keys name flavors: nobody gives one that he may not run a name that he may.
            check_caller(viewer.caller, found.service, found.flavor, found.flavor.settings.model)
        known = await self._keeping.known()
        becomes = "is_default" in body.named and body.is_default
        stays = _service_in(known, found).default
        is_default = becomes or (stays is not None and stays.id == found.flavor.id)
        _check_default(body, is_default=is_default, becomes=becomes)

        def changed(row: FlavorRow) -> tuple[FlavorRow, Deed]:
            new = structs.replace(row, **{name: getattr(body, name) for name in _OWN if name in body.named})
            new = structs.replace(new, settings=body.over(row.settings))
            if is_default and not new.is_active:
                raise _default_must_run()
            if new != row or (becomes and not row.is_default):
                name = unique(row.service_id, new.name)
                new = structs.replace(new, unique_name=name, is_default=is_default, updated_at=self._keeping.now())
            self._check(new, row, found.service, known, viewer)
            return new, _deed(viewer, "update", found, body)

        row = await self._keeping.replace("flavor", found.flavor.id, changed)
        if becomes:
            await self._unmark_others(viewer, Found(found.service, row))
        return await self._answer(viewer, row.id)

    async def set_default(self, request: Request) -> Response:
        """Let one be the default of its service."""
        viewer = viewer_of(request)
        found = await self._changeable(request, viewer)

        def marked(row: FlavorRow) -> tuple[FlavorRow, Deed]:
            if not row.is_active:
                raise _default_must_run()
            deed = viewer.deed("flavor.set_default", row.id, found.service.row.organization_id, {"name": row.name})
            return structs.replace(row, is_default=True, updated_at=self._keeping.now()), deed

        row = await self._keeping.replace("flavor", found.flavor.id, marked)
        await self._unmark_others(viewer, Found(found.service, row))
        return await self._answer(viewer, row.id)

    async def remove(self, request: Request) -> Response:
        """Remove one, but never the last and never the default."""
        viewer = viewer_of(request)
        found = await self._changeable(request, viewer)
        known = await self._keeping.known()
        service = _service_in(known, found)
        _check_removal(Found(service, found.flavor), list(known.flavors.values()))
        deed = viewer.deed("flavor.remove", found.flavor.id, service.row.organization_id, {"name": found.flavor.name})
        await self._keeping.remove("flavor", found.flavor.id, deed)
        return removed(found.flavor.id)

    async def read_chain(self, request: Request) -> Response:
        """Answer with the flavors that go on one after the other when this one fails."""
        found = await self._found(request)
        known = await self._keeping.known()
        chain = chain_of(found.flavor.id, next_of(known.flavors, "failover_flavor_id"))
        return json_answer(chain_shown(found.flavor, chain[1:], known))

    async def _found(self, request: Request) -> Found:
        return await flavor_asked(self._keeping, viewer_of(request), request.path_params["flavor_id"])

    async def _changeable(self, request: Request, viewer: Viewer) -> Found:
        found = await self._found(request)
        viewer.check_may_change(found.service.row.organization_id, "flavor")
        return found

    def _check(self, row: FlavorRow, before: FlavorRow | None, service: Service, known: Known, viewer: Viewer) -> None:
        wish = Wish(
            id=row.id,
            name=row.name,
            settings=row.settings,
            organization=service.row.organization_id,
            before=None if before is None else before.settings,
        )
        check_flavor(wish, known, self._keeping.catalog(), viewer.caller)

    async def _unmark_others(self, viewer: Viewer, default: Found) -> None:
        """Take the mark from those that had it before; one that got it meanwhile keeps it, and is the default then."""
        service, mine = default.service.row, marked_at(default.flavor)

        def unmarked(row: FlavorRow) -> tuple[FlavorRow, Deed]:
            new = structs.replace(row, is_default=False) if marked_at(row) < mine else row
            return new, viewer.deed("flavor.unset_default", row.id, service.organization_id, {"name": row.name})

        flavors: Sequence[FlavorRow] = await self._keeping.every("flavor")
        for flavor in flavors:
            if flavor.service_id == service.id and flavor.is_default and flavor.id != default.flavor.id:
                await self._keeping.replace("flavor", flavor.id, unmarked)

    async def _answer(self, viewer: Viewer, flavor_id: str, status: int = 200) -> Response:
        found = await flavor_asked(self._keeping, viewer, flavor_id)
        headers = {"location": f"/api/v1/flavors/{flavor_id}"} if status == 201 else None  # noqa: PLR2004  created
        return json_answer(flavor_shown(found.flavor, found.service), status, headers)


def _service_in(known: Known, found: Found) -> Service:
    """Give the service as it is in the database this moment."""
    row = found.service.row
    its = tuple(flavor for flavor in known.flavors.values() if flavor.service_id == row.id)
    return Service(known.services.get(row.id, row), its)


def _check_default(body: FlavorChange, *, is_default: bool, becomes: bool) -> None:
    if is_default and not becomes and "is_default" in body.named:
        raise ConflictError(
            "`is_default`: a service has exactly one default flavor. Make another one the default instead "
            "(POST /api/v1/flavors/{id}/set-default).",
            param="is_default",
            code="default_flavor",
        )


def _default_must_run() -> ConflictError:
    return ConflictError(
        "The default flavor of a service must be active: make another one the default first "
        "(POST /api/v1/flavors/{id}/set-default), or activate this one.",
        param="is_active",
        code="default_flavor",
    )


def _check_removal(found: Found, flavors: Sequence[FlavorRow]) -> None:
    if len(found.service.flavors) < 2:  # noqa: PLR2004  the last one
        raise ConflictError(
            "This is the service's last flavor, and a service has at least one: make another first, or remove the "
            "service.",
            code="last_flavor",
        )
    if found.is_default:
        raise ConflictError(
            "This is the service's default flavor: make another one the default first "
            "(POST /api/v1/flavors/{id}/set-default).",
            code="default_flavor",
        )
    resting = [flavor for flavor in flavors_resting_on([found.flavor.id], flavors) if flavor.id != found.flavor.id]
    if resting:
        raise ConflictError(
            f"{len(resting)} flavors fall back or fail over to this one "
            f"({named_in(flavor.name for flavor in resting)}): give them another first.",
            code="flavor_in_use",
            details={"flavor_ids": [flavor.id for flavor in resting]},
        )


def _deed(viewer: Viewer, what: str, found: Found, body: FlavorChange) -> Deed:
    told: dict[str, Any] = {name: getattr(body, name) for name in _TOLD if name in body.named}
    details = {"service_id": found.service.row.id, "fields": sorted(body.named), **told}
    return viewer.deed(f"flavor.{what}", found.flavor.id, found.service.row.organization_id, details)
