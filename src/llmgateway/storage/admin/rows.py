"""What administrators write, as values: read by rooms that need no database library. Times are in UTC."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct

from llmgateway.caller import Budget
from llmgateway.catalog.model import Limits, Strategy

# What document services are made of: their rows are in `storage/documents/rows.py`.
EntityKind = Literal["service", "flavor", "prompt", "service_type", "preset", "service_template"]
ChangeKind = Literal["key", "organization", "provider", "deployment"] | EntityKind
Row = TypeVar("Row")


class KeyRow(Struct, frozen=True, kw_only=True):
    """A client's key; the key itself is nowhere.

    Args:
        hash: SHA-256 of the key, in hexadecimal.
        prefix: The key's first characters, by which people know it again.
        strategy: How its calls choose among a model's deployments; `None` is as the catalog says.
        previous_hash, previous_until: The key before the last rotation, and how long it still holds.
    """

    id: str
    name: str
    hash: str
    prefix: str
    created_at: datetime
    organization_id: str | None = None
    models: tuple[str, ...] | None = None
    tier: str | None = None
    limits: Limits | None = None
    budget: Budget | None = None
    expires_at: datetime | None = None
    disabled: bool = False
    last_used_at: datetime | None = None
    metadata: Mapping[str, str] = {}
    previous_hash: str | None = None
    previous_until: datetime | None = None
    strategy: Strategy | None = None


class OrganizationRow(Struct, frozen=True, kw_only=True):
    """Whoever has keys in common."""

    id: str
    name: str
    created_at: datetime
    limits: Limits | None = None
    budget: Budget | None = None
    metadata: Mapping[str, str] = {}


class ProviderRow(Struct, frozen=True, kw_only=True):
    """An account at a provider, beside those of the catalog's file.

    Args:
        fields: As in `providers:` of the file, without `api_key`.
        sealed_key: The provider's key, encrypted.
    """

    name: str
    fields: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    sealed_key: str | None = None


class DeploymentRow(Struct, frozen=True, kw_only=True):
    """One more deployment of a model, which it makes when the file has none of that name.

    Args:
        model: The name that clients ask for.
        fields: As in `deployments:` of the file.
    """

    id: str
    model: str
    fields: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


class Deed(Struct, frozen=True, kw_only=True):
    """Something that somebody did, for the audit log.

    Args:
        actor: The admin key as `admin`, `cli`, or the id of a key.
        action: Such as `key.create`, `key.revoke`, `provider.update`, `cache.clear`, `sensitivity.reroute`.
        subject: What it was done to: an id or a name.
        details: What changed; never a secret or a prompt.
    """

    actor: str
    action: str
    subject: str
    organization_id: str | None = None
    details: Mapping[str, Any] = {}


class AuditRow(Struct, frozen=True, kw_only=True):
    """A deed as it was written down; `hash` covers it and the hash of the one before."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    organization_id: str | None
    details: Mapping[str, Any]
    previous: str
    hash: str


class Change(Struct, frozen=True):
    """One thing was made, changed or removed; `seq` grows in the order of the commits."""

    seq: int
    kind: ChangeKind
    subject: str


class Page(Struct, Generic[Row]):
    """Some of a list, and how many there are in all."""

    rows: Sequence[Row]
    total: int
