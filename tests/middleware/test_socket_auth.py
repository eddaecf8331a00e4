from functools import partial
from typing import Any

import pytest
from starlette.types import Scope

from llmgateway.errors import AuthenticationError, GatewayError, InvalidRequestError, PermissionDeniedError
from llmgateway.exchange import Exchange
from llmgateway.keys.modes import Identify
from llmgateway.middleware.auth import Auth
from llmgateway.middleware.socket_auth import SocketAuth

SHARED = "shared-key-0001"
ADMIN = "admin-key-0001"


def scope_of(*subprotocols: str, host: str = "gateway.example.com", **headers: str) -> Scope:
    pairs = [(b"Host", host.encode()), *((k.replace("_", "-").encode(), v.encode()) for k, v in headers.items())]
    scope = {"type": "websocket", "path": "/ws/jobs", "query_string": b"", "headers": pairs, "client": ("10.0.0.1", 1)}
    return {**scope, "subprotocols": list(subprotocols)}


async def enter(scope: Scope, *origins: str, mode: Any = "gateway") -> tuple[Exchange, str | None]:
    exchange = Exchange()
    identify = Identify(mode, gateway_keys=(SHARED,), admin_key=ADMIN)
    door = SocketAuth(partial(Auth, identify=identify, loopback=False), origins=origins)
    asked, subprotocol = await door(scope, exchange)
    assert asked["exchange"] is exchange
    assert asked["type"] == "http"
    return exchange, subprotocol


@pytest.mark.parametrize(
    ("scope", "subprotocol"),
    [
        (scope_of(authorization=f"Bearer {SHARED}"), None),
        (scope_of(x_api_key=SHARED), None),
        (scope_of(f"bearer.{SHARED}"), f"bearer.{SHARED}"),
        (scope_of("json", f"bearer.{SHARED}", "xml"), f"bearer.{SHARED}"),
        (scope_of(f"bearer.{SHARED}", Authorization=f"Bearer {SHARED}"), f"bearer.{SHARED}"),
    ],
)
async def test_a_key_comes_in_a_header_or_as_a_subprotocol(scope: Scope, subprotocol: str | None) -> None:
    exchange, agreed = await enter(scope)

    assert exchange.caller.kind == "shared"
    assert agreed == subprotocol


@pytest.mark.parametrize(
    ("scope", "error"),
    [
        (scope_of(), AuthenticationError),
        (scope_of("bearer."), AuthenticationError),
        (scope_of("bearer.wrong"), AuthenticationError),
        (scope_of(SHARED), AuthenticationError),
        (scope_of(f"bearer.{SHARED}", x_api_key="another"), InvalidRequestError),
        (scope_of(f"bearer.{SHARED}", "bearer.another"), InvalidRequestError),
    ],
)
async def test_without_a_key_that_holds_nobody_comes_in(scope: Scope, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        await enter(scope)


async def test_organizations_are_believed_of_whom_http_believes_them() -> None:
    anyone, _ = await enter(scope_of(x_organization_id="acme"), mode="none")
    admin, _ = await enter(scope_of(f"bearer.{ADMIN}", x_organization_id="acme"))

    assert (anyone.organization, admin.organization, admin.caller.kind) == ("acme", "acme", "admin")
    with pytest.raises(InvalidRequestError, match="organization"):
        await enter(scope_of(f"bearer.{SHARED}", x_organization_id="acme"))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://gateway.example.com", "gateway.example.com"),
        ("https://gateway.example.com", "gateway.example.com:443"),
        ("http://gateway.example.com:80", "gateway.example.com"),
        ("http://Gateway.Example.com:8000", "gateway.example.com:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://app.example.com", "gateway.example.com"),
    ],
)
async def test_pages_of_this_host_and_those_that_may_call_come_in(origin: str, host: str) -> None:
    await enter(scope_of(host=host, origin=origin), "https://App.example.com", mode="none")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.com",
        "https://gateway.example.com.evil.com",
        "http://gateway.example.com:8080",
        "null",
        "",
        "//",
        "[",
    ],
)
async def test_foreign_pages_do_not(origin: str) -> None:
    with pytest.raises(PermissionDeniedError, match="LLMGATEWAY_CORS_ORIGINS"):
        await enter(scope_of(origin=origin), "https://app.example.com", mode="none")
    await enter(scope_of(origin=origin), "*", mode="none")


async def test_of_several_origins_and_hosts_all_must_be_the_same() -> None:
    scope = scope_of(origin="https://gateway.example.com")
    scope["headers"] += [(b"host", b"evil.com")]

    with pytest.raises(PermissionDeniedError):
        await enter(scope, mode="none")
