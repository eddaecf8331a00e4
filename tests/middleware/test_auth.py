"""Who may call what, decided before anything of a request is read but its headers."""

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from llmgateway.exchange import Exchange
from llmgateway.keys.directory import Directory
from llmgateway.keys.hashing import hash_of, new_key
from llmgateway.keys.modes import Identify, Mode
from llmgateway.middleware.auth import Auth
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.request_id import RequestID
from tests.asgi import Client, piece, scope_of
from tests.keys.people import People
from tests.middleware.conftest import Log

SHARED, ADMIN, METRICS, OPENAI = "shared-key-0001", "admin-key-0001", "metrics-key-0001", "sk-proj-abcdefgh12345678"
CHAT = "/v1/chat/completions"
OPEN = [
    *("/", "/v1", "/v1/", "/health", "/health/live", "/v1/health/live", "/livez", "/health/ready"),
    *("/v1/health/ready", "/readyz", "/openapi.json", "/docs"),
]
FIGURES = [
    *("/metrics", "/v1/health/metrics", "/metrics/performance", "/metrics/trends", "/metrics/costs"),
    *("/health/detailed", "/v1/health/detailed"),
]
LOCAL: dict[str, Any] = {"host": "localhost:8000", "content-type": "application/json"}
ADMINISTRATION = ["/admin", "/admin/keys", "/admin/keys/key_1/rotate", "/admin/unknown"]


