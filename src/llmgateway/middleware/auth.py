"""Finds out who is asking, and whether that one may, before anything is read of the request but its headers."""

import re
from collections.abc import Awaitable
from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.caller import ANYONE, Caller
from llmgateway.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from llmgateway.exchange import Exchange, Header
from llmgateway.keys.hashing import hash_of
from llmgateway.keys.modes import LOCAL_ADMIN, Identify, no_key, wrong_key
from llmgateway.keys.proof import read_proof, refuse_repeated, shows_another

_OPEN = frozenset(
    {
        *("/", "/v1", "/v1/", "/openapi.json", "/docs", "/health", "/v1/health", "/healthz"),
        *("/health/live", "/v1/health/live", "/livez", "/health/ready", "/v1/health/ready", "/readyz"),
    }
)
_Realm = Literal["admin", "metrics"]
_REALMS: dict[str, _Realm] = {
    "/admin": "admin",
    **dict.fromkeys(("/metrics", "/v1/health/metrics", "/health/detailed", "/v1/health/detailed"), "metrics"),
}
_BELOW = ("/admin/", "/metrics/")
_MODEL_CALLS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
_FOR_PROVIDER_KEYS = _MODEL_CALLS | {"/v1/models"}
_ONE_MODEL = "/v1/models/"
_DOCUMENTS = "/api/v1/"
# In what is kept of a head: the hash of the key that it shows, so that the next one with it need not be hashed.
_ONLY_KEY = "only_key"

