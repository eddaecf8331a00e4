"""What an attacker tries at the front door (pitfalls, group Q): odd keys, hosts and paths, others' ids, ways around."""

import ast
import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import anyio
import httpx2
import pytest
from starlette.routing import Route

from llmgateway.api.admin import keys as keys_page
from llmgateway.api.routes import Paths
from llmgateway.keys.hashing import hash_of, new_key
from llmgateway.keys.modes import Identify
from llmgateway.sensitivity.scan import Findings, Scanner
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.stores.base import Ask, Decision, Reservation
from llmgateway.stores.memory.limiter import MemoryLimiter
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, administer, make_key, make_organization
from tests.running import Running
from tests.sensitivity.examples import GITHUB
from tests.telemetry.exchanges import until
from tests.upstreams.server import Player

SOURCE = Path(__file__).resolve().parent.parent.parent / "src" / "llmgateway"
METRICS_KEY = "metrics-key-of-the-tests-0123456789abcdef"
CLIENTS: dict[str, Any] = {"auth__mode": "client", "admin_key": ADMIN_KEY, "limits__enabled": False}
SAID: Any = [{"role": "user", "content": "one two three four"}]
CHAT: dict[str, Any] = {"model": "chat", "messages": SAID, "temperature": 0}
TEXT: dict[str, Any] = {"model": "chat", "prompt": "one two three four", "temperature": 0}
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat-stream": ("/v1/chat/completions", CHAT | {"stream": True}),
    "completion": ("/v1/completions", TEXT),
    "completion-stream": ("/v1/completions", TEXT | {"stream": True}),
    "embedding": ("/v1/embeddings", {"model": "embed", "input": "one two three four"}),
}
HOSTILE = (
    "' OR '1'='1",
    "'; DROP TABLE keys; --",
    '" UNION SELECT hash FROM keys --',
    "lgw_' OR hash LIKE '%' ESCAPE '\\",
    "%' AND 1=CAST((SELECT prefix FROM keys) AS INT) --",
    "{{7*7}}${7*7}%n%s",
    "../../../etc/passwd",
    "x" * 4_000,
)


