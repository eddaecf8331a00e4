"""How administrators see what is kept: every field always there, secrets never."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.responses import Response

from llmgateway.api.ledger.shown import instant
from llmgateway.caller import Budget
from llmgateway.catalog.model import Limits
from llmgateway.storage.admin.rows import AuditRow, DeploymentRow, KeyRow, OrganizationRow, Page, ProviderRow

_ENCODER = msgspec.json.Encoder(decimal_format="number")


class Spent(msgspec.Struct, frozen=True):
    """How a budget stands.

    Args:
        usd: Spent or reserved in this period; `None` is not known now.
        resets_at: When the period is over; `None` is never.
    """

    usd: float | None = None
    resets_at: datetime | None = None


UNKNOWN = Spent()


def json_answer(shown: object, status: int = 200) -> Response:
    """Answer with JSON that nobody keeps."""
    headers = {"cache-control": "no-store"}
    return Response(_ENCODER.encode(shown), status, headers=headers, media_type="application/json")


def listed(items: Iterable[Mapping[str, Any]], page: Page[Any], number: int, size: int) -> Response:
    """Answer with one page of a list."""
    return json_answer(
        {
            "items": list(items),
            "total": page.total,
            "page": number,
            "page_size": size,
            "total_pages": -(-page.total // size),
        }
    )


def removed(subject: str) -> Response:
    """Answer that something is gone."""
    return json_answer({"id": subject, "deleted": True})


def moment(at: datetime | None) -> str | None:
    """Write a moment in UTC; `None` stays."""
    return None if at is None else instant(at.astimezone(UTC))


def key_shown(row: KeyRow, spent: Spent = UNKNOWN) -> dict[str, Any]:
    """Show a key, of which only the beginning is known."""
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "organization_id": row.organization_id,
        "models": row.models,
        "tier": row.tier,
        "limits": limits_shown(row.limits),
        "budget": budget_shown(row.budget, spent),
        "strategy": row.strategy,
        "expires_at": moment(row.expires_at),
        "disabled": row.disabled,
        "created_at": moment(row.created_at),
        "last_used_at": moment(row.last_used_at),
        "metadata": row.metadata,
    }


def organization_shown(row: OrganizationRow, spent: Spent = UNKNOWN) -> dict[str, Any]:
    """Show an organization."""
    return {
        "id": row.id,
        "name": row.name,
        "limits": limits_shown(row.limits),
        "budget": budget_shown(row.budget, spent),
        "created_at": moment(row.created_at),
        "metadata": row.metadata,
    }


def provider_shown(row: ProviderRow, *, api_key_exists: bool, sealed_options: Sequence[str]) -> dict[str, Any]:
    """Show a provider's account; of what is sealed, only that it is there."""
    fields = row.fields
    return {
        "name": row.name,
        "provider": fields.get("provider"),
        "api_base": fields.get("api_base"),
        "api_key_exists": api_key_exists,
        "api_version": fields.get("api_version"),
        "security_level": fields.get("security_level"),
        "timeout_s": fields.get("timeout_s"),
        "limits": fields.get("limits"),
        "accept_client_keys": fields.get("accept_client_keys", False),
        "options": fields.get("options", {}),
        "sealed_options": sealed_options,
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }


def deployment_shown(row: DeploymentRow) -> dict[str, Any]:
    """Show a deployment: `name` is what clients ask for, `model` what the provider knows."""
    facts = ("prices_per_million", "context_length", "max_output_tokens", "capabilities", "tokenizer", "probe")
    return {
        "id": row.id,
        "name": row.model,
        "provider": row.fields.get("provider"),
        "model": row.fields.get("model"),
        "weight": row.fields.get("weight", 1.0),
        "limits": row.fields.get("limits"),
        **{fact: row.fields.get(fact) for fact in facts},
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }


def audit_shown(row: AuditRow) -> dict[str, Any]:
    """Show a line of the audit log, with the hashes that chain it."""
    return {
        "seq": row.seq,
        "at": moment(row.at),
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "organization_id": row.organization_id,
        "details": row.details,
        "previous": row.previous,
        "hash": row.hash,
    }


def limits_shown(limits: Limits | None) -> dict[str, Any] | None:
    """Show limits, those that are none as null."""
    return None if limits is None else msgspec.structs.asdict(limits)


def budget_shown(budget: Budget | None, spent: Spent) -> dict[str, Any] | None:
    """Show a budget and how it stands."""
    if budget is None:
        return None
    return {
        "usd": budget.usd,
        "period": budget.period,
        "soft_usd": budget.soft_usd,
        "spent_usd": spent.usd,
        "resets_at": moment(spent.resets_at),
    }


def address_shown(address: str | None) -> str | None:
    """Show an address without what may stand before its host."""
    if address is None or "@" not in (parts := urlsplit(address)).netloc:
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
