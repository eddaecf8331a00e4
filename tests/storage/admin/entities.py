"""Rows of what document services are made of: of each kind one with all its fields, and one with few."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from llmgateway.flavor import FailoverOn, Flavor
from llmgateway.ids import new_uuid
from llmgateway.storage.admin.rows import EntityKind
from llmgateway.storage.documents.rows import (
    FlavorRow,
    PresetRow,
    PromptRow,
    ServiceRow,
    ServiceTemplateRow,
    ServiceTypeRow,
)
from tests.storage.admin.given import NOW

TIMES: dict[str, Any] = {"created_at": NOW, "updated_at": NOW + timedelta(hours=1)}
LONG = "Résumé 会議. {{document}} { % \n" * 2000
FLAVOR = Flavor(
    model="auto",
    temperature=0,
    top_p=1,
    stop=("END", "会議"),
    custom_params={"seed": 1, "deep": {"a": [1, None]}},
    processing_mode="map_reduce",
    output_type="json",
    output_schema={"type": "object"},
    system_prompt=LONG,
    failover_on=FailoverOn(content_filter=True),
    failover_flavor_id="flavor_2",
    default_ttl_seconds=31_536_000,
    max_cost_usd=0.25,
)


def service_row(**fields: Any) -> ServiceRow:
    """Make a service."""
    name = fields.get("name", "Minutes")
    owner = fields.get("organization_id") or ""
    given = {
        "id": new_uuid(),
        "name": name,
        "route": name.lower(),
        "service_type": "summary",
        "unique_name": f"{owner}/{name}",
        "unique_route": f"{owner}/{name.lower()}",
        **TIMES,
    }
    return ServiceRow(**{**given, **fields})


ENTITIES: Mapping[EntityKind, list[Any]] = {
    "service": [
        service_row(),
        service_row(
            organization_id="acme", description=LONG, is_active=False, metadata={"a": 1}, default_template_id="t"
        ),
    ],
    "flavor": [
        FlavorRow(id="f1", service_id="s", name="x", unique_name="s/x", settings=Flavor(model="chat"), **TIMES),
        FlavorRow(
            id="f2",
            service_id="s",
            name="y",
            unique_name="s/y",
            settings=FLAVOR,
            description="d",
            is_default=True,
            is_active=False,
            **TIMES,
        ),
    ],
    "prompt": [
        PromptRow(id="p1", name="x", unique_name="/x", content=LONG, **TIMES),
        PromptRow(
            id="p2",
            name="y",
            unique_name="acme/y",
            content="{}",
            category="user",
            type="reduce",
            service_type="summary",
            organization_id="acme",
            description="d",
            **TIMES,
        ),
    ],
    "service_type": [
        ServiceTypeRow(id="t1", code="first", name="First", built_in=True, **TIMES),
        ServiceTypeRow(
            id="t2",
            code="own",
            name="Own",
            description="d",
            supports_reduce=False,
            supports_chunking=False,
            default_processing_mode="single_pass",
            **TIMES,
        ),
    ],
    "preset": [
        PresetRow(id="r1", name="x", unique_name="/x", settings={}, **TIMES),
        PresetRow(
            id="r2",
            name="y",
            unique_name="acme/y",
            settings={"temperature": 0.2},
            description="d",
            built_in=True,
            organization_id="acme",
            **TIMES,
        ),
    ],
    "service_template": [
        ServiceTemplateRow(id="m1", name="x", unique_name="/x", service={}, flavors=(), **TIMES),
        ServiceTemplateRow(
            id="m2",
            name="y",
            unique_name="acme/y",
            service={"name": "Minutes"},
            flavors=({"name": "a"}, {"name": "b", "stop": ["x"]}),
            description="d",
            built_in=True,
            organization_id="acme",
            **TIMES,
        ),
    ],
}
