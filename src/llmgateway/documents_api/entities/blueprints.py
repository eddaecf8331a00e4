"""What flavors and services can be made of: presets and service templates."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.catalog.model import AUTO
from llmgateway.documents_api.asked import body_asked, unprocessable
from llmgateway.documents_api.entities.fields import (
    NewFlavor,
    NewPreset,
    NewServiceTemplate,
    PresetChange,
    PresetUse,
    ServiceTemplateChange,
    TemplateUse,
)
from llmgateway.documents_api.entities.flavors import Flavors
from llmgateway.documents_api.entities.making import Draft, make_service
from llmgateway.documents_api.entities.services import service_asked
from llmgateway.documents_api.entities.shown import preset_shown, service_shown, service_template_shown
from llmgateway.documents_api.shelves.keeping import Keeping
from llmgateway.documents_api.shelves.shelf import Shelf
from llmgateway.documents_api.shelves.viewer import Viewer, owner_asked, viewer_of
from llmgateway.documents_api.shown import json_answer
from llmgateway.errors import ConflictError
from llmgateway.storage.documents.rows import PresetRow, ServiceTemplateRow

_PRESETS, _TEMPLATES = "/api/v1/flavor-presets", "/api/v1/service-templates"


def routes(keeping: Keeping, flavors: Flavors) -> list[Route]:
    """Serve `/api/v1/flavor-presets` and `/api/v1/service-templates`."""
    presets: Shelf[PresetRow] = Shelf(
        keeping, "preset", _PRESETS, bodies=(NewPreset, PresetChange), row=PresetRow, shown=preset_shown
    )
    templates: Shelf[ServiceTemplateRow] = Shelf(
        keeping,
        "service_template",
        _TEMPLATES,
        bodies=(NewServiceTemplate, ServiceTemplateChange),
        row=ServiceTemplateRow,
        shown=service_template_shown,
        check=_check_template,
    )

    async def apply(request: Request) -> Response:
        body, viewer = body_asked(request, PresetUse), viewer_of(request)
        row = await presets.found(request)
        model = body.model or row.settings.get("model") or await _usual_model(keeping, viewer, body.service_id)
        name = body.name or row.name[:50]
        wanted = {**row.settings, "name": name, "model": model, "is_default": body.is_default}
        return await flavors.made(viewer, body.service_id, _flavor(wanted))

    async def from_template(request: Request) -> Response:
        body = body_asked(request, TemplateUse)
        row = await templates.found(request)
        fields = row.service
        draft = Draft(
            name=body.name or fields["name"],
            service_type=fields.get("service_type", "generic"),
            flavors=[_flavor({**one, "model": body.model or one.get("model") or AUTO}) for one in row.flavors],
            owner=owner_asked(request, body, "service"),
            more={
                "description": body.description if "description" in body.named else fields.get("description"),
                "metadata": fields.get("metadata") or {},
            },
        )
        made = await make_service(keeping, viewer_of(request), draft)
        return json_answer(service_shown(made), 201, {"location": f"/api/v1/services/{made.row.id}"})

    return [
        *presets.routes(),
        Route(f"{_PRESETS}/{{id}}/apply", apply, methods=["POST"]),
        *templates.routes(),
        Route(f"{_TEMPLATES}/from-template/{{id}}", from_template, methods=["POST"]),
    ]


async def _usual_model(keeping: Keeping, viewer: Viewer, service_named: str) -> str:
    default = (await service_asked(keeping, viewer, service_named)).default
    return AUTO if default is None else default.settings.model


def _flavor(wanted: Mapping[str, Any]) -> NewFlavor:
    """Make the body of a flavor. Raises: ConflictError: what is kept is from before a range of today."""
    try:
        return NewFlavor.model_validate_json(msgspec.json.encode(wanted), strict=True)
    except ValidationError as error:
        raw = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ConflictError(
            f"Its field `{'.'.join(map(str, raw['loc']))}` is not what a flavor takes ({raw['msg']}): change it first.",
            code="blueprint_invalid",
        ) from None


def _check_template(row: ServiceTemplateRow) -> None:
    """Refuse a template that could make no service. Raises: UnprocessableError."""
    flavors: Sequence[Mapping[str, Any]] = row.flavors
    names = [flavor["name"] for flavor in flavors]
    if not flavors:
        raise unprocessable([(("body", "flavors"), "a service has at least one flavor")])
    if len(set(names)) < len(names):
        raise unprocessable([(("body", "flavors"), "two of them have the same name")])
    if sum(bool(flavor.get("is_default")) for flavor in flavors) > 1:
        raise unprocessable([(("body", "flavors"), "exactly one flavor is the default")])
