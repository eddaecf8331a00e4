"""What administrators do, through the front door: keys, providers and deployments, live in every process."""

import json
import re
import time
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.api.admin.office import described
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, administer, make_key
from tests.running import NO_TLS, Running
from tests.served import served
from tests.upstreams.server import Player

GUIDE = (Path(__file__).resolve().parent.parent.parent / "docs" / "admin.md").read_text()
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Say something."}]}
CLIENTS = {"auth__mode": "client", "admin_key": ADMIN_KEY, "limits__enabled": False}
UPSTREAM_KEY = "sk-upstream"  # as the player wants it


async def chat(running: Running, key: str | None = None, model: str = "demo/echo") -> httpx2.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return await running.client.post("/v1/chat/completions", json={"model": model, **CHAT}, headers=headers)


async def until_served(running: Running, model: str, *, there: bool = True) -> None:
    """Ask until a model answers, or is gone; two seconds are the contract's."""
    began = time.perf_counter()
    while (answer := await chat(running, model=model)).status_code != (200 if there else 404):
        assert time.perf_counter() - began < 2, answer.text
        await anyio.sleep(0.02)


async def test_a_key_is_made_used_rotated_and_revoked(gateway: Serve) -> None:
    running = await gateway(**CLIENTS)
    made = await make_key(running.url, models=["demo/*"])
    first, path = made["key"], f"/admin/keys/{made['id']}"
    assert (await chat(running, first)).status_code == 200

    second = (await administer(running.url, "POST", f"{path}/rotate", overlap_seconds=60))["key"]
    assert [(await chat(running, key)).status_code for key in (first, second)] == [200, 200]
    third = (await administer(running.url, "POST", f"{path}/rotate"))["key"]
    assert [(await chat(running, key)).status_code for key in (first, second, third)] == [401, 401, 200]
    await administer(running.url, "DELETE", path)

    refused = await chat(running, third)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    page = await administer(running.url, "GET", "/admin/audit?action=key.rotate")
    assert page["total"] == 2
    assert first not in str(page)


async def test_a_key_that_was_narrowed_may_no_longer_do_what_it_did(gateway: Serve) -> None:
    running = await gateway(**CLIENTS)
    made = await make_key(running.url)
    assert (await chat(running, made["key"])).status_code == 200

    await administer(running.url, "PATCH", f"/admin/keys/{made['id']}", models=["gpt-*"])
    assert (await chat(running, made["key"])).status_code in {403, 404}
    await administer(running.url, "PATCH", f"/admin/keys/{made['id']}", models=None, disabled=True)
    assert (await chat(running, made["key"])).status_code == 401


async def test_without_an_admin_key_administration_is_for_whoever_sits_at_the_machine(gateway: Serve) -> None:
    running = await gateway()
    await ready(running)

    made = await running.client.post("/admin/organizations", json={"id": "acme", "name": "Acme"})
    foreign = await running.client.post(
        "/admin/organizations", json={"name": "x"}, headers={"Origin": "http://evil.example"}
    )
    audit = (await running.client.get("/admin/audit")).json()

    assert (made.status_code, foreign.status_code) == (201, 403)
    assert [(item["actor"], item["action"]) for item in audit["items"]] == [("local", "organization.create")]


