"""How what services are made of is read and written: in time, never over somebody else's change, and told at once."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents_api.asked import in_time, short
from llmgateway.errors import ConflictError, NotFoundError
from llmgateway.jobs.services import Services
from llmgateway.storage.admin.outcomes import OvertakenError
from llmgateway.storage.admin.rows import Deed, EntityKind
from llmgateway.storage.documents.rows import FlavorRow, PromptRow, ServiceRow

# Told after each change that was written: this process takes it at once, the others as soon as they can.
Changed = Callable[[], Awaitable[None]]

_MOST_TRIES = 5

Row = TypeVar("Row", bound=Struct)


class Entities(Protocol):
    """Where the rows are; each write is one transaction with its line of the audit log."""

    async def entity(self, kind: EntityKind, identity: str, /) -> Any: ...

    async def every(self, kind: EntityKind, /) -> Sequence[Any]: ...

    async def add_entity(self, kind: EntityKind, row: Any, deed: Deed, /) -> None: ...

    async def replace_entity(self, kind: EntityKind, row: Any, deed: Deed, /, *, instead_of: Any = None) -> bool: ...

    async def remove_entity(self, kind: EntityKind, identity: str, deed: Deed, /) -> bool: ...


class Known(Struct, frozen=True):
    """All services, flavors and prompts by their ids, as they are in the database this moment."""

    services: Mapping[str, ServiceRow]
    flavors: Mapping[str, FlavorRow]
    prompts: Mapping[str, PromptRow]


def _now() -> datetime:
    return datetime.now(UTC)


class Keeping:
    """Reads and writes rows.

    Args:
        services: The copy that is read where a second does not matter.
        catalog: Gives the catalog as it is now, whose models flavors may name.
    """

    def __init__(
        self,
        storage: Entities,
        services: Services,
        catalog: Callable[[], Catalog],
        changed: Changed,
        *,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._storage = storage
        self._changed = changed
        self.services = services
        self.catalog = catalog
        self.now = now

    async def every(self, kind: EntityKind) -> Sequence[Any]:
        """Read all rows of a kind, oldest first. Raises: LedgerAwayError."""
        return await in_time(partial(self._storage.every, kind))

    async def known(self) -> Known:
        """Read everything that a flavor can rest on. Raises: LedgerAwayError."""
        services = {row.id: row for row in await self.every("service")}
        # Flavors without their service are what is left of one that was being made or removed.
        flavors = {row.id: row for row in await self.every("flavor") if row.service_id in services}
        return Known(services, flavors, {row.id: row for row in await self.every("prompt")})

    async def add(self, kind: EntityKind, row: Struct, deed: Deed) -> None:
        """Write a new row down. Raises: ConflictError: there is one of that name."""
        await in_time(partial(self._storage.add_entity, kind, row, deed))
        await self._told()

    async def replace(self, kind: EntityKind, identity: str, change: Callable[[Any], tuple[Row, Deed]]) -> Row:
        """Change a row, and give it as it is now.

        Args:
            change: Makes the new row of the one that is there, again when somebody changed it meanwhile.

        Raises:
            NotFoundError: It is no longer there.
            ConflictError: Others change it all the time, or its new name is another's.
        """
        for _ in range(_MOST_TRIES):
            row = await in_time(partial(self._storage.entity, kind, identity))
            if row is None:
                raise not_there(kind, identity)
            new, deed = change(row)
            if new == row:
                return new
            try:
                if await in_time(partial(self._storage.replace_entity, kind, new, deed, instead_of=row)):
                    await self._told()
                    return new
            except OvertakenError:
                continue
        raise ConflictError("Others are changing it as well: read it again, and try again.", code="changed_meanwhile")

    async def remove(self, kind: EntityKind, identity: str, deed: Deed) -> None:
        """Remove a row. Raises: NotFoundError: it is not there."""
        if not await in_time(partial(self._storage.remove_entity, kind, identity, deed)):
            raise not_there(kind, identity)
        await self._told()

    async def _told(self) -> None:
        self.services.everything_changed()
        await self._changed()


def not_there(kind: EntityKind, named: str, where: str | None = None) -> NotFoundError:
    """Say that there is no such thing: the same for what is another organization's."""
    words = kind.replace("_", " ")
    return NotFoundError(f"There is no {words} {short(named)}. GET {where or _LISTS[kind]} lists them.")


_LISTS: Mapping[EntityKind, str] = {
    "service": "/api/v1/services",
    "flavor": "/api/v1/services/{id}/flavors",
    "prompt": "/api/v1/prompts",
    "service_type": "/api/v1/service-types",
    "preset": "/api/v1/flavor-presets",
    "service_template": "/api/v1/service-templates",
}


def unique(organization_id: str | None, name: str) -> str:
    """Write a name as no other of the same organization has it."""
    return f"{organization_id or ''}/{name}"


def named_in(names: Iterable[str], most: int = 3) -> str:
    """Name the first few of many."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(short(name) for name in known[:most]) + more
