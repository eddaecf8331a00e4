"""Accounts at providers, beside those of the catalog's file. Their keys are written and never read."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from anyio import to_thread
from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.admin.asked import Body, Line, admin_only, body_asked, deed, page_asked
from llmgateway.api.admin.shown import json_answer, listed, provider_shown, removed
from llmgateway.api.admin.writing import Changed, every_row, in_time, not_there, replaced, there
from llmgateway.api.ledger.asking import short
from llmgateway.catalog.check import nearest
from llmgateway.catalog.model import SecurityLevel
from llmgateway.catalog.providers import providers
from llmgateway.catalog.rows import SEALED, put_together, taken_apart
from llmgateway.catalog.schema import AccountName, Address, Seconds, Text, Tier
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import ConflictError, InvalidRequestError
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import Deed, ProviderRow
from llmgateway.storage.admin.sealing import SealError

# LiteLLM's parameters that say where a call goes.
_ADDRESS_OPTION = re.compile(r"base|url|endpoint|host|domain|prox", re.IGNORECASE)
# Their new values go into the audit log; of the others only that they changed.
_TOLD = {"provider", "api_base", "security_level", "limits", "accept_client_keys", "timeout_s"}


class Seals(Protocol):
    """Encrypts, and opens again; for a thread."""

    def seal(self, text: str) -> str: ...

    def unseal(self, sealed: str) -> str:
        """Raises: SealError."""
        ...


class ProviderChange(Body):
    """What may be said of a provider, as in the catalog's file; `null` is what is usual."""

    provider: Text | None = None
    api_key: Text | None = None
    api_base: Address | None = None
    api_version: Line | None = None
    security_level: SecurityLevel | None = None
    timeout_s: Seconds | None = None
    limits: Tier | None = None
    accept_client_keys: bool | None = None
    options: dict[str, Any] | None = None


class NewProvider(ProviderChange):
    """A provider to be made."""

    name: AccountName
    provider: Text


def _now() -> datetime:
    return datetime.now(UTC)


def routes(
    storage: AdminStorage,
    seal: Seals,
    catalog: Callable[[], Catalog],
    changed: Changed,
    *,
    now: Callable[[], datetime] = _now,
) -> list[Route]:
    """Serve `/admin/providers`.

    Args:
        catalog: Gives the catalog as it is now: a name that its file has is taken.
    """
    accounts = _Providers(storage, seal, catalog, changed, now)
    one = "/admin/providers/{name}"
    return [
        Route("/admin/providers", accounts.make, methods=["POST"]),
        Route("/admin/providers", accounts.list, methods=["GET"]),
        Route(one, accounts.read, methods=["GET"]),
        Route(one, accounts.change, methods=["PATCH"]),
        Route(one, accounts.remove, methods=["DELETE"]),
    ]


