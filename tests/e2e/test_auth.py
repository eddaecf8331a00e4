"""Who may call, see and change what: through the front door, with keys that an administrator made."""

import itertools
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, administer, make_key, make_organization
from tests.running import NO_TLS, Running
from tests.served import served
from tests.services import postgres_server, redis_server
from tests.upstreams.server import Player

CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "Say something."}]}
CLIENTS = {"auth__mode": "client", "admin_key": ADMIN_KEY, "limits__enabled": False}
OWN_KEY = "sk-proj-of-the-client-0001"


def sent_with(answer_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer_key}"}


async def chat(running: Running, key: str, **headers: str) -> httpx2.Response:
    return await running.client.post("/v1/chat/completions", json=CHAT, headers=sent_with(key) | headers)


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_the_openai_sdk_calls_with_its_own_key_and_with_no_other(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    key = (await make_key(running.url))["key"]

    answer = await running.openai.with_options(api_key=key).chat.completions.create(**CHAT)
    assert answer.choices[0].message.content
    with pytest.raises(openai.AuthenticationError) as wrong:
        await running.openai.with_options(api_key=key[:-1] + "~").chat.completions.create(**CHAT)

    assert wrong.value.code == "invalid_api_key"
    assert wrong.value.response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["x-api-key", "X-API-Key", "api-key", "OpenAI-API-Key"])
