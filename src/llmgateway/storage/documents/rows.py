"""What document services are made of, as values: read by rooms that need no database library. Times are in UTC.

`organization_id` `None` is global: everybody sees the row, only administrators change it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from llmgateway.flavor import Flavor, Mode

PromptCategory = Literal["system", "user"]
PromptType = Literal["standard", "reduce", "field_extraction", "categorization"]


class ServiceRow(Struct, frozen=True, kw_only=True):
    """A task on documents that is on offer.

    Args:
        route: Names it in addresses and in `service/<route>`; unique in its organization, as the name is.
        unique_name, unique_route: Both with the organization before them (`<organization or nothing>/<name>`).
    """

    id: str
    name: str
    route: str
    service_type: str
    unique_name: str
    unique_route: str
    created_at: datetime
    updated_at: datetime
    organization_id: str | None = None
    description: str | None = None
    is_active: bool = True
    default_template_id: str | None = None
    metadata: Mapping[str, Any] = {}


class FlavorRow(Struct, frozen=True, kw_only=True):
    """One way to run a service.

    Args:
        unique_name: `<service id>/<name>`.
    """

    id: str
    service_id: str
    name: str
    unique_name: str
    settings: Flavor
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    is_default: bool = False
    is_active: bool = True


class PromptRow(Struct, frozen=True, kw_only=True):
    """A text with named placeholders, for flavors to use by its id."""

    id: str
    name: str
    unique_name: str
    content: str
    created_at: datetime
    updated_at: datetime
    category: PromptCategory = "system"
    type: PromptType = "standard"
    service_type: str | None = None
    organization_id: str | None = None
    description: str | None = None


class ServiceTypeRow(Struct, frozen=True, kw_only=True):
    """A kind of service, by its code such as `summary`."""

    id: str
    code: str
    name: str
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    built_in: bool = False
    supports_reduce: bool = True
    supports_chunking: bool = True
    default_processing_mode: Mode = "iterative"


class PresetRow(Struct, frozen=True, kw_only=True):
    """Settings that a flavor can be made of: only those that the preset says something of."""

    id: str
    name: str
    unique_name: str
    settings: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    built_in: bool = False
    organization_id: str | None = None


class ServiceTemplateRow(Struct, frozen=True, kw_only=True):
    """A blueprint of a service.

    Args:
        service: The service's own fields.
        flavors: Each with the fields of a flavor as its creation takes them; prompts are texts.
    """

    id: str
    name: str
    unique_name: str
    service: Mapping[str, Any]
    flavors: tuple[Mapping[str, Any], ...]
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    built_in: bool = False
    organization_id: str | None = None
