"""The services on offer with their flavors and prompts, as one copy in memory that is read again when they change."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from llmgateway.storage.admin.rows import ChangeKind
from llmgateway.storage.documents.rows import FlavorRow, PromptRow, ServiceRow

Part = Literal["service", "flavor", "prompt"]
_PARTS: frozenset[str] = frozenset({"service", "flavor", "prompt"})


class Rows(Protocol):
    """Reads all rows of a kind, oldest first. Raises: StorageAwayError."""

    async def every(self, kind: Part, /) -> Sequence[Any]: ...


class Service(Struct, frozen=True):
    """A service with its flavors, oldest first."""

    row: ServiceRow
    flavors: tuple[FlavorRow, ...] = ()

    @property
    def default(self) -> FlavorRow | None:
        """The flavor that runs when none is named: the one marked so, else the oldest that is active.

        Making another the default marks the new one before it takes the mark from the old one. A process that ends in
        between leaves two: then the mark that was set last counts.
        """
        marked = [flavor for flavor in self.flavors if flavor.is_default]
        if marked:
            return max(marked, key=marked_at)
        return next((flavor for flavor in self.flavors if flavor.is_active), None)

    def flavor(self, name: str) -> FlavorRow | None:
        """Find a flavor of it by its id or its name."""
        return next((flavor for flavor in self.flavors if name in {flavor.id, flavor.name}), None)

    def is_seen_by(self, organization: str | None, *, everyone: bool = False) -> bool:
        """Whether an organization, or whoever sees everything, knows of it."""
        return everyone or self.row.organization_id in {None, organization}


def marked_at(flavor: FlavorRow) -> tuple[datetime, str]:
    """Order flavors that are marked as the default by when that was done; no two are at the same place."""
    return flavor.updated_at, flavor.id


class _Copy(Struct, frozen=True):
    """All of them at one moment."""

    services: Mapping[str, Service] = field(default_factory=dict)
    by_route: Mapping[tuple[str | None, str], Service] = field(default_factory=dict)
    of_flavor: Mapping[str, Service] = field(default_factory=dict)
    flavors: Mapping[str, FlavorRow] = field(default_factory=dict)
    prompts: Mapping[str, PromptRow] = field(default_factory=dict)


class Services:
    """Knows the services; a listener of `keys.watch.Watch`. Every question raises what the database does.

    Args:
        admin: Where the rows are.
    """

    def __init__(self, admin: Rows) -> None:
        self._admin = admin
        self._copy: _Copy | None = None
        self._changes = 0
        self._reading = asyncio.Lock()

    def changed(self, kind: ChangeKind, subject: str) -> None:
        """Forget the copy, when it is of one of them."""
        if kind in _PARTS:
            self.everything_changed()

    def everything_changed(self) -> None:
        """Forget the copy: what changed cannot be told."""
        self._changes += 1
        self._copy = None

    async def service(self, name: str, organization: str | None, *, everyone: bool = False) -> Service | None:
        """Find a service by its id or its route, the organization's own before the global one.

        Args:
            everyone: Those of all organizations may be named; by a route, when only one has it.
        """
        copy = await self._now()
        found = copy.services.get(name)
        if found is not None and found.is_seen_by(organization, everyone=everyone):
            return found
        found = copy.by_route.get((organization, name)) or copy.by_route.get((None, name))
        if found is None and everyone:
            of_others = [service for (_, route), service in copy.by_route.items() if route == name]
            found = of_others[0] if len(of_others) == 1 else None
        return found

    async def flavor(self, flavor_id: str) -> FlavorRow | None:
        """Find a flavor, of whatever organization."""
        return (await self._now()).flavors.get(flavor_id)

    async def service_of(self, flavor_id: str) -> Service | None:
        """Find the service that a flavor is one of."""
        return (await self._now()).of_flavor.get(flavor_id)

    async def prompt(self, prompt_id: str, organization: str | None) -> PromptRow | None:
        """Find a prompt of an organization, or a global one."""
        found = (await self._now()).prompts.get(prompt_id)
        return found if found is not None and found.organization_id in {None, organization} else None

    async def prompts(self, organization: str | None, *, everyone: bool = False) -> list[PromptRow]:
        """Give the prompts that an organization, or whoever sees everything, knows of, oldest first."""
        rows = (await self._now()).prompts.values()
        return [row for row in rows if everyone or row.organization_id in {None, organization}]

    async def listed(self, organization: str | None, *, everyone: bool = False) -> list[Service]:
        """Give the services that an organization, or whoever sees everything, knows of, oldest first."""
        return [one for one in (await self._now()).services.values() if one.is_seen_by(organization, everyone=everyone)]

    async def _now(self) -> _Copy:
        copy = self._copy
        if copy is not None:
            return copy
        async with self._reading:
            if self._copy is not None:
                return self._copy
            changes = self._changes
            copy = _copied(
                await self._admin.every("service"), await self._admin.every("flavor"), await self._admin.every("prompt")
            )
            # What changed while it was read may be missing in it: the next question reads again.
            if changes == self._changes:
                self._copy = copy
            return copy


def _copied(services: Sequence[ServiceRow], flavors: Sequence[FlavorRow], prompts: Sequence[PromptRow]) -> _Copy:
    its_flavors: dict[str, list[FlavorRow]] = {}
    for flavor in sorted(flavors, key=_age):
        its_flavors.setdefault(flavor.service_id, []).append(flavor)
    # Flavors without their service are what is left of one that was being made or removed.
    put_together = [Service(row, tuple(its_flavors.get(row.id, ()))) for row in sorted(services, key=_age)]
    return _Copy(
        services={service.row.id: service for service in put_together},
        by_route={(service.row.organization_id, service.row.route): service for service in put_together},
        of_flavor={flavor.id: service for service, flavor in _pairs(put_together)},
        flavors={flavor.id: flavor for _, flavor in _pairs(put_together)},
        prompts={row.id: row for row in prompts},
    )


def _age(row: ServiceRow | FlavorRow) -> tuple[datetime, str]:
    # Those that come with the program are of the same moment.
    return row.created_at, row.name


def _pairs(services: Sequence[Service]) -> Iterator[tuple[Service, FlavorRow]]:
    for service in services:
        for flavor in service.flavors:
            yield service, flavor
