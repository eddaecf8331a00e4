"""How services and their parts are shown: every field always there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import structs
from starlette.responses import Response

from llmgateway.documents_api.shelves.keeping import Known
from llmgateway.documents_api.shown import listed, moment
from llmgateway.jobs.services import Service
from llmgateway.storage.documents.rows import FlavorRow, PresetRow, PromptRow, ServiceTemplateRow, ServiceTypeRow

Row = TypeVar("Row")


def page_of(rows: Sequence[Row], number: int, size: int, shown: Callable[[Row], Mapping[str, Any]]) -> Response:
    """Answer with one page of a list that is there whole."""
    return listed(map(shown, rows[(number - 1) * size : number * size]), len(rows), number, size)


def service_shown(service: Service) -> dict[str, Any]:
    """Show a service with its flavors."""
    row, default = service.row, service.default
    return {
        "id": row.id,
        "name": row.name,
        "route": row.route,
        "model": f"service/{row.route}",
        "service_type": row.service_type,
        "description": row.description,
        "organization_id": row.organization_id,
        "is_active": row.is_active,
        "default_template_id": row.default_template_id,
        "default_flavor_id": None if default is None else default.id,
        "metadata": row.metadata,
        "flavors": [flavor_shown(flavor, service) for flavor in service.flavors],
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }


def flavor_shown(row: FlavorRow, service: Service) -> dict[str, Any]:
    """Show a flavor; exactly one of a service is its default."""
    default = service.default
    return {
        "id": row.id,
        "service_id": row.service_id,
        "name": row.name,
        "description": row.description,
        "is_default": default is not None and default.id == row.id,
        "is_active": row.is_active,
        **_plain(row.settings),
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }


def prompt_shown(row: PromptRow) -> dict[str, Any]:
    """Show a prompt."""
    return _without(row, "unique_name")


def service_type_shown(row: ServiceTypeRow) -> dict[str, Any]:
    """Show a kind of service."""
    return _without(row)


def preset_shown(row: PresetRow) -> dict[str, Any]:
    """Show a preset."""
    return _without(row, "unique_name")


def service_template_shown(row: ServiceTemplateRow) -> dict[str, Any]:
    """Show a service template."""
    return _without(row, "unique_name")


def _without(row: msgspec.Struct, *left_out: str) -> dict[str, Any]:
    fields = {name: value for name, value in structs.asdict(row).items() if name not in left_out}
    times = {name: moment(fields.pop(name)) for name in ("created_at", "updated_at")}
    return {**fields, **times}


def _plain(settings: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(settings)
    return plain


def chain_shown(flavor: FlavorRow, following: Sequence[str], known: Known) -> dict[str, Any]:
    """Show the flavors that go on, one after the other, when one fails."""
    rows = [known.flavors[flavor_id] for flavor_id in following]
    return {
        "flavor_id": flavor.id,
        "flavor_name": flavor.name,
        "max_failover_depth": flavor.settings.max_failover_depth,
        "failover_on": _plain(flavor.settings.failover_on),
        "chain": [
            {
                "depth": depth,
                "flavor_id": row.id,
                "flavor_name": row.name,
                "service_id": row.service_id,
                "service_name": known.services[row.service_id].name,
                "model": row.settings.model,
                "is_active": row.is_active,
                "within_depth": depth <= flavor.settings.max_failover_depth,
            }
            for depth, row in enumerate(rows, 1)
        ],
    }