async def test_a_key_may_come_as_other_sdks_send_it(gateway: Serve, catalog: str, header: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    key = (await make_key(running.url))["key"]

    answers = [
        await running.client.post("/v1/chat/completions", json=CHAT, headers={header: sent})
        for sent in (key, "sk-ant-wrong-0001")
    ]

    assert [answer.status_code for answer in answers] == [200, 401]


async def test_a_shared_key_calls_and_sees_what_was_done_with_it(gateway: Serve, catalog: str) -> None:
    running = await gateway(
        catalog, auth__mode="gateway", auth__gateway_keys="shared-key-0001,shared-key-0002", limits__enabled=False
    )
    await ready(running)

    mine = await chat(running, "shared-key-0001")
    assert mine.status_code == (await chat(running, "shared-key-0002")).status_code == 200
    assert (await chat(running, "shared-key-0003")).status_code == 401

    async def requests_seen() -> int:
        answer = await running.client.get("/v1/usage", headers=sent_with("shared-key-0001"))
        assert answer.status_code == 200
        seen: int = answer.json()["total"]["requests"]
        return seen

    with anyio.fail_after(10):
        while (seen := await requests_seen()) == 0:  # noqa: ASYNC110  a busy machine writes it down later
            await anyio.sleep(0.05)
    assert seen == 1
    path = f"/v1/requests/{mine.headers['x-gateway-request-id']}"
    read = [(await running.client.get(path, headers=sent_with(f"shared-key-000{n}"))).status_code for n in (1, 2)]
    assert read == [200, 404]


async def test_a_providers_own_key_is_used_there_and_kept_nowhere(
    gateway: Serve, provider: Player, tmp_path: Path
) -> None:
    yaml = f"""
        providers:
          main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}", accept_client_keys: true}}
        models:
          - {{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}
    """
    running = await gateway(yaml, auth__mode="hybrid", admin_key=ADMIN_KEY, limits__enabled=False)
    await ready(running)

    answer = await chat(running, OWN_KEY)

    assert provider.requests[-1].bearer == OWN_KEY
    assert answer.status_code == 401  # the player knows its own key alone: the client's is at fault
    assert (await chat(running, "sk-ant-of-nobody-0001")).status_code == 401
    assert (await running.client.get("/v1/usage", headers=sent_with(OWN_KEY))).status_code == 403
    assert provider.requests_total == 1
    await administer(running.url, "GET", "/v1/usage")
    assert files_with(OWN_KEY, tmp_path) == []


async def test_a_refused_request_is_not_read_and_the_connection_goes_on(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS, max_body_bytes=1000, max_inflight_body_bytes=1000)
    key = (await make_key(running.url))["key"]

    for _ in range(3):
        refused = await running.client.post("/v1/chat/completions", content=b"x" * 5_000_000, headers=sent_with("no"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")

    assert (await chat(running, key)).status_code == 200


async def test_a_key_that_is_disabled_rotated_or_expired_no_longer_holds(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    made = await make_key(running.url)
    path = f"/admin/keys/{made['id']}"
    assert (await chat(running, made["key"])).status_code == 200

    async def status_within_a_second(key: str, status: int) -> None:
        with anyio.fail_after(5):
            while (await chat(running, key)).status_code != status:  # noqa: ASYNC110  nothing tells it from outside
                await anyio.sleep(0.02)

    await administer(running.url, "PATCH", path, disabled=True)
    await status_within_a_second(made["key"], 401)
    await administer(running.url, "PATCH", path, disabled=False)
    await status_within_a_second(made["key"], 200)
    rotated = await administer(running.url, "POST", f"{path}/rotate", overlap_seconds=3600)
    assert (await chat(running, rotated["key"])).status_code == 200
    assert (await chat(running, made["key"])).status_code == 200
    soon = datetime.now(UTC) + timedelta(seconds=1)
    await administer(running.url, "PATCH", path, expires_at=soon.isoformat())
    await status_within_a_second(made["key"], 401)
    await status_within_a_second(rotated["key"], 401)


async def test_an_administrator_acts_for_an_organization(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    await make_organization(running.url, "acme")
    acme = await make_key(running.url, organization_id="acme")
    await chat(running, acme["key"])
    await chat(running, ADMIN_KEY, **{"X-Organization-ID": "acme"})

    async def total(key: str, **headers: str) -> int:
        answer = await running.client.get("/v1/usage", headers=sent_with(key) | headers)
        seen: int = answer.json()["total"]["requests"]
        return seen

    assert await total(acme["key"]) == await total(ADMIN_KEY, **{"X-Organization-ID": "acme"}) == 2
    assert await total(ADMIN_KEY, **{"X-Organization-ID": "evil"}) == 0
    assert (await chat(running, acme["key"], **{"X-Organization-ID": "evil"})).status_code == 404


def _requests_of(document: dict[str, Any], values: list[str]) -> Iterator[tuple[str, str]]:
    """Give every method and path of the OpenAPI document, with these values for what stands in braces."""
    for path, methods in document["paths"].items():
        names = re.findall(r"{(\w+)}", path)
        for chosen in itertools.product(values, repeat=len(names)):
            filled = path
            for name, value in zip(names, chosen, strict=True):
                filled = filled.replace(f"{{{name}}}", value)
            for method in methods:
                if method in {"get", "post", "put", "patch", "delete"}:
                    yield method.upper(), filled


async def _walk(
    running: Running, key: str, planted: dict[str, str], methods: set[str]
) -> tuple[set[str], list[tuple[str, str, int]]]:
    """Ask for everything with a key; returns the planted words that came back unasked, and the statuses."""
    document = (await running.client.get("/openapi.json")).json()
    found, statuses, turns = set[str](), list[tuple[str, str, int]](), anyio.Semaphore(16)

    async def ask(method: str, path: str, query: str, headers: dict[str, str]) -> None:
        body = CHAT if method == "POST" else None
        async with turns:
            answer = await running.client.request(method, path + query, json=body, headers=sent_with(key) | headers)
        statuses.append((method, path, answer.status_code))
        shown = answer.text + str(answer.headers)
        found.update(name for name, word in planted.items() if word in shown and word not in path + query)

    queries = ("", "?organization_id=acme", "?group_by=key,user,organization", "?hours=1", "?key_id=" + planted["id"])
    async with anyio.create_task_group() as group:
        for method, path in _requests_of(document, list(planted.values())):
            if path.startswith("/api/v1/"):
                continue  # tests/e2e/services/test_organizations.py asks for all of these
            for query, headers in itertools.product(queries, ({}, {"X-Organization-ID": "acme"})):
                if method in methods:
                    group.start_soon(ask, method, path, query, headers)
    return found, statuses


@pytest.mark.timeout(90)
async def test_pitfall_109_another_organizations_key_finds_nothing_by_any_route(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    await ready(running)
    for organization in ("acme", "evil"):
        await make_organization(running.url, organization)
    acme = await make_key(running.url, organization_id="acme", name="name-of-acmes-key")
    evil = (await make_key(running.url, organization_id="evil"))["key"]
    alone = (await make_key(running.url))["key"]
    first = await running.client.post(
        "/v1/chat/completions",
        json=CHAT | {"user": "user-of-acme"},
        headers=sent_with(acme["key"]) | {"X-Request-ID": "order-of-acme"},
    )
    planted = {
        "request": first.headers["x-gateway-request-id"],
        "order": "order-of-acme",
        "user": "user-of-acme",
        "id": acme["id"],
        "name": "name-of-acmes-key",
        "prefix": acme["prefix"],
    }
    everything = {"GET", "POST", "PUT", "PATCH", "DELETE"}

    for key in (evil, alone):
        found, statuses = await _walk(running, key, planted, everything)
        assert found == set()
        assert [entry for entry in statuses if entry[2] >= 500] == []
        assert {status for _, path, status in statuses if path.startswith("/admin")} <= {403}

    # What is there was there to be found, and is still as it was.
    assert {"request", "order", "user"} <= (await _walk(running, acme["key"], planted, {"GET"}))[0]
    assert {"request", "order", "user"} <= (await _walk(running, ADMIN_KEY, planted, {"GET"}))[0]
    assert (await chat(running, acme["key"])).status_code == 200


@pytest.mark.timeout(90)
async def test_pitfall_060_while_the_database_is_away_known_keys_go_on(gateway: Serve, catalog: str) -> None:
    with postgres_server() as postgres:
        keys = {"encryption_keys": "0" * 43 + "="}
        running = await gateway(catalog, **CLIENTS, **keys, database_url=postgres.url)
        known, unknown = [(await make_key(running.url))["key"] for _ in range(2)]
        assert (await chat(running, known)).status_code == 200

        postgres.stop()
        answers = [await chat(running, key) for key in (known, unknown, known)]
        assert [answer.status_code for answer in answers] == [200, 503, 200]
        assert answers[1].json()["error"]["code"] == "keys_unavailable"
        assert answers[1].headers["x-should-retry"] == "true"
        assert (await chat(running, "not-one-of-ours")).status_code == 401
        postgres.start()

        with anyio.fail_after(20):
            while (await chat(running, unknown)).status_code != 200:  # noqa: ASYNC110  nothing tells it from outside
                await anyio.sleep(0.05)


class Load:
    """Calls again and again with one key over many connections, and keeps when it was let in last."""

    def __init__(self, url: str, key: str, connections: int = 12) -> None:
        self._url = url
        self._key = key
        self._connections = connections
        self.accepted_at = 0.0
        self.accepted = self.refused = 0
        self.strange: list[int] = []

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(self._connections):
                group.start_soon(self._call)

    async def _call(self) -> None:
        body = {"model": "demo/echo", "messages": [{"role": "user", "content": "hi"}]}
        async with httpx2.AsyncClient(
            base_url=self._url, timeout=10, headers=sent_with(self._key), verify=NO_TLS
        ) as client:
            while True:
                answer = await client.post("/v1/chat/completions", json=body)
                if answer.status_code == 200:
                    self.accepted += 1
                    self.accepted_at = time.perf_counter()
                elif answer.status_code in {401, 403}:
                    self.refused += 1
                else:
                    self.strange.append(answer.status_code)
                await anyio.sleep(0.01)

    async def until(self, *, accepted: int = 0, refused: int = 0) -> None:
        """Wait for so many more calls."""
        accepted, refused = self.accepted + accepted, self.refused + refused
        with anyio.fail_after(15):
            while self.accepted < accepted or self.refused < refused:  # noqa: ASYNC110  many tasks count
                await anyio.sleep(0.01)


@pytest.mark.alone
@pytest.mark.timeout(60)
@pytest.mark.parametrize(("shared", "bound_s"), [(True, 1.0), (False, 5.0)], ids=["redis", "without-redis"])
async def test_pitfall_091_and_092_a_revoked_and_a_narrowed_key_end_in_time_in_every_process(
    tmp_path: Path, shared: bool, bound_s: float
) -> None:
    with redis_server() as redis:
        settings = CLIENTS | {"workers": 4} | ({"redis_url": redis.url} if shared else {})
        async with served(tmp_path, settings=settings) as gateway:
            made = [await make_key(gateway.url) for _ in range(2)]
            loads = [Load(gateway.url, each["key"]) for each in made]
            async with anyio.create_task_group() as group:
                for load in loads:
                    group.start_soon(load.run)
                for load in loads:
                    await load.until(accepted=200)  # every worker knows the key by then

                await administer(gateway.url, "DELETE", f"/admin/keys/{made[0]['id']}")
                revoked_at = time.perf_counter()
                await administer(gateway.url, "PATCH", f"/admin/keys/{made[1]['id']}", models=["other/*"])
                narrowed_at = time.perf_counter()
                # Watched for longer than it may take: it never comes back.
                await anyio.sleep(bound_s + 1)
                for load in loads:
                    await load.until(refused=50)
                group.cancel_scope.cancel()

    assert loads[0].accepted_at - revoked_at <= bound_s
    assert loads[1].accepted_at - narrowed_at <= bound_s
    assert [load.strange for load in loads] == [[], []]
