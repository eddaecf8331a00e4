"""Kinds of services, and of prompts."""

from typing import Any

from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import body_asked, page_asked
from llmgateway.documents_api.entities.fields import NewServiceType, ServiceTypeChange
from llmgateway.documents_api.entities.shown import page_of, service_type_shown
from llmgateway.documents_api.shelves.keeping import Keeping, named_in, not_there
from llmgateway.documents_api.shelves.viewer import Viewer, administrator
from llmgateway.documents_api.shown import json_answer, removed
from llmgateway.errors import ConflictError
from llmgateway.ids import new_uuid
from llmgateway.storage.admin.rows import Deed
from llmgateway.storage.documents.rows import ServiceTypeRow

_PATH = "/api/v1/service-types"
_PROMPT_TYPES: tuple[dict[str, Any], ...] = (
    {
        "code": "standard",
        "name": "Standard",
        "description": "What a flavor's model is told (category system), and what stands around the document (user).",
        "placeholders": ["document", "previous", "instructions", "language"],
    },
    {
        "code": "reduce",
        "name": "Reduce",
        "description": "Brings what was made of the parts of a document together into one result.",
        "placeholders": ["document", "instructions", "language"],
    },
    {
        "code": "field_extraction",
        "name": "Field extraction",
        "description": "Finds the fields that a template or a service names.",
        "placeholders": ["document", "fields", "instructions", "language"],
    },
    {
        "code": "categorization",
        "name": "Categorization",
        "description": "Says which of some tags a document is about.",
        "placeholders": ["document", "tags", "instructions", "language"],
    },
)


def routes(keeping: Keeping) -> list[Route]:
    """Serve `/api/v1/service-types` and `/api/v1/prompt-types`. Only administrators change the former."""
    types = _Types(keeping)
    one = f"{_PATH}/{{id}}"
    return [
        Route(_PATH, types.list, methods=["GET"]),
        Route(_PATH, types.make, methods=["POST"]),
        Route(one, types.read, methods=["GET"]),
        Route(one, types.change, methods=["PATCH"]),
        Route(one, types.remove, methods=["DELETE"]),
        Route("/api/v1/prompt-types", _list_prompt_types, methods=["GET"]),
    ]


async def _list_prompt_types(request: Request) -> Response:
    number, size = page_asked(request)
    return page_of(_PROMPT_TYPES, number, size, dict)


class _Types:
    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    async def list(self, request: Request) -> Response:
        number, size = page_asked(request)
        rows: list[ServiceTypeRow] = sorted(await self._keeping.every("service_type"), key=lambda row: row.code)
        return page_of(rows, number, size, service_type_shown)

    async def read(self, request: Request) -> Response:
        return json_answer(service_type_shown(await self._found(request)))

    async def make(self, request: Request) -> Response:
        viewer, body = administrator(request), body_asked(request, NewServiceType)
        now = self._keeping.now()
        row = ServiceTypeRow(id=new_uuid(), created_at=now, updated_at=now, **body.model_dump())
        await self._keeping.add("service_type", row, _deed(viewer, "create", row, body.named))
        return json_answer(service_type_shown(row), 201, {"location": f"{_PATH}/{row.id}"})

    async def change(self, request: Request) -> Response:
        viewer, body = administrator(request), body_asked(request, ServiceTypeChange)
        before = await self._found(request)

        def changed(row: ServiceTypeRow) -> tuple[ServiceTypeRow, Deed]:
            new = structs.replace(row, **body.model_dump(exclude_unset=True))
            if new != row:
                new = structs.replace(new, updated_at=self._keeping.now())
            return new, _deed(viewer, "update", row, body.named)

        return json_answer(service_type_shown(await self._keeping.replace("service_type", before.id, changed)))

    async def remove(self, request: Request) -> Response:
        viewer, row = administrator(request), await self._found(request)
        services = (await self._keeping.known()).services.values()
        using = [service for service in services if service.service_type == row.code]
        if using:
            raise ConflictError(
                f"{len(using)} services are of this type ({named_in(service.name for service in using)}): "
                "give them another one first.",
                code="service_type_in_use",
                details={"service_ids": [service.id for service in using]},
            )
        await self._keeping.remove("service_type", row.id, _deed(viewer, "remove", row, frozenset()))
        return removed(row.id)

    async def _found(self, request: Request) -> ServiceTypeRow:
        named: str = request.path_params["id"]
        rows: list[ServiceTypeRow] = list(await self._keeping.every("service_type"))
        found = next((row for row in rows if named in {row.id, row.code}), None)
        if found is None:
            raise not_there("service_type", named)
        return found


def _deed(viewer: Viewer, what: str, row: ServiceTypeRow, named: frozenset[str]) -> Deed:
    return viewer.deed(f"service_type.{what}", row.id, None, {"code": row.code, "fields": sorted(named)})
