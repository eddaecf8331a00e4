"""How a service comes to be: with all its flavors, or not at all."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from msgspec import Struct

from llmgateway.documents_api.asked import short, unprocessable
from llmgateway.documents_api.entities.checks import Wish, check_flavor
from llmgateway.documents_api.entities.fields import NewFlavor
from llmgateway.documents_api.shelves.keeping import Keeping, Known, unique
from llmgateway.documents_api.shelves.viewer import Viewer
from llmgateway.errors import ConflictError, GatewayError
from llmgateway.flavor import Mode
from llmgateway.ids import new_uuid
from llmgateway.jobs.services import Service
from llmgateway.storage.documents.rows import FlavorRow, ServiceRow, ServiceTypeRow

# Letters that have no accent to take off.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ŋ": "n", "\u0131": "i"}
)
_LONGEST_ROUTE = 80
_SHORT_ID = 8


class Draft(Struct, frozen=True, kw_only=True):
    """A service that somebody wants.

    Args:
        route: `None`: made of the name.
        more: Further fields of its row.
    """

    name: str
    service_type: str
    flavors: Sequence[NewFlavor]
    owner: str | None
    route: str | None = None
    more: Mapping[str, Any] = {}


async def make_service(keeping: Keeping, viewer: Viewer, draft: Draft) -> Service:
    """Make a service.

    Raises:
        ConflictError: There is one of that name or route.
        DocumentError: One of its flavors could not run.
        UnprocessableError: There is no such type, or not exactly one default.
    """
    known, kind = await keeping.known(), await type_asked(keeping, draft.service_type)
    identity, now = new_uuid(), keeping.now()
    taken = {row.route for row in known.services.values() if row.organization_id == draft.owner}
    route = draft.route or free_route(draft.name, identity, taken)
    row = ServiceRow(
        id=identity,
        name=draft.name,
        route=route,
        service_type=draft.service_type,
        unique_name=unique(draft.owner, draft.name),
        unique_route=unique(draft.owner, route),
        organization_id=draft.owner,
        created_at=now,
        updated_at=now,
        **draft.more,
    )
    flavors = _flavors(row, draft.flavors, kind.default_processing_mode)
    for flavor in flavors:
        wish = Wish(id=flavor.id, name=flavor.name, settings=flavor.settings, organization=draft.owner)
        check_flavor(wish, known, keeping.catalog(), viewer.caller)
    _check_name(row, known)
    await _written(keeping, viewer, row, flavors)
    return Service(row, flavors)


async def type_asked(keeping: Keeping, code: str) -> ServiceTypeRow:
    """Give the type of that code. Raises: UnprocessableError."""
    rows: Sequence[ServiceTypeRow] = await keeping.every("service_type")
    found = next((row for row in rows if row.code == code), None)
    if found is None:
        there = ", ".join(sorted(row.code for row in rows)) or "none"
        raise unprocessable([(("body", "service_type"), f"there is no type {short(code)}; there are: {there}")])
    return found


def free_route(name: str, identity: str, taken: Collection[str]) -> str:
    """Make a route of a name, as far as its letters have a form in ASCII, and one that nobody has."""
    route = slug(name) or f"service-{identity.replace('-', '')[-_SHORT_ID:]}"
    number, free = 1, route
    while free in taken:
        number += 1
        free = f"{route}-{number}"
    return free


def slug(name: str) -> str:
    """Write a name with small letters, digits and hyphens; empty when none of its letters has a form in ASCII."""
    plain = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
    kept = "".join(char for char in plain if not unicodedata.combining(char))
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in kept).split()
    return "-".join(words)[:_LONGEST_ROUTE].strip("-")


def _flavors(service: ServiceRow, asked: Sequence[NewFlavor], otherwise: Mode) -> tuple[FlavorRow, ...]:
    default = _default_of(asked)
    names = [flavor.name for flavor in asked]
    if len(set(names)) < len(names):
        raise unprocessable([(("body", "flavors"), "two of them have the same name")])
    rows = []
    for place, flavor in enumerate(asked):
        # They are listed by their age.
        at = service.created_at + timedelta(microseconds=place)
        rows.append(
            FlavorRow(
                id=new_uuid(),
                service_id=service.id,
                name=flavor.name,
                unique_name=unique(service.id, flavor.name),
                settings=flavor.settings(otherwise),
                created_at=at,
                updated_at=at,
                description=flavor.description,
                is_default=place == default,
                is_active=flavor.is_active,
            )
        )
    return tuple(rows)


def _default_of(asked: Sequence[NewFlavor]) -> int:
    marked = [place for place, flavor in enumerate(asked) if flavor.is_default]
    if len(marked) > 1:
        raise unprocessable([(("body", "flavors", marked[1], "is_default"), "exactly one flavor is the default")])
    default = marked[0] if marked else next((place for place, flavor in enumerate(asked) if flavor.is_active), 0)
    if not asked[default].is_active:
        raise unprocessable([(("body", "flavors", default, "is_active"), "the default flavor must be active")])
    return default


def _check_name(row: ServiceRow, known: Known) -> None:
    """Refuse a name that is taken before its flavors are written: the usual case costs no cleaning up."""
    for other in known.services.values():
        for what in ("name", "route"):
            if getattr(other, f"unique_{what}") == getattr(row, f"unique_{what}"):
                raise ConflictError(
                    f"There is a service with the {what} {short(getattr(row, what))} already: choose another, or "
                    f"change that one (PATCH /api/v1/services/{other.id}).",
                    param=what,
                    code="already_exists",
                )


async def _written(keeping: Keeping, viewer: Viewer, row: ServiceRow, flavors: Sequence[FlavorRow]) -> None:
    """Write the flavors first: without their service nobody sees them, and no service is ever without one."""
    details = {"name": row.name, "route": row.route, "flavors": [flavor.name for flavor in flavors]}
    added: list[FlavorRow] = []
    try:
        for flavor in flavors:
            told = {"service_id": row.id, "name": flavor.name, "model": flavor.settings.model}
            await keeping.add("flavor", flavor, viewer.deed("flavor.create", flavor.id, row.organization_id, told))
            added.append(flavor)
        await keeping.add("service", row, viewer.deed("service.create", row.id, row.organization_id, details))
    except GatewayError:
        for flavor in added:
            await keeping.remove("flavor", flavor.id, viewer.deed("flavor.remove", flavor.id, row.organization_id))
        raise