class _Providers:
    def __init__(
        self,
        storage: AdminStorage,
        seal: Seals,
        catalog: Callable[[], Catalog],
        changed: Changed,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._seal = seal
        self._catalog = catalog
        self._changed = changed
        self._now = now

    async def make(self, request: Request) -> Response:
        body = await body_asked(request, NewProvider)
        origin = self._catalog().origins.get(body.name, "database")
        if origin != "database":
            raise ConflictError(
                f"There is a provider {short(body.name)} already, from elsewhere ({origin.replace('_', '-')}): "
                "choose another name, or change it there.",
                code="already_exists",
            )
        now = self._now()
        await self._warm(body)
        blank = ProviderRow(name=body.name, fields={}, created_at=now, updated_at=now)
        row = self._with(blank, body)
        await in_time(partial(self._storage.add_provider, row, _deed(request, "provider.create", body.name, body)))
        await self._changed()
        return json_answer(_shown(row), 201)

    async def list(self, request: Request) -> Response:
        admin_only(request)
        number, size = page_asked(request)
        page = await in_time(partial(self._storage.providers, number, size))
        return listed(map(_shown, page.rows), page, number, size)

    async def read(self, request: Request) -> Response:
        admin_only(request)
        return json_answer(_shown(await there("provider", request.path_params["name"], self._storage.provider)))

    async def change(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        body = await body_asked(request, ProviderChange)
        await self._warm(body)

        def changed(row: ProviderRow) -> tuple[ProviderRow, Deed]:
            _check_move(row, body)
            return self._with(row, body), _deed(request, "provider.update", name, body)

        read = partial(self._storage.provider, name)
        missing = partial(not_there, "provider", name)
        row, is_new = await replaced(read, changed, self._storage.replace_provider, missing)
        if is_new:
            await self._changed()
        return json_answer(_shown(row))

    async def remove(self, request: Request) -> Response:
        admin_only(request)
        name: str = request.path_params["name"]
        rows = [row async for row in every_row(self._storage.deployments)]
        resting = [row.id for row in rows if row.fields.get("provider") == name]
        # One of the file has the same name by chance: then they rest on that.
        if resting and self._catalog().origins.get(name, "database") == "database":
            raise ConflictError(
                f"{len(resting)} deployments rest on the provider {short(name)}: remove them first "
                f"({', '.join(resting[:3])}).",
                code="provider_in_use",
            )
        if not await in_time(partial(self._storage.remove_provider, name, deed(request, "provider.remove", name))):
            raise not_there("provider", name)
        await self._changed()
        return removed(name)

    async def _warm(self, body: ProviderChange) -> None:
        """Import the cipher in a thread, when it is needed; what it does after that takes microseconds."""
        if not body.named & {"api_key", "options"}:
            return
        try:
            await to_thread.run_sync(self._seal.seal, "")
        except SealError as error:
            raise ConflictError(f"{error}.", code="encryption_key_missing") from None

    def _with(self, row: ProviderRow, body: ProviderChange) -> ProviderRow:
        """Give the row with what was sent, sealed anew only where something secret was."""
        given = body.model_dump(mode="json", exclude={"name"}, exclude_unset=True)
        secret = {"api_key", "options"} & given.keys()
        fields = {**(self._opened(row, secret) if secret else row.fields), **given}
        fields = {name: value for name, value in fields.items() if value is not None}
        _check(fields)
        sealed = row.sealed_key
        if secret:
            fields, text = taken_apart(fields)
            sealed = None if text is None else self._seal.seal(text)
        if fields == row.fields and not secret:
            return row
        return structs.replace(row, fields=fields, sealed_key=sealed, updated_at=self._now())

    def _opened(self, row: ProviderRow, replaced_by: set[str]) -> dict[str, Any]:
        if row.sealed_key is None or replaced_by == {"api_key", "options"}:
            return put_together(row.fields, None)
        try:
            return put_together(row.fields, self._seal.unseal(row.sealed_key))
        except ValueError as error:
            raise ConflictError(
                f"{error}. Or send `api_key` and `options` both, which replaces it.", code="encryption_key_missing"
            ) from None


def _check(fields: Mapping[str, Any]) -> None:
    """Refuse what could not be served."""
    provider, address = fields.get("provider", ""), fields.get("api_base")
    known = providers().get(provider)
    if known is None:
        near = nearest(provider, providers())
        raise InvalidRequestError(
            f"`provider`: there is no such provider; the nearest that LiteLLM knows is `{near}`.", param="provider"
        )
    if known.wire != "litellm" and address is None and known.api_base is None:
        raise InvalidRequestError(f"`api_base`: {provider} has no address of its own; send one.", param="api_base")
    if address is not None and "@" in urlsplit(address).netloc:
        raise InvalidRequestError("`api_base` holds a login: send that as `api_key` or `options`.", param="api_base")
    if "${" in fields.get("api_key", ""):
        raise InvalidRequestError(
            "`api_key`: variables are read in the catalog's file only; send the key itself.", param="api_key"
        )


def _check_move(row: ProviderRow, body: ProviderChange) -> None:
    """Keep a key, which nobody may read, from being sent to an address that whoever changes the row has chosen."""
    moved: list[str] = [
        name for name in ("provider", "api_base") if name in body.named and getattr(body, name) != row.fields.get(name)
    ]
    known = row.fields.get("options", {})
    if any(_ADDRESS_OPTION.search(name) and known.get(name) != value for name, value in (body.options or {}).items()):
        moved.append("options")
    lacking = [name for name in ("api_key", "options") if name not in body.named and _seals(row, name)]
    if moved and lacking:
        raise InvalidRequestError(
            f"`{moved[0]}`: a key is never sent to another address than it was given for; "
            f"send `{'` and `'.join(lacking)}` again with it, or null.",
            param=moved[0],
        )


def _seals(row: ProviderRow, name: str) -> bool:
    return any(sealed.partition(".")[0] == name for sealed in row.fields.get(SEALED, ()))


def _shown(row: ProviderRow) -> dict[str, Any]:
    options = [name.partition(".")[2] for name in row.fields.get(SEALED, ()) if name.startswith("options.")]
    return provider_shown(row, api_key_exists=_seals(row, "api_key"), sealed_options=options)


def _deed(request: Request, action: str, name: str, body: ProviderChange) -> Deed:
    told = body.model_dump(mode="json", include=_TOLD & body.named, exclude_unset=True)
    return deed(request, action, name, details={"fields": sorted(body.named), **told})
