"""Clients' keys: made and shown once, changed, rotated with an overlap, revoked."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from msgspec import structs
from pydantic import AwareDatetime, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.admin.asked import (
    Body,
    BudgetBody,
    Id,
    Line,
    Metadata,
    admin_only,
    body_asked,
    budget_asked,
    deed,
    limits_asked,
    page_asked,
    text_in_query,
)
from llmgateway.api.admin.shown import UNKNOWN, json_answer, key_shown, listed, moment, removed
from llmgateway.api.admin.spending import Spending, spent_of
from llmgateway.api.admin.writing import Changed, in_time, not_there, replaced, there
from llmgateway.api.ledger.asking import short
from llmgateway.catalog.check import nearest
from llmgateway.catalog.model import Strategy
from llmgateway.catalog.schema import Tier
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import InvalidRequestError
from llmgateway.ids import new_id
from llmgateway.keys.hashing import hash_of, new_key, prefix_of
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import KeyRow

_LONGEST_OVERLAP_S = 30 * 86_400
# Their new values go into the audit log; of the others only that they changed.
_TOLD = {"name", "organization_id", "models", "tier", "limits", "budget", "strategy", "expires_at", "disabled"}
Glob = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@/+*?\[\]!-]{1,256}$")]


class KeyChange(Body):
    """What may be said of a key; `null` is none."""

    name: Line | None = None
    organization_id: Id | None = None
    models: Annotated[tuple[Glob, ...], Field(min_length=1, max_length=1000)] | None = None
    tier: str | None = None
    limits: Tier | None = None
    budget: BudgetBody | None = None
    strategy: Strategy | None = None
    expires_at: AwareDatetime | None = None
    disabled: bool = False
    metadata: Metadata | None = None


class NewKey(KeyChange):
    """A key to be made."""

    name: Line


class Rotation(Body):
    """How long the key before still holds."""

    overlap_seconds: Annotated[int, Field(ge=0, le=_LONGEST_OVERLAP_S)] = 0


def _now() -> datetime:
    return datetime.now(UTC)


def routes(
    storage: AdminStorage,
    catalog: Callable[[], Catalog],
    spending: Spending,
    changed: Changed,
    *,
    now: Callable[[], datetime] = _now,
) -> list[Route]:
    """Serve `/admin/keys`.

    Args:
        catalog: Gives the catalog as it is now, whose tiers keys may name.
        changed: Told after each change.
    """
    keys = _Keys(storage, catalog, spending, changed, now)
    one = "/admin/keys/{key_id}"
    return [
        Route("/admin/keys", keys.make, methods=["POST"]),
        Route("/admin/keys", keys.list, methods=["GET"]),
        Route(one, keys.read, methods=["GET"]),
        Route(one, keys.change, methods=["PATCH"]),
        Route(one, keys.revoke, methods=["DELETE"]),
        Route(f"{one}/rotate", keys.rotate, methods=["POST"]),
    ]


class _Keys:
    def __init__(
        self,
        storage: AdminStorage,
        catalog: Callable[[], Catalog],
        spending: Spending,
        changed: Changed,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._catalog = catalog
        self._spending = spending
        self._changed = changed
        self._now = now

    async def make(self, request: Request) -> Response:
        body = await body_asked(request, NewKey)
        await self._check(body)
        key = new_key()
        blank = KeyRow(
            id=new_id("key"), name=body.name, hash=hash_of(key), prefix=prefix_of(key), created_at=self._now()
        )
        row = structs.replace(blank, **_values(body))
        written = deed(request, "key.create", row.id, organization_id=row.organization_id, details=_details(body))
        await in_time(partial(self._storage.add_key, row, written))
        await self._changed()
        return json_answer({**await self._shown(row), "key": key}, 201)

    async def list(self, request: Request) -> Response:
        admin_only(request)
        number, size = page_asked(request, ("organization_id",))
        organization_id = text_in_query(request, "organization_id")
        page = await in_time(partial(self._storage.keys, organization_id, number, size))
        spent = await spent_of(self._spending, "key", page.rows)
        return listed((key_shown(row, spent.get(row.id, UNKNOWN)) for row in page.rows), page, number, size)

    async def read(self, request: Request) -> Response:
        admin_only(request)
        return json_answer(await self._shown(await there("key", request.path_params["key_id"], self._storage.key)))

    async def change(self, request: Request) -> Response:
        key_id: str = request.path_params["key_id"]
        body = await body_asked(request, KeyChange)
        if "name" in body.named and body.name is None:
            raise InvalidRequestError("`name`: a key has one; leave it out to keep it.", param="name")
        await self._check(body)
        values = _values(body)

        def changed(row: KeyRow) -> tuple[KeyRow, Any]:
            new = structs.replace(row, **values)
            return new, deed(request, "key.update", key_id, organization_id=new.organization_id, details=_details(body))

        return json_answer(await self._shown(await self._replaced(key_id, changed)))

    async def revoke(self, request: Request) -> Response:
        admin_only(request)
        key_id: str = request.path_params["key_id"]
        row = await in_time(partial(self._storage.key, key_id))
        details = None if row is None else {"name": row.name, "prefix": row.prefix}
        organization_id = None if row is None else row.organization_id
        written = deed(request, "key.revoke", key_id, organization_id=organization_id, details=details)
        if not await in_time(partial(self._storage.remove_key, key_id, written)):
            raise not_there("key", key_id)
        await self._changed()
        return removed(key_id)

    async def rotate(self, request: Request) -> Response:
        key_id: str = request.path_params["key_id"]
        body = await body_asked(request, Rotation)
        key, now = new_key(), self._now()
        until = now + timedelta(seconds=body.overlap_seconds) if body.overlap_seconds else None

        def changed(row: KeyRow) -> tuple[KeyRow, Any]:
            new = structs.replace(
                row,
                hash=hash_of(key),
                prefix=prefix_of(key),
                previous_hash=None if until is None else row.hash,
                previous_until=until,
            )
            details = {"overlap_seconds": body.overlap_seconds, "prefix": new.prefix}
            return new, deed(request, "key.rotate", key_id, organization_id=row.organization_id, details=details)

        row = await self._replaced(key_id, changed)
        return json_answer({**await self._shown(row), "key": key, "previous_until": moment(until)})

    async def _replaced(self, key_id: str, changed: Callable[[KeyRow], tuple[KeyRow, Any]]) -> KeyRow:
        read = partial(self._storage.key, key_id)
        row, is_new = await replaced(read, changed, self._storage.replace_key, lambda: not_there("key", key_id))
        if is_new:
            await self._changed()
        return row

    async def _shown(self, row: KeyRow) -> dict[str, Any]:
        spent = await spent_of(self._spending, "key", [row])
        return key_shown(row, spent.get(row.id, UNKNOWN))

    async def _check(self, body: KeyChange) -> None:
        """Refuse what would name something that is not there."""
        tiers = self._catalog().limits.tiers
        if body.tier is not None and body.tier not in tiers:
            raise InvalidRequestError(
                f"`tier`: the catalog has no tier {short(body.tier)}; the nearest is `{nearest(body.tier, tiers)}`.",
                param="tier",
            )
        if body.expires_at is not None and body.expires_at <= self._now():
            raise InvalidRequestError(
                "`expires_at` is past: send a moment to come, or `disabled: true`.", param="expires_at"
            )
        named = body.organization_id
        if named is not None and await in_time(partial(self._storage.organization, named)) is None:
            raise InvalidRequestError(
                f"`organization_id`: there is no organization {short(named)}; make it with POST /admin/organizations "
                f'{{"id": "{named}", "name": "…"}}.',
                param="organization_id",
            )


def _values(body: KeyChange) -> dict[str, Any]:
    """Give what was sent as fields of the row."""
    made: Mapping[str, Callable[[], Any]] = {
        "limits": lambda: limits_asked(body.limits),
        "budget": lambda: budget_asked(body.budget),
        "expires_at": lambda: None if body.expires_at is None else body.expires_at.astimezone(UTC),
        "metadata": lambda: body.metadata or {},
    }
    return {name: made[name]() if name in made else getattr(body, name) for name in sorted(body.named)}


def _details(body: KeyChange) -> dict[str, Any]:
    fields: Sequence[str] = sorted(body.named)
    return {"fields": fields, **body.model_dump(mode="json", include=_TOLD & body.named, exclude_unset=True)}
