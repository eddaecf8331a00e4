"""What administrators write, in the database: every write is one transaction with its audit row.

Nothing heavy is imported before a question needs it, as in `Storage`, whose connections these are.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from msgspec import Struct

from llmgateway.storage.address import changes_in, mark_of
from llmgateway.storage.admin.outcomes import Verdict
from llmgateway.storage.admin.rows import (
    AuditRow,
    Change,
    ChangeKind,
    Deed,
    DeploymentRow,
    EntityKind,
    KeyRow,
    OrganizationRow,
    Page,
    ProviderRow,
)
from llmgateway.storage.storage import Storage

_PAGE_SIZE = 50


class AdminStorage:
    """What administrators write. Every question raises `StorageAwayError` when the database cannot answer now.

    To add raises `TakenError` when there is one of that id or name, to replace when there is another of that name.
    To replace or remove what is not there answers false and is written down nowhere. With `instead_of`, the row that
    the caller read before, a change that somebody else made meanwhile is not undone: that is an `OvertakenError`.
    A text that is too long or holds a NUL is a `ValueError`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        # The state of SQLite's file in which there was nothing after that number.
        self._still: tuple[tuple[int, ...], int] | None = None

    async def key_by_hash(self, digest: str) -> tuple[KeyRow, OrganizationRow | None] | None:
        """Find the key whose hash, or whose hash before its last rotation, this is; and its organization."""
        return (await self.keys_by_hash([digest])).get(digest)

    async def keys_by_hash(self, digests: Sequence[str]) -> Mapping[str, tuple[KeyRow, OrganizationRow | None]]:
        """Find several at once; those that are nobody's are left out."""
        found: Mapping[str, tuple[KeyRow, OrganizationRow | None]] = await self._storage.ask(
            lambda database: _reading().keys_by_hash(database, digests)
        )
        return found

    async def key(self, key_id: str) -> KeyRow | None:
        """Find a key by its id."""
        found: KeyRow | None = await self._find("key", key_id)
        return found

    async def keys(
        self,
        organization_id: str | None = None,
        page: int = 1,
        page_size: int = _PAGE_SIZE,
        *,
        prefix: str | None = None,
    ) -> Page[KeyRow]:
        """Read keys, oldest first.

        Args:
            prefix: What a key begins with, as far as it is kept in clear.
        """
        wanted = {"organization_id": organization_id, "prefix": prefix}
        found: Page[KeyRow] = await self._page("key", wanted, page, page_size)
        return found

    async def add_key(self, row: KeyRow, deed: Deed) -> None:
        """Write a new key down."""
        await self._add("key", row, deed)

    async def replace_key(self, row: KeyRow, deed: Deed, *, instead_of: KeyRow | None = None) -> bool:
        """Write a key as it is now, but for when it was last used; false when there is none of that id."""
        return await self._replace("key", row, deed, instead_of)

    async def remove_key(self, key_id: str, deed: Deed) -> bool:
        """Remove a key; false when there is none of that id."""
        return await self._remove("key", key_id, deed)

    async def organization(self, organization_id: str) -> OrganizationRow | None:
        """Find an organization by its id."""
        found: OrganizationRow | None = await self._find("organization", organization_id)
        return found

    async def organizations(self, page: int = 1, page_size: int = _PAGE_SIZE) -> Page[OrganizationRow]:
        """Read organizations, oldest first."""
        found: Page[OrganizationRow] = await self._page("organization", {}, page, page_size)
        return found

    async def add_organization(self, row: OrganizationRow, deed: Deed) -> None:
        """Write a new organization down."""
        await self._add("organization", row, deed)

    async def replace_organization(
        self, row: OrganizationRow, deed: Deed, *, instead_of: OrganizationRow | None = None
    ) -> bool:
        """Write an organization as it is now; false when there is none of that id."""
        return await self._replace("organization", row, deed, instead_of)

    async def remove_organization(self, organization_id: str, deed: Deed) -> bool:
        """Remove an organization, not its keys; false when there is none of that id."""
        return await self._remove("organization", organization_id, deed)

    async def provider(self, name: str) -> ProviderRow | None:
        """Find a provider by its name."""
        found: ProviderRow | None = await self._find("provider", name)
        return found

    async def providers(self, page: int = 1, page_size: int = _PAGE_SIZE) -> Page[ProviderRow]:
        """Read providers, oldest first."""
        found: Page[ProviderRow] = await self._page("provider", {}, page, page_size)
        return found

    async def add_provider(self, row: ProviderRow, deed: Deed) -> None:
        """Write a new provider down."""
        await self._add("provider", row, deed)

    async def replace_provider(self, row: ProviderRow, deed: Deed, *, instead_of: ProviderRow | None = None) -> bool:
        """Write a provider as it is now; false when there is none of that name."""
        return await self._replace("provider", row, deed, instead_of)

    async def remove_provider(self, name: str, deed: Deed) -> bool:
        """Remove a provider; false when there is none of that name."""
        return await self._remove("provider", name, deed)

    async def deployment(self, deployment_id: str) -> DeploymentRow | None:
        """Find a deployment by its id."""
        found: DeploymentRow | None = await self._find("deployment", deployment_id)
        return found

    async def deployments(self, page: int = 1, page_size: int = _PAGE_SIZE) -> Page[DeploymentRow]:
        """Read deployments, oldest first."""
        found: Page[DeploymentRow] = await self._page("deployment", {}, page, page_size)
        return found

    async def add_deployment(self, row: DeploymentRow, deed: Deed) -> None:
        """Write a new deployment down."""
        await self._add("deployment", row, deed)

    async def replace_deployment(
        self, row: DeploymentRow, deed: Deed, *, instead_of: DeploymentRow | None = None
    ) -> bool:
        """Write a deployment as it is now; false when there is none of that id."""
        return await self._replace("deployment", row, deed, instead_of)

    async def remove_deployment(self, deployment_id: str, deed: Deed) -> bool:
        """Remove a deployment; false when there is none of that id."""
        return await self._remove("deployment", deployment_id, deed)

    async def entity(self, kind: EntityKind, identity: str) -> Any:
        """Find a row of one kind, as `storage/documents/rows.py` has it, by its id; `None` when there is none."""
        return await self._find(kind, identity)

    async def entities(self, kind: EntityKind, page: int = 1, page_size: int = _PAGE_SIZE) -> Page[Any]:
        """Read rows of one kind and of all organizations, oldest first."""
        found: Page[Any] = await self._page(kind, {}, page, page_size)
        return found

    async def every(self, kind: EntityKind) -> list[Any]:
        """Read all rows of one kind, oldest first."""
        found: list[Any] = await self._storage.ask(lambda database: _reading().every(database, kind))
        return found

    async def add_entity(self, kind: EntityKind, row: Struct, deed: Deed) -> None:
        """Write a new row of one kind down."""
        await self._add(kind, row, deed)

    async def replace_entity(
        self, kind: EntityKind, row: Struct, deed: Deed, *, instead_of: Struct | None = None
    ) -> bool:
        """Write a row of one kind as it is now; false when there is none of that id."""
        return await self._replace(kind, row, deed, instead_of)

    async def remove_entity(self, kind: EntityKind, identity: str, deed: Deed) -> bool:
        """Remove a row of one kind, not those that name it; false when there is none of that id."""
        return await self._remove(kind, identity, deed)

    async def changes_after(self, seq: int | None) -> list[Change]:
        """Read what was made, changed or removed since, oldest first; costs an idle gateway no import.

        Args:
            seq: The last that the caller knows, 0 before the first; `None` asks for the newest alone, and none at
                all means that nothing was ever written.

        Raises:
            ChangesGoneError: Some of them are no longer known.
        """
        return await self._storage.glance(self._look, lambda database: _reading().changes_after(database, seq), seq)

    def _look(self, path: Path, seq: int | None) -> list[Change]:
        """Look into SQLite's file, unless nobody wrote to it since the last look: that costs 3 ms every second."""
        mark = mark_of(path)
        if mark is not None and (mark, seq) == self._still:
            return []
        changes = changes_in(path, seq)
        self._still = None if mark is None or seq is None or changes else (mark, seq)
        return changes

    async def touched(self, times: Mapping[str, datetime]) -> None:
        """Write down when keys were last used, by their ids: no change of theirs, and no deed."""
        await self._storage.ask(lambda database: _writing().touch(database, times))

    async def note(self, deeds: Sequence[Deed]) -> None:
        """Write down in the audit log what is no change of these rows.

        Raises:
            ValueError: The details of one are no JSON; none of them was written.
        """
        await self._storage.ask(lambda database: _writing().note(database, deeds))

    async def audit(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        organization_id: str | None = None,
        page: int = 1,
        page_size: int = _PAGE_SIZE,
    ) -> Page[AuditRow]:
        """Read the audit log from `start` up to before `end`, newest first."""
        wanted = {"actor": actor, "action": action, "organization_id": organization_id}
        found: Page[AuditRow] = await self._storage.ask(
            lambda database: _reading().audit_page(database, (start, end), wanted, page, page_size)
        )
        return found

    async def verify(self) -> Verdict:
        """Read the whole audit log and tell whether it is what was written."""
        verdict: Verdict = await self._storage.ask(lambda database: _reading().verify(database))
        return verdict

    async def spent_nusd(self, scope: Literal["key", "organization"], owner: str, start: datetime) -> int:
        """Sum what the ledger says a key or an organization spent since a moment, in billionths of a dollar."""
        spent: int = await self._storage.ask(lambda database: _reading().spent_nusd(database, scope, owner, start))
        return spent

    async def _find(self, kind: ChangeKind, identity: str) -> Any:
        return await self._storage.ask(lambda database: _reading().find(database, kind, identity))

    async def _page(self, kind: ChangeKind, wanted: Mapping[str, str | None], page: int, page_size: int) -> Any:
        return await self._storage.ask(lambda database: _reading().page_of(database, kind, wanted, page, page_size))

    async def _add(self, kind: ChangeKind, row: Struct, deed: Deed) -> None:
        await self._storage.ask(lambda database: _writing().add(database, kind, row, deed))

    async def _replace(self, kind: ChangeKind, row: Struct, deed: Deed, instead_of: Struct | None) -> bool:
        replaced: bool = await self._storage.ask(
            lambda database: _writing().replace(database, kind, row, deed, instead_of)
        )
        return replaced

    async def _remove(self, kind: ChangeKind, identity: str, deed: Deed) -> bool:
        removed: bool = await self._storage.ask(lambda database: _writing().remove(database, kind, identity, deed))
        return removed


# What follows is imported once SQLAlchemy is.


def _reading() -> ModuleType:
    from llmgateway.storage.admin import reading  # noqa: PLC0415

    return reading


def _writing() -> ModuleType:
    from llmgateway.storage.admin import writing  # noqa: PLC0415

    return writing