def sent_with(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def ask(running: Running, key: str, endpoint: str = "chat", **fields: object) -> httpx2.Response:
    path, body = ENDPOINTS[endpoint]
    return await running.client.post(path, json=body | fields, headers=sent_with(key))


async def raw(running: Running, request: bytes) -> tuple[int, bytes]:
    """Send these bytes; gives the status, 0 when the connection was closed instead, and all that came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
    try:
        writer.write(request)
        with anyio.fail_after(10):
            answer = await reader.read(-1)
    finally:
        writer.close()
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return (int(found[1]) if found else 0), answer


def head(target: str, host: str | None, *more: bytes, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}".encode("latin-1"), b"Connection: close", *more]
    if host is not None:
        lines.append(b"Host: " + host.encode("latin-1"))
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def everything(running: Running) -> str:
    """Give all that administrators keep, to see whether it changed."""
    kinds = ("keys", "organizations", "providers", "deployments", "audit", "catalog")
    shown = [json.dumps(await administer(running.url, "GET", f"/admin/{kind}")) for kind in kinds]
    return re.sub(r'"last_used_at": [^,]*', "", "\n".join(shown))


def routes_of(running: Running) -> list[Route]:
    """Find the application's own table of routes, through all of its middleware."""
    left: list[Any] = [running.app]
    while left:
        layer = left.pop()
        if isinstance(layer, Paths):
            return cast("list[Route]", vars(layer)["_pages"].routes)
        left += [inner for name in ("_stack", "_app", "app") if (inner := getattr(layer, name, None)) is not None]
    raise LookupError("the application has no table of routes")


# 127


async def test_pitfall_127_no_key_is_ever_part_of_a_statement(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    key = (await make_key(running.url))["key"]
    before = await everything(running)
    odd = [text.encode() for text in HOSTILE] + [b"\xff\xfe", b"\xc3\x28", "é漢".encode(), b"lgw_" + b"'" * 43]
    headers = ("Authorization: Bearer ", "Authorization: ", "X-API-Key: ", "api-key: ", "X-Organization-ID: ")

    for name in headers:
        for value in odd:
            for path in ("/v1/usage", "/v1/models", "/admin/keys", "/metrics", "/v1/requests/req_1"):
                proof = (f"X-API-Key: {key}".encode(),) if "Organization" in name else ()
                status, answer = await raw(running, head(path, "x", name.encode() + value, *proof))
                assert status in ({404, 403, 200} if proof else {400, 401, 404}), (path, name, value, answer)
                assert status != 200 or path in {"/metrics", "/v1/models"}, (path, value)

    assert await everything(running) == before
    assert (await ask(running, key)).status_code == 200


async def _asked_oddly(running: Running, text: str, key_id: str) -> list[httpx2.Response]:
    """Ask an administrator's questions with an odd text wherever one fits."""
    part, headers = quote(text, safe=""), sent_with(ADMIN_KEY)
    client = running.client
    answers = [
        await client.request(method, f"/admin/{kind}/{part}", json=None if method == "GET" else {}, headers=headers)
        for kind in ("keys", "organizations", "providers", "deployments")
        for method in ("GET", "PATCH", "DELETE")
    ]
    answers.append(await client.post(f"/admin/keys/{part}/rotate", json={}, headers=headers))
    asked = ("limits?key_id=", "limits?organization_id=", "keys?page=", "audit?from=", "audit?to=", "keys?page_size=")
    answers += [await client.get(f"/admin/{path}{part}", headers=headers) for path in asked]
    bodies: list[tuple[str, str, dict[str, object]]] = [
        ("POST", "keys", {"name": "x", "organization_id": text}),
        ("POST", "keys", {"name": "x", "tier": text}),
        ("POST", "keys", {"name": "x", "expires_at": text}),
        ("POST", "keys", {"name": "x", text: 1}),
        ("PATCH", f"keys/{key_id}", {"models": [f"{text}'"]}),
        ("PATCH", f"keys/{key_id}", {"budget": {"usd": text}}),
        ("POST", "organizations", {"id": text, "name": "x"}),
        ("POST", "providers", {"name": text, "provider": text}),
        ("POST", "deployments", {"name": "x", "provider": text, "model": "y"}),
        ("POST", "limits/reset", {"key_id": text}),
        ("POST", "cache/clear", {"organization_id": text}),
    ]
    return answers + [await client.request(how, f"/admin/{at}", json=body, headers=headers) for how, at, body in bodies]


async def test_pitfall_127_no_text_of_an_administrators_is_part_of_a_statement(gateway: Serve) -> None:
    running = await gateway(**CLIENTS)
    made = await make_key(running.url)
    before = await everything(running)

    for text in (*HOSTILE, "\x00", "a\x00b", "é\u202e漢", "\ud7ff\ufffe"):
        for answer in await _asked_oddly(running, text, made["id"]):
            assert answer.status_code in {400, 404}, (str(answer.request.url), answer.request.content, answer.text)
        for name in ("keys?organization_id=", "audit?actor=", "audit?action=", "audit?organization_id="):
            found = await running.client.get(f"/admin/{name}{quote(text, safe='')}", headers=sent_with(ADMIN_KEY))
            assert found.status_code == 400 or (found.status_code, found.json()["items"]) == (200, []), found.text

    assert await everything(running) == before


async def test_pitfall_127_what_may_be_odd_is_kept_as_it_is(gateway: Serve) -> None:
    running = await gateway(**CLIENTS)
    odd = [text for text in HOSTILE if len(text) <= 100]

    for text in odd:
        await make_key(running.url, name=text, metadata={"note": text})

    shown = (await administer(running.url, "GET", "/admin/keys"))["items"]
    assert [(row["name"], row["metadata"]["note"]) for row in shown] == [(text, text) for text in odd]


# 128

HOSTS = (
    *("x/health?", "x/health#", "/health", "x/admin@y", "localhost/../health", "[::1]:1/health?a", "", "é", "a b"),
    None,  # as HTTP/1.0 may be
)
TARGETS = (
    *("http://x/health?/admin/keys", "http://x/admin/keys", "https://x:1/v1/usage", "//admin/keys", "///admin//keys"),
    *("/admin/../health", "/health/../admin/keys", "/health/..%2fadmin/keys", "/health%2f..%2fadmin%2fkeys"),
    *("/%61dmin/keys", "/admin%2Fkeys", "/admin/keys%00", "/admin/keys%3F/health", "/admin/./keys", "/ADMIN/keys"),
    *("/health;/admin/keys", "/health%3b/../admin/keys", "/admin/keys;/health", "/admin/keys/%2e%2e/%2e%2e/health"),
    *("/admin/keys#/health", "/admin/keys?/health", "/v1/../admin/keys", "/docs/../admin/keys", "*", "x", "/v1//usage"),
    *("/v1%2fusage", "/%76%31/usage", "/v1/usage?/health", "/%2561dmin/keys", "/\xe0dmin/keys", "/%ff%fe"),
)
DENIED = frozenset({0, 400, 401, 403, 404, 405})


async def test_pitfall_128_no_host_and_no_form_of_an_address_changes_who_may_what(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    made = await make_key(running.url, name="name-that-nobody-sees")
    right, admin = (b"Authorization: Bearer " + key.encode() for key in (made["key"], ADMIN_KEY))

    for path, needed in (("/admin/keys", admin), ("/v1/usage", right), ("/v1/models", right), ("/metrics", admin)):
        for host in HOSTS:
            for version in ("1.0", "1.1"):
                if host is None and version == "1.1":
                    continue
                denied, _ = await raw(running, head(path, host, version=version))
                let_in, _ = await raw(running, head(path, host, needed, version=version))
                assert (denied, let_in) in {(401, 200), (400, 400)}, (path, host, version)
    for target in TARGETS:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PATCH", "TRACE"):
            more = (b"X-Original-URL: /health", b"X-Rewrite-URL: /health", b"X-HTTP-Method-Override: OPTIONS")
            status, answer = await raw(running, head(target, "x", *more, method=method))
            assert b"name-that-nobody-sees" not in answer
            # An address whose path is a public one is that page, whatever else stands in it.
            assert status in DENIED or (status, target) == (200, "http://x/health?/admin/keys")
            if re.fullmatch(r"/(%61dmin/|admin%2F|admin/)keys(\?.*|#.*)?", target) and method != "OPTIONS":
                assert status == 401, (method, target)


async def test_pitfall_128_an_odd_host_makes_nobody_administrator_at_the_machine(gateway: Serve) -> None:
    running = await gateway()
    await ready(running)

    for host in ("x/health?", "localhost/health", "localhost@x", "localhost:80:80", "localhost.", "", "127.1", None):
        status, answer = await raw(running, head("/admin/keys", host, version="1.0"))
        assert (status, b"admin_disabled" in answer) == (403, True), host
    for target in ("http://localhost/admin/keys", "http://127.0.0.1:1/admin/keys"):
        status, _ = await raw(running, head(target, "evil.example"))
        assert status in {403, 404}


def test_pitfall_128_nothing_is_decided_by_an_address_put_together_from_the_host() -> None:
    rooms = [SOURCE / room for room in ("api", "middleware", "keys", "gateway")]
    files = [*SOURCE.glob("*.py"), *(path for room in rooms for path in room.rglob("*.py"))]

    found = [
        f"{path.name}:{node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"url", "base_url", "url_for", "url_path_for", "hostname"}
    ]

    assert len(files) > 50
    assert found == []


# 129


async def test_pitfall_129_two_keys_that_begin_alike_are_two_callers(
    gateway: Serve, catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = "lgw_" + "A" * 42
    made = iter([f"{alike}1", f"{alike}2"])
    monkeypatch.setattr(keys_page, "new_key", lambda: next(made))
    shared = "shared-" + "s" * 100
    settings = CLIENTS | {"auth__mode": "hybrid", "auth__gateway_keys": f"{shared}1,{shared}2"}
    running = await gateway(catalog, **settings)
    for organization in ("acme", "evil"):
        await make_organization(running.url, organization)
    acme, evil = [(await make_key(running.url, organization_id=one))["key"] for one in ("acme", "evil")]
    assert (acme[:-1], acme[:12]) == (evil[:-1], evil[:12])

    for count, key in enumerate((acme, evil, f"{shared}1", f"{shared}2"), start=1):
        for _ in range(count):
            assert (await ask(running, key)).status_code == 200
    for key in (f"{alike}3", alike, f"{acme}1", f"{shared}3", shared, f"{shared}11"):
        assert (await ask(running, key)).status_code == 401

    seen = []
    for key in (acme, evil, f"{shared}1", f"{shared}2"):
        usage = await running.client.get("/v1/usage?group_by=key", headers=sent_with(key))
        seen.append([group["requests"] for group in usage.json()["data"]])
    assert seen == [[1], [2], [3], [4]]


# 130


def _addresses(running: Running) -> Iterator[tuple[str, str]]:
    for route in routes_of(running):
        for method in sorted(route.methods or ()):
            yield method, re.sub(r"{[^}]+}", "x", route.path)


async def test_pitfall_130_nobody_but_the_administrator_reaches_any_page_of_administration(
    gateway: Serve, provider: Player
) -> None:
    yaml = f"""
        providers:
          main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}", accept_client_keys: true}}
        models:
          - {{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}
    """
    settings = {"auth__mode": "hybrid", "auth__gateway_keys": "shared-key-0001", "metrics_key": METRICS_KEY}
    running = await gateway(yaml, **(CLIENTS | settings))
    client = (await make_key(running.url))["key"]
    before = await everything(running)
    known = {"client": client, "shared": "shared-key-0001", "provider": "sk-proj-of-somebody-0001"}
    unknown = {"none": None, "wrong": "lgw_" + "x" * 43, "odd": "wrong"}
    admin = [(method, path) for method, path in _addresses(running) if path.startswith("/admin")]
    metrics = [(method, path) for method, path in _addresses(running) if re.search("metrics|detailed", path)]
    document = (await running.client.get("/openapi.json")).json()["paths"]
    described = {re.sub(r"{[^}]+}", "x", path) for path in document if path.startswith("/admin")}
    assert described == {path for _, path in admin}
    assert (len(admin) > 30, len(metrics) > 5) == (True, True)

    async def status(method: str, path: str, key: str | None) -> int:
        headers = {} if key is None else sent_with(key)
        return (await running.client.request(method, path, json={"name": "x"}, headers=headers)).status_code

    for method, path in admin:
        for role, key in (known | {"metrics": METRICS_KEY}).items():
            expected = {401} if role == "metrics" else {403}
            assert {await status(method, path, key)} == expected, (role, method, path)
        for role, key in unknown.items():
            assert await status(method, path, key) == 401, (role, method, path)
    for method, path in metrics:
        assert {await status(method, path, key) for key in unknown.values()} == {401}, path
        assert {await status(method, path, key) for key in known.values()} == {403}, path
        assert {await status(method, path, key) for key in (METRICS_KEY, ADMIN_KEY)} == {200}, path
    assert await everything(running) == before
    assert provider.requests_total == 0


# 137


@pytest.mark.alone
async def test_pitfall_137_a_flood_of_wrong_keys_costs_the_database_next_to_nothing(
    gateway: Serve, catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, asked = list[list[str]](), AdminStorage.keys_by_hash

    async def counted(storage: AdminStorage, digests: Any) -> Any:
        questions.append(list(digests))
        return await asked(storage, digests)

    running = await gateway(catalog, **CLIENTS)
    known = (await make_key(running.url))["key"]
    fresh = (await make_key(running.url))["key"]
    assert (await ask(running, known)).status_code == 200
    monkeypatch.setattr(AdminStorage, "keys_by_hash", counted)
    statuses, over = list[int](), anyio.Event()
    begun = time.perf_counter()

    async def flood(keys: Iterator[str]) -> None:
        while not over.is_set():
            statuses.append((await ask(running, next(keys))).status_code)

    same = new_key()
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(flood, iter(new_key, None))  # each of the right shape, and another
            group.start_soon(flood, iter(lambda: same, None))
            group.start_soon(flood, iter(lambda: "not-of-our-shape", None))
        while time.perf_counter() - begun < 1.5 or len(statuses) <= 100:
            assert (await ask(running, known)).status_code == 200
        over.set()  # what came until now is still waited for
        began, before = time.perf_counter(), len(questions)
        assert (await ask(running, fresh)).status_code == 200
        assert time.perf_counter() - began < 3
        its_own = next(number for number, digests in enumerate(questions) if hash_of(fresh) in digests)
        assert its_own - before <= 1, "it waits behind wrong ones"

    assert set(statuses) == {401}
    # Ten at once, one a second from then on, and the one with the fresh key if no wrong one shared it.
    assert len(questions) <= 10 + (time.perf_counter() - begun) + 1


# 138


def _told(answer: httpx2.Response, *named: str) -> tuple[str, dict[str, str]]:
    """Give all that an answer says, but for what was asked for and the request's own id."""
    text = answer.text
    for word in (*named, answer.headers["x-gateway-request-id"]):
        text = text.replace(word, "…")
    own = {"x-request-id", "x-gateway-request-id", "date", "content-length"}
    return text, {name: value for name, value in answer.headers.items() if name not in own}


async def test_pitfall_138_what_is_anothers_is_answered_like_what_never_was(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    for organization in ("acme", "evil"):
        await make_organization(running.url, organization)
    acme, evil = [(await make_key(running.url, organization_id=one))["key"] for one in ("acme", "evil")]
    theirs = (await ask(running, acme)).headers["x-gateway-request-id"]
    never = theirs[:14] + theirs[14:][::-1]
    assert never != theirs
    answers = dict[str, httpx2.Response]()

    async def read(name: str, path: str, **headers: str) -> None:
        answers[name] = await running.client.get(path, headers=sent_with(evil) | headers)

    async with anyio.create_task_group() as group:
        group.start_soon(read, "request of acme", f"/v1/requests/{theirs}")
        group.start_soon(read, "request of nobody", f"/v1/requests/{never}")
        for one, name in (("acme", "acme"), ("nobody", "nope")):
            group.start_soon(read, f"usage of {one}", f"/v1/usage?organization_id={name}")
    for one, name in (("acme", "acme"), ("nobody", "nope")):
        await read(f"organization of {one}", "/v1/usage", **{"X-Organization-ID": name})

    for kind in ("request", "usage", "organization"):
        foreign, unknown = answers[f"{kind} of acme"], answers[f"{kind} of nobody"]
        assert foreign.status_code == unknown.status_code == 404
        assert _told(foreign, theirs, "acme") == _told(unknown, never, "nope")


# 139


class Counted:
    """Counts how often each guard is passed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.identified = self.scans = self.let_in = self.settled = 0
        reserve, settle, known, scan = MemoryLimiter.reserve_now, MemoryLimiter.settle, Identify.known, Scanner.scan

        def reserving(limiter: MemoryLimiter, ask: Ask) -> Decision:
            decision = reserve(limiter, ask)
            # A budget that nobody knows yet is asked for again, once the ledger was read: nothing was taken before.
            self.let_in += int(decision.allowed)
            return decision

        def settling(limiter: MemoryLimiter, reservation: Reservation, **used: Any) -> None:
            self.settled += 1
            settle(limiter, reservation, **used)

        def identifying(identify: Identify, digest: str) -> Any:
            self.identified += 1
            return known(identify, digest)

        def scanning(scanner: Scanner, text: str) -> Findings:
            self.scans += 1
            return scan(scanner, text)

        monkeypatch.setattr(MemoryLimiter, "reserve_now", reserving)
        monkeypatch.setattr(MemoryLimiter, "settle", settling)
        monkeypatch.setattr(Identify, "known", identifying)
        monkeypatch.setattr(Scanner, "scan", scanning)


GUARDED = CLIENTS | {"limits__enabled": True, "sensitivity__enabled": True, "sensitivity__action": "redact"}
WIDE = {"requests_per_minute": 60, "burst": 50, "requests_per_day": 600, "tokens_per_minute": 10**6, "concurrent": 1}


def priced(provider: Player) -> str:
    return f"""
        providers:
          main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}", security_level: medium}}
        models:
          - name: chat
            prices_per_million: {{input: 1000, output: 1000}}
            deployments: [{{provider: main, model: gpt-4o}}]
          - name: embed
            prices_per_million: {{input: 1000, output: 0}}
            deployments: [{{provider: main, model: text-embedding-3-small}}]
    """


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_pitfall_139_each_guard_acts_once_on_each_endpoint(
    gateway: Serve, provider: Player, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    running = await gateway(priced(provider), **GUARDED)
    made = await make_key(running.url, limits=WIDE, budget={"usd": 5, "period": "total"})
    assert (await running.client.get("/v1/models", headers=sent_with(made["key"]))).status_code == 200
    counted = Counted(monkeypatch)

    answer = await ask(running, made["key"], endpoint)

    assert answer.status_code == 200, answer.text
    await until(lambda: counted.settled > 0)
    assert answer.headers["x-sensitivity"] == "score=0.00; categories=none; action=none"
    assert (counted.identified, counted.scans, counted.let_in, counted.settled) == (1, 1, 1, 1)
    standing = await administer(running.url, "GET", f"/admin/limits?key_id={made['id']}")
    left = {rate["rule"]: rate["remaining"] for rate in standing["rates"]}
    assert (left["key.requests_per_day"], left["key.requests_per_minute"]) == (99, 49)
    assert standing["concurrent"][0]["in_flight"] == 0
    spent = await administer(running.url, "GET", f"/v1/requests/{answer.headers['x-gateway-request-id']}")
    assert standing["budgets"][0]["spent_usd"] == pytest.approx(spent["cost_usd"])
    assert spent["cost_usd"] > 0
    assert (await ask(running, made["key"][:-1] + "~", endpoint)).status_code == 401


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_pitfall_139_what_is_redacted_stays_so_on_each_endpoint(
    gateway: Serve, provider: Player, endpoint: str
) -> None:
    running = await gateway(priced(provider), **GUARDED)
    key = (await make_key(running.url))["key"]
    name = {"chat": "messages", "completion": "prompt", "embedding": "input"}[endpoint.partition("-")[0]]
    text: Any = [{"role": "user", "content": f"revoke {GITHUB}"}] if name == "messages" else f"revoke {GITHUB}"

    answers = [await ask(running, key, endpoint, **{name: text}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.headers["x-cache-status"] for answer in answers] == ["MISS", "HIT"]
    assert {answer.headers["x-sensitivity"].rpartition("=")[2] for answer in answers} == {"redact"}
    sent = b"".join(request.body for request in provider.requests)
    assert (GITHUB.encode() in sent, b"[GITHUB_TOKEN_1]" in sent) == (False, True)
    if endpoint != "embedding":
        said = [_said(answer) for answer in answers]
        assert said == [f"revoke {GITHUB}"] * 2
    total = 0
    with anyio.fail_after(10):
        while total < 2:
            total = (await administer(running.url, "GET", "/admin/audit?action=sensitivity.redact"))["total"]
    assert total == 2


def _said(answer: httpx2.Response) -> str:
    lines = answer.text.splitlines() if "event-stream" in answer.headers["content-type"] else [f"data: {answer.text}"]
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    parts = [choice.get("delta") or choice.get("message") or choice for event in events for choice in event["choices"]]
    return "".join(part.get("content") or part.get("text") or "" for part in parts)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_pitfall_139_each_guard_refuses_on_each_endpoint(gateway: Serve, provider: Player, endpoint: str) -> None:
    running = await gateway(priced(provider), **(GUARDED | {"sensitivity__action": "refuse"}))
    name = {"chat": "messages", "completion": "prompt", "embedding": "input"}[endpoint.partition("-")[0]]
    text: Any = [{"role": "user", "content": f"revoke {GITHUB}"}] if name == "messages" else f"revoke {GITHUB}"
    once = {"requests_per_minute": 1, "burst": 1, "cooldown_seconds": 0}
    limited = (await make_key(running.url, limits=once))["key"]
    poor = (await make_key(running.url, budget={"usd": 0}))["key"]
    narrow = (await make_key(running.url, models=["other"]))["key"]
    other = (await make_key(running.url))["key"]

    refused = [
        (await ask(running, other, endpoint, **{name: text})),
        (await ask(running, poor, endpoint)),
        (await ask(running, narrow, endpoint)),
    ]
    assert provider.requests_total == 0
    first, second, third = [await ask(running, key, endpoint) for key in (limited, limited, other)]

    codes = [answer.json()["error"]["code"] for answer in (*refused, second)]
    assert codes == ["sensitive_content", "insufficient_quota", "model_not_allowed", "rate_limit_exceeded"]
    # What one key was answered is not kept for another one, of no organization either.
    assert (first.status_code, third.headers["x-cache-status"]) == (200, "MISS")
    assert provider.requests_total == 2
