"""Keys and who holds them, kept in memory: it can be away, be slow, and answer what was true a moment ago."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import anyio
from msgspec import structs

from llmgateway.keys.hashing import hash_of, new_key, prefix_of
from llmgateway.storage.admin.outcomes import following
from llmgateway.storage.admin.rows import Change, ChangeKind, KeyRow, OrganizationRow
from llmgateway.storage.queries import StorageAwayError

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def key_row(key: str, **fields: Any) -> KeyRow:
    given = {"id": f"key_{hash_of(key)[:8]}", "name": "test", "created_at": NOW, **fields}
    return KeyRow(hash=hash_of(key), prefix=prefix_of(key), **given)


class People:
    """Stands for the tables of keys, organizations and changes."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyRow] = {}
        self.organizations: dict[str, OrganizationRow] = {}
        self.changes: list[Change] = []
        self.asked: list[str] = []
        self.touches: list[Mapping[str, datetime]] = []
        self.away = False
        self.broken: Exception | None = None
        self.slow: anyio.Event | None = None

    def add(self, key: str | None = None, **fields: Any) -> str:
        """Give somebody a key."""
        key = key or new_key()
        row = key_row(key, **fields)
        self.rows[row.id] = row
        return key

    def change(self, key: str, **fields: Any) -> Change:
        row = self.row(key)
        self.rows[row.id] = structs.replace(row, **fields)
        return self.write("key", row.id)

    def remove(self, key: str) -> Change:
        row = self.row(key)
        del self.rows[row.id]
        return self.write("key", row.id)

    def write(self, kind: ChangeKind, subject: str) -> Change:
        self.changes.append(Change(len(self.changes) + 1, kind, subject))
        return self.changes[-1]

    def row(self, key: str) -> KeyRow:
        return next(row for row in self.rows.values() if hash_of(key) in {row.hash, row.previous_hash})

    async def key_by_hash(self, digest: str) -> tuple[KeyRow, OrganizationRow | None] | None:
        self.asked.append(digest)
        self._reach()
        row = next((row for row in self.rows.values() if digest in {row.hash, row.previous_hash}), None)
        found = None if row is None else (row, self.organizations.get(row.organization_id or ""))
        if self.slow is not None:
            await self.slow.wait()
        self._reach()
        return found

    async def changes_after(self, seq: int | None) -> list[Change]:
        self._reach()
        if seq is None:
            return self.changes[-1:]
        return following(seq, [(one.seq, one.kind, one.subject) for one in self.changes if one.seq >= seq])

    async def touched(self, times: Mapping[str, datetime]) -> None:
        self._reach()
        self.touches.append(times)

    def _reach(self) -> None:
        if self.broken is not None:
            raise self.broken
        if self.away:
            raise StorageAwayError("postgres.internal:5432 has too many clients already")