async def test_every_page_answers_as_described(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    await ready(running)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    key_id = (await make_key(running.url, budget={"usd": 5}, limits={"concurrent": 2}))["id"]

    for path in ("keys", "organizations", "providers", "deployments", "cache", "audit", "catalog", f"keys/{key_id}"):
        answer = await running.client.get(f"/admin/{path}", headers=headers)
        assert answer.status_code == 200, path
        described("GET", f"/admin/{path}", answer)
    limits = await running.client.get(f"/admin/limits?key_id={key_id}", headers=headers)
    described("GET", "/admin/limits", limits)
    assert limits.json()["budgets"][0]["rule"] == "key.budget"
    for path in ("keys", "audit", "catalog", "no/such"):
        assert (await running.client.get(f"/admin/{path}")).status_code == 401


async def test_a_provider_made_over_the_api_is_asked_with_its_key_which_lies_nowhere_in_clear(
    gateway: Serve, provider: Player, tmp_path: Path
) -> None:
    running = await gateway("", admin_key=ADMIN_KEY)
    body = {"name": "house", "provider": "openai", "api_base": provider.base, "api_key": UPSTREAM_KEY}
    await administer(running.url, "POST", "/admin/providers", **body)
    made = await administer(running.url, "POST", "/admin/deployments", name="new", provider="house", model="gpt-4o")
    await until_served(running, "new")

    assert provider.requests[-1].headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    shown = await administer(running.url, "GET", "/admin/catalog")
    assert shown["providers"]["house"]["origin"] == "database"
    await administer(running.url, "DELETE", f"/admin/deployments/{made['id']}")
    await until_served(running, "new", there=False)
    files = files_in(tmp_path)
    assert any(b"house" in content for content in files)
    assert not any(UPSTREAM_KEY.encode() in content for content in files)
    assert UPSTREAM_KEY not in str(running.logs()) + str(shown)


async def test_rows_are_served_again_after_a_restart(gateway: Serve, provider: Player) -> None:
    before = await gateway("", admin_key=ADMIN_KEY)
    body = {"name": "house", "provider": "openai", "api_base": provider.base, "api_key": UPSTREAM_KEY}
    await administer(before.url, "POST", "/admin/providers", **body)
    await administer(before.url, "POST", "/admin/deployments", name="new", provider="house", model="gpt-4o")
    await until_served(before, "new")

    after = await gateway("", admin_key=ADMIN_KEY)
    await ready(after)
    await until_served(after, "new")

    assert provider.requests[-1].headers["authorization"] == f"Bearer {UPSTREAM_KEY}"


class Everybody:
    """Asks on fresh connections, many at once, so that each process gets some."""

    def __init__(self, url: str, model: str) -> None:
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._client = httpx2.AsyncClient(base_url=url, timeout=20, limits=limits, verify=NO_TLS)
        self._model = model

    async def last_other_than(self, status: int, within_s: float) -> float:
        """Ask for a while; gives when the last was asked that was not answered so, in seconds from now."""
        began, last_s = time.perf_counter(), 0.0

        async def one() -> None:
            nonlocal last_s
            asked_s = time.perf_counter() - began
            answer = await self._client.post("/v1/chat/completions", json={"model": self._model, **CHAT})
            if answer.status_code != status:
                last_s = max(last_s, asked_s)

        while time.perf_counter() - began < within_s:
            async with anyio.create_task_group() as group:
                for _ in range(12):
                    group.start_soon(one)
        return last_s


def files_in(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def test_the_examples_of_the_guide_are_answered(gateway: Serve) -> None:
    running = await gateway("", **CLIENTS)
    await ready(running)
    examples = re.findall(
        r'^curl (?:-X (\w+) )?"?\$GATEWAY(\S+?)"? -H "Authorization: Bearer \$ADMIN_KEY"'
        r"(?: -H 'Content-Type: application/json' \\\n +-d '(.+)')?$",
        GUIDE,
        re.MULTILINE,
    )
    assert len(examples) == GUIDE.count("\ncurl ") == 9
    key_id = ""
    for method, path, body in examples:
        named = path.replace("KEY_ID", key_id)
        answer = await running.client.request(
            method or "GET",
            named,
            json=json.loads(body) if body else None,
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        )
        assert answer.status_code < 300, answer.text
        described(method or "GET", named.partition("?")[0], answer)
        key_id = answer.json()["id"] if path == "/admin/keys" else key_id


@pytest.mark.alone
@pytest.mark.timeout(90)
async def test_pitfall_090_a_deployment_is_live_and_gone_in_every_worker_within_two_seconds(
    tmp_path: Path, provider: Player
) -> None:
    body = {"name": "house", "provider": "openai", "api_base": provider.base, "api_key": UPSTREAM_KEY}
    settings = {"admin_key": ADMIN_KEY, "workers": 2, "data_dir": tmp_path / "data"}
    async with served(tmp_path, "", settings=settings) as running:
        await administer(running.url, "POST", "/admin/providers", **body)
        made = await administer(running.url, "POST", "/admin/deployments", name="new", provider="house", model="gpt-4o")
        everybody = Everybody(running.url, "new")
        live_s = await everybody.last_other_than(200, within_s=3)
        await administer(running.url, "DELETE", f"/admin/deployments/{made['id']}")
        gone_s = await everybody.last_other_than(404, within_s=3)

    assert live_s < 2
    assert gone_s < 2