class Door:
    """A gateway's door: keeps the exchange of whoever comes in."""

    def __init__(self, log: Log, mode: Mode, people: People | None = None, *, loopback: bool = True, **more: Any):
        given: dict[str, Any] = {"gateway_keys": (SHARED,), "admin_key": ADMIN, "metrics_key": METRICS}
        given |= {"accepted": lambda: {"openai"}, **more}
        self.directory = None if people is None else Directory(people)
        identify = Identify(mode, directory=self.directory, **given)
        self.inside: list[Exchange] = []
        self._stack = RequestID(Errors(Auth(self._enter, identify=identify, loopback=loopback), logger=log.logger))

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside.append(scope["exchange"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(
        self,
        path: str = CHAT,
        key: str | None = None,
        method: str = "POST",
        peer: tuple[str, int] | None = ("127.0.0.1", 50_000),
        **headers: str,
    ) -> Client:
        pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        if key is not None:
            pairs.append((b"authorization", b"Bearer " + key.encode("latin-1")))
        return await self.send(path, pairs, method, peer)

    async def send(
        self,
        path: str,
        pairs: list[tuple[bytes, bytes]],
        method: str = "POST",
        peer: object = ("127.0.0.1", 1),
        **more: object,
    ) -> Client:
        client = Client(piece(b"x" * 1000, more=True), piece())
        await self._stack(scope_of(method, path, pairs, client=peer, **more), client.receive, client.send)
        if client.status != 200:
            assert client.unread == 2, "the body of a refused request was read"
        return client

    async def exchange(self, *arguments: Any, **headers: Any) -> Exchange:
        client = await self.ask(*arguments, **headers)
        assert client.status == 200, client.body
        return self.inside[-1]

    async def refused(self, *arguments: Any, **headers: Any) -> tuple[int, str]:
        client = await self.ask(*arguments, **headers)
        assert client.status >= 400
        return client.status, client.error["code"]


def everyone(people: People) -> list[str]:
    return [SHARED, people.add(organization_id="acme"), OPENAI]


@pytest.mark.parametrize("mode", ["none", "gateway", "client", "hybrid"])
@pytest.mark.parametrize("path", OPEN)
async def test_some_paths_are_open_to_everybody_with_any_key(log: Log, mode: Mode, path: str) -> None:
    door = Door(log, mode, People())

    for key in (None, "wrong", new_key(), ADMIN):
        assert (await door.ask(path, key, "GET")).status == 200


async def test_what_a_browser_asks_before_it_asks_has_no_key(log: Log) -> None:
    door = Door(log, "client", People())

    assert (await door.ask(CHAT, None, "OPTIONS", origin="https://app.example")).status == 200
    assert await door.refused(CHAT, None, "OPTIONS", content_length="20000000") == (401, "invalid_api_key")
    assert await door.refused(CHAT, None, "OPTIONS", transfer_encoding="chunked") == (401, "invalid_api_key")


async def test_a_head_that_comes_again_lets_nobody_in_any_longer_than_the_key_holds(log: Log) -> None:
    people = People()
    door, key = Door(log, "client", people), people.add()
    of_head: dict[str, object] = {}
    pairs = [(b"authorization", b"Bearer " + key.encode())]
    answers = [await door.send(CHAT, pairs, of_head=of_head) for _ in range(3)]
    change = people.change(key, disabled=True)
    assert door.directory is not None
    door.directory.changed(change.kind, change.subject)
    answers.append(await door.send(CHAT, pairs, of_head=of_head))

    assert [answer.status for answer in answers] == [200, 200, 200, 401]
    assert list(of_head.values()) == [hash_of(key)], "of the key, nothing else is kept"


@pytest.mark.parametrize("more", [[(b"x-api-key", SHARED.encode())], [(b"x-organization-id", b"acme")]])
async def test_of_a_head_that_says_more_than_a_key_nothing_is_kept(log: Log, more: list[tuple[bytes, bytes]]) -> None:
    of_head: dict[str, object] = {}

    await Door(log, "gateway").send(CHAT, [(b"authorization", b"Bearer " + SHARED.encode()), *more], of_head=of_head)

    assert not any(of_head.values())


@pytest.mark.parametrize("mode", ["gateway", "client", "hybrid"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/usage", "/v1/requests/req_1", "/unknown", "//admin/keys"])
async def test_everything_else_needs_a_key(log: Log, mode: Mode, path: str) -> None:
    people = People()
    door = Door(log, mode, people)
    disabled = people.add(disabled=True)

    answers = [await door.ask(path, key) for key in (None, "wrong", new_key(), disabled, METRICS)]

    assert {(answer.status, answer.error["code"]) for answer in answers} == {(401, "invalid_api_key")}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}
    assert "No key was sent" in answers[0].error["message"]
    assert len({answer.error["message"] for answer in answers[1:]}) == 1
    assert door.inside == []


async def test_a_right_key_opens_what_is_its_own(log: Log) -> None:
    people = People()
    door, key = Door(log, "hybrid", people), people.add(organization_id="acme")

    client = await door.exchange(CHAT, key)
    assert (client.caller.kind, client.organization) == ("client", "acme")
    shared = await door.exchange(CHAT, SHARED)
    assert (shared.caller.kind, shared.organization) == ("shared", None)
    own = await door.exchange(CHAT, OPENAI, peer=("198.51.100.3", 1))
    assert (own.caller.kind, own.caller.key_id) == ("provider", "address_198.51.100.3")


@pytest.mark.parametrize("header", ["x_api_key", "api_key", "openai_api_key"])
async def test_a_key_may_come_in_any_of_its_headers(log: Log, header: str) -> None:
    people = People()
    key = people.add()

    exchange = await Door(log, "client", people).exchange(CHAT, **{header: key})

    assert exchange.caller.kind == "client"


async def test_two_different_keys_are_refused_also_in_one_header_twice(log: Log) -> None:
    people = People()
    door, key = Door(log, "client", people), people.add()
    other = people.add()

    assert await door.refused(CHAT, key, x_api_key=other) == (400, "invalid_value")
    twice = [(b"authorization", b"Bearer " + each.encode()) for each in (key, other)]
    assert (await door.send(CHAT, twice)).status == 400
    assert (await door.send(CHAT, [twice[0], twice[0]])).status == 200
    assert (await Door(log, "none", admin_key=None).send(CHAT, twice)).status == 200


async def test_in_mode_none_everybody_is_let_in_and_believed(log: Log) -> None:
    door = Door(log, "none", admin_key=None)

    plain = await door.exchange(CHAT, "client-key")
    assert (plain.caller.kind, plain.organization) == ("anyone", None)
    assert (await door.exchange(CHAT, x_organization_id="acme")).organization == "acme"
    assert (await door.exchange(CHAT, x_organization_id="a b")).organization is None
    assert (await door.exchange(CHAT, ADMIN)).caller.kind == "anyone"


async def test_pitfall_042_a_keys_own_organization_is_the_only_one_it_has(log: Log) -> None:
    people = People()
    door = Door(log, "hybrid", people)
    acme, nobodys = people.add(organization_id="acme"), people.add()

    assert (await door.exchange(CHAT, acme, x_organization_id="acme")).organization == "acme"
    for key, named in (
        *((acme, named) for named in ("evil", "ACME", "acme ", "", "a" * 5000, "acme\x80")),
        *((key, "acme") for key in (nobodys, SHARED, OPENAI)),
    ):
        assert await door.refused(CHAT, key, x_organization_id=named) == (404, "not_found")


async def test_the_administrator_acts_for_any_organization(log: Log) -> None:
    door = Door(log, "client", People())

    exchange = await door.exchange(CHAT, ADMIN, x_organization_id="acme")
    assert (exchange.caller.kind, exchange.organization) == ("admin", "acme")
    assert (await door.exchange("/v1/usage", ADMIN, "GET")).organization is None
    assert await door.refused(CHAT, ADMIN, x_organization_id="a b") == (400, "invalid_value")


async def test_pitfall_042_a_failed_look_up_is_never_a_caller_without_organization(log: Log) -> None:
    people = People()
    door, key = Door(log, "client", people), people.add(organization_id="acme")
    people.away = True

    assert await door.refused(CHAT, key) == (503, "keys_unavailable")

    people.away = False
    assert (await door.exchange(CHAT, key)).organization == "acme"


async def test_pitfall_060_without_the_database_no_right_key_is_called_wrong(log: Log) -> None:
    people = People()
    door, known, unknown = Door(log, "client", people), people.add(), people.add()
    await door.exchange(CHAT, known)
    people.away = True

    assert (await door.ask(CHAT, known)).status == 200
    answer = await door.ask(CHAT, unknown)
    assert (answer.status, answer.error["code"]) == (503, "keys_unavailable")
    assert answer.headers["x-should-retry"] == "true"
    assert "retry-after" in answer.headers
    assert (await door.refused(CHAT, "wrong")) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "path", ["/v1/usage", "/v1/requests/req_1", "/v1/route", "/v1/files", "/v1/modelsx", "/unknown"]
)
async def test_a_providers_key_is_good_for_model_calls_only(log: Log, path: str) -> None:
    door = Door(log, "hybrid", People())

    assert await door.refused(path, OPENAI, "GET") == (403, "permission_denied")
    for allowed in (CHAT, "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/openai/gpt-4o"):
        assert (await door.ask(allowed, OPENAI)).status == 200


@pytest.mark.parametrize("path", FIGURES)
async def test_figures_are_open_in_mode_none_and_need_a_key_otherwise(log: Log, path: str) -> None:
    people = People()
    door = Door(log, "hybrid", people)

    for key in (ADMIN, METRICS):
        assert (await door.ask(path, key, "GET")).status == 200
    for key in everyone(people):
        assert await door.refused(path, key, "GET") == (403, "admin_required")
    for wrong in (None, "wrong", new_key()):
        assert await door.refused(path, wrong, "GET") == (401, "invalid_api_key")
    assert (await Door(log, "none").ask(path, None, "GET")).status == 200
    assert (await Door(log, "client", people, metrics_key=None).ask(path, METRICS, "GET")).status == 401


@pytest.mark.parametrize("mode", ["none", "gateway", "client", "hybrid"])
@pytest.mark.parametrize("path", ADMINISTRATION)
async def test_administration_takes_the_admin_key_and_no_other(log: Log, mode: Mode, path: str) -> None:
    people = People()
    door = Door(log, mode, people)

    exchange = await door.exchange(path, ADMIN, "GET", peer=("203.0.113.9", 1))
    assert (exchange.caller.kind, exchange.caller.key_id) == ("admin", "admin")
    for wrong in (None, "wrong", new_key(), METRICS):
        assert await door.refused(path, wrong, **LOCAL) == (401, "invalid_api_key")
    known = {"none": None, "gateway": SHARED, "client": people.add(), "hybrid": OPENAI}[mode]
    if known is not None:
        assert await door.refused(path, known, **LOCAL) == (403, "admin_required")


@pytest.mark.parametrize("path", ADMINISTRATION)
async def test_without_an_admin_key_administration_is_off_where_callers_have_keys(log: Log, path: str) -> None:
    people = People()
    for mode in ("gateway", "client", "hybrid"):
        door = Door(log, mode, people, admin_key=None)
        for key in (None, "wrong", *everyone(people)):
            assert await door.refused(path, key, **LOCAL) == (403, "admin_disabled")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:65535", "[::1]"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
async def test_a_person_at_the_machine_needs_no_key_in_mode_none(log: Log, host: str, peer: str) -> None:
    door = Door(log, "none", admin_key=None)

    exchange = await door.exchange("/admin/keys", peer=(peer, 1), **(LOCAL | {"host": host}))

    assert (exchange.caller.kind, exchange.caller.key_id) == ("admin", "local")


@pytest.mark.parametrize(
    ("headers", "peer", "why"),
    [
        ({"host": "evil.example"}, "127.0.0.1", "Host"),
        ({"host": "localhost.evil.example"}, "127.0.0.1", "Host"),
        ({"host": "127.0.0.1.nip.io"}, "127.0.0.1", "Host"),
        ({"host": "localhost:8000\n"}, "127.0.0.1", "Host"),
        ({"host": "192.168.1.5:8000"}, "192.168.1.5", "another machine"),
        ({}, "192.168.1.5", "another machine"),
        ({}, None, "another machine"),
        ({"forwarded": "for=203.0.113.9"}, "127.0.0.1", "proxy"),
        ({"x-forwarded-for": "203.0.113.9"}, "127.0.0.1", "proxy"),
        ({"x-forwarded-host": "localhost"}, "127.0.0.1", "proxy"),
        ({"x-real-ip": "127.0.0.1"}, "127.0.0.1", "proxy"),
        ({"origin": "https://evil.example"}, "127.0.0.1", "Origin"),
        ({"origin": "http://localhost:3000"}, "127.0.0.1", "Origin"),
        ({"origin": "null"}, "127.0.0.1", "Origin"),
        ({"content-type": "text/plain"}, "127.0.0.1", "Content-Type"),
        ({"content-type": "application/x-www-form-urlencoded"}, "127.0.0.1", "Content-Type"),
        ({"content-type": "multipart/form-data; x=application/json"}, "127.0.0.1", "Content-Type"),
        ({"content-type": ""}, "127.0.0.1", "Content-Type"),
    ],
)
async def test_nobody_else_becomes_administrator_without_a_key(
    log: Log, headers: dict[str, str], peer: str | None, why: str
) -> None:
    door = Door(log, "none", admin_key=None)
    pairs = [(name.encode(), value.encode()) for name, value in (LOCAL | headers).items()]

    answer = await door.send("/admin/keys", pairs, peer=None if peer is None else (peer, 1))

    assert (answer.status, answer.error["code"]) == (403, "admin_disabled")
    assert why in answer.error["message"]
    assert "LLMGATEWAY_ADMIN_KEY" in answer.error["message"]


async def test_pitfall_128_two_hosts_are_no_host(log: Log) -> None:
    pairs = [(b"host", b"localhost"), (b"host", b"evil.example"), (b"content-type", b"application/json")]

    for order in (pairs, [pairs[1], pairs[0], pairs[2]], pairs[2:]):
        assert (await Door(log, "none", admin_key=None).send("/admin/keys", order)).status == 403


async def test_the_gateways_own_pages_and_questions_without_a_body_are_let_in(log: Log) -> None:
    door = Door(log, "none", admin_key=None)

    assert (await door.ask("/admin/keys", **LOCAL, origin="http://localhost:8000")).status == 200
    assert (await door.ask("/admin/keys", method="GET", host="localhost:8000")).status == 200
    assert (await door.ask("/admin/keys/key_1", method="DELETE", host="localhost:8000")).status == 200
    json: dict[str, Any] = {"content_type": "application/json; charset=utf-8", "host": "localhost"}
    assert (await door.ask("/admin/keys", **json)).status == 200


async def test_bound_wider_administration_needs_a_key(log: Log) -> None:
    door = Door(log, "none", admin_key=None, loopback=False)

    answer = await door.ask("/admin/keys", **LOCAL)

    assert (answer.status, answer.error["code"]) == (403, "admin_disabled")
    assert "other" in answer.error["message"]


async def test_what_is_no_request_passes() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    client = Client()
    await Auth(app, identify=Identify("gateway"), loopback=True)({"type": "websocket"}, client.receive, client.send)

    assert seen == ["websocket"]


async def test_no_refusal_repeats_a_key(log: Log) -> None:
    people = People()
    door = Door(log, "hybrid", people)
    wrong = [new_key(), "sk-ant-planted-0042-abcdef", "plain-planted-0042"]

    for key in wrong:
        for path in (CHAT, "/admin/keys", "/metrics"):
            answer = await door.ask(path, key)
            assert answer.status == 401
            assert key.encode() not in answer.body

    assert not any(key in str(log.lines()) for key in wrong)