_ORGANIZATION = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
_LOCAL_HOST = re.compile(rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_FORWARDED = (b"forwarded", b"x-forwarded", b"x-real-ip")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# What no page can send to another origin unless that allows it (Fetch, CORS-safelisted request-header).
_ASKED_FOR_FIRST = re.compile(
    rb"application/(?:[\w.-]+\+)?json|application/(?:x-)?yaml|text/(?:x-)?yaml", re.IGNORECASE
)


class Auth:
    """Sets the exchange's caller and organization, or refuses; the body of a refused request is not read.

    Args:
        loopback: Whether the server is bound to this machine alone.
    """

    def __init__(self, app: ASGIApp, *, identify: Identify, loopback: bool) -> None:
        self._app = app
        self._identify = identify
        self._loopback = loopback
        # Then there is nobody to be told apart.
        self._anyone = identify.mode == "none" and not identify.has_admin_key

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or self._is_known(scope):
            return self._app(scope, receive, send)
        return self._find_out(scope, receive, send)

    async def _find_out(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_open(scope, path := scope["path"]):
            realm = _realm_of(path)
            if realm is None:
                await self._caller(scope, scope["exchange"], path)
            elif realm == "admin":
                await self._admin(scope, scope["exchange"])
            else:
                await self._metrics(scope, scope["exchange"])
        await self._app(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        """Recognize at once what most requests are: a model call with nothing but a key that is known."""
        if self._anyone:
            return _is_plain(scope)
        of_head: dict[str, str] = scope.get("of_head", {})
        digest = of_head.get(_ONLY_KEY)
        if digest is None:
            digest = of_head[_ONLY_KEY] = _hash_of_only_key(scope)
        caller = self._identify.known(digest) if digest else None
        if caller is None:
            return False
        exchange: Exchange = scope["exchange"]
        exchange.caller, exchange.organization = caller, caller.organization
        return True

    async def _caller(self, scope: Scope, exchange: Exchange, path: str) -> None:
        caller = ANYONE
        if not self._anyone:
            proof = _proof(scope)
            caller = self._identify.at_once(proof) or await self._identify.caller(proof, _address(scope))
            if caller.kind == "provider" and path not in _FOR_PROVIDER_KEYS and not path.startswith(_ONE_MODEL):
                raise PermissionDeniedError("A provider's own key is good for model calls only, with /v1/models.")
            exchange.caller = caller
        named = scope["named_headers"].get(b"x-organization-id")
        exchange.organization = caller.organization if named is None else _acts_for(caller, named)
        if path.startswith(_DOCUMENTS):
            exchange.may_administer = caller.kind == "admin" or (
                not self._identify.has_admin_key and not self._why_not_local(scope)
            )

    async def _metrics(self, scope: Scope, exchange: Exchange) -> None:
        if self._identify.mode == "none":
            return
        proof = _proof(scope)
        if proof is None:
            raise no_key()
        if self._identify.may_read_metrics(proof):
            return
        caller = await self._identify.caller(proof, _address(scope))
        if caller.kind != "admin":
            raise PermissionDeniedError(
                "These figures are of all callers together: send the admin key, or that of LLMGATEWAY_METRICS_KEY.",
                code="admin_required",
            )
        exchange.caller = caller

    async def _admin(self, scope: Scope, exchange: Exchange) -> None:
        if not self._identify.has_admin_key:
            self._check_local(scope)
            exchange.caller = LOCAL_ADMIN
            return
        proof = _proof(scope)
        if proof is None:
            raise no_key()
        caller = await self._identify.caller(proof, _address(scope))
        if caller.kind == "anyone":
            raise wrong_key()
        if caller.kind != "admin":
            raise PermissionDeniedError("Only the admin key may do this.", code="admin_required")
        exchange.caller = caller

    def _why_not_local(self, scope: Scope) -> str:
        """Say why nobody is an administrator here without its key; nothing when a person at the machine is."""
        why = "" if self._identify.mode == "none" else "callers have keys here"
        why = why or ("" if self._loopback else "others than this machine can reach the gateway")
        return why or _not_local(scope)

    def _check_local(self, scope: Scope) -> None:
        if why := self._why_not_local(scope):
            raise PermissionDeniedError(
                f"Administration is off: {why}, and no LLMGATEWAY_ADMIN_KEY is set. Set it, then send it.",
                code="admin_disabled",
            )


def _is_plain(scope: Scope) -> bool:
    return scope["path"] in _MODEL_CALLS and b"x-organization-id" not in scope["named_headers"]


def _hash_of_only_key(scope: Scope) -> str:
    """Hash the key of a model call that has nothing else that says who asks; empty if it has not just that."""
    headers: dict[bytes, bytes] = scope["named_headers"]
    bearer = headers.get(b"authorization", b"")
    if not (_is_plain(scope) and bearer.startswith(b"Bearer ")) or shows_another(headers):
        return ""
    return hash_of(bearer[7:]) if len(headers) == len(scope["headers"]) else ""


def _is_open(scope: Scope, path: str) -> bool:
    """Whether no key is needed; browsers ask without one what they may ask. Nobody unknown has a body read."""
    if path in _OPEN:
        return True
    if scope["method"] != "OPTIONS":
        return False
    headers: dict[bytes, bytes] = scope["named_headers"]
    return headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers


def _realm_of(path: str) -> _Realm | None:
    if path.startswith(_BELOW):
        return "admin" if path[1] == "a" else "metrics"
    return _REALMS.get(path)


def _proof(scope: Scope) -> bytes | None:
    headers: dict[bytes, bytes] = scope["named_headers"]
    if len(headers) != len(scope["headers"]):
        refuse_repeated(scope["headers"])
    return read_proof(headers)


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return None if client is None else client[0]


def _acts_for(caller: Caller, named: bytes) -> str | None:
    """Read an organization's name; only who may act for any is believed, all others have their own.

    Raises:
        InvalidRequestError: An administrator named it in a way that nobody is.
        NotFoundError: It is not the caller's own: the same text as for one that there is not.
    """
    valid = _ORGANIZATION.fullmatch(named) is not None
    if caller.kind == "anyone":
        # A wrong one counts as none for calls; what would then show everything asks for a right one.
        return named.decode() if valid else None
    if caller.kind == "admin":
        if not valid:
            raise InvalidRequestError(
                "X-Organization-ID must be 1 to 128 of A-Z a-z 0-9 . _ - ; leave it out to act for all.",
                param="X-Organization-ID",
            )
        return named.decode()
    if caller.organization is None or named != caller.organization.encode():
        shown = named.decode() if valid else "…"
        raise NotFoundError(f"No organization `{shown}` is known here, or it is not yours.", param="X-Organization-ID")
    return caller.organization


def _not_local(scope: Scope) -> str:
    """Say why this request may not come from a person at the machine; nothing when it does.

    A page in that person's browser must not become an administrator, nor what a proxy beside the gateway lets through.
    """
    pairs: list[Header] = scope["headers"]
    hosts = [value for name, value in pairs if name == b"host"]
    origins = [value.lower() for name, value in pairs if name == b"origin"]
    faults = (
        (_address(scope) not in _LOOPBACK, "the request comes from another machine"),
        (any(name.startswith(_FORWARDED) for name, _ in pairs), "a proxy forwarded the request"),
        (
            len(hosts) != 1 or not _LOCAL_HOST.fullmatch(hosts[0]),
            "the request's Host is not localhost, 127.0.0.1 or [::1]",
        ),
        (any(origin != b"http://" + hosts[0].lower() for origin in origins if hosts), "its Origin is another page"),
        (
            scope["method"] in _WITH_BODY and not _ASKED_FOR_FIRST.fullmatch(_media_type(scope["named_headers"])),
            "the request's Content-Type is not application/json",
        ),
    )
    return next((why for is_fault, why in faults if is_fault), "")


def _media_type(headers: dict[bytes, bytes]) -> bytes:
    return headers.get(b"content-type", b"").partition(b";")[0].strip()
