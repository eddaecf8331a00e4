"""What protects callers, seen from outside on every endpoint: figures that move, and requests that cost once."""

import asyncio
from typing import Any

import pytest

from llmgateway import protection
from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, make_key
from tests.running import Running
from tests.telemetry.exchanges import Scrape, scraped, until
from tests.upstreams.server import Player

SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"[:36]
CHAT: dict[str, Any] = {
    "model": "chat",
    "temperature": 0,
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "one two three four five six seven eight nine ten"}],
}
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "stream": ("/v1/chat/completions", CHAT | {"stream": True}),
    "completion": ("/v1/completions", {"model": "chat", "prompt": "one two"}),
    "completion-stream": ("/v1/completions", {"model": "chat", "prompt": "one two", "stream": True}),
    "embedding": ("/v1/embeddings", {"model": "embed", "input": "one two"}),
}


def priced(provider: Player) -> str:
    """Ten words are answered with ten tokens: a cent."""
    return f"""
        providers: {{main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}"}}}}
        models:
          - name: chat
            prices_per_million: {{input: 0, output: 1000}}
            deployments: [{{provider: main, model: gpt-4o}}]
          - {{name: embed, deployments: [{{provider: main, model: text-embedding-3-small}}]}}
    """


def by(page: Scrape, name: str, label: str) -> dict[str, float | None]:
    """Give a metric by the values of one label."""
    return {value: page.of(name, **{label: value}) for value in page.labels(name, label)}


async def figures(running: Running) -> Scrape:
    answer = await running.client.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert answer.status_code == 200
    return scraped(answer.content)


class Keys:
    """Keys of three kinds, and what is asked with them."""

    def __init__(self, running: Running, free: str, poor: str, once: str) -> None:
        self._client = running.client
        self.free, self.poor, self.once = free, poor, once

    @classmethod
    async def made(cls, running: Running) -> "Keys":
        """Make one that nothing holds back, one with two cents, and one for a single call."""
        wide = {"requests_per_minute": 1000, "burst": 1000, "cooldown_seconds": 0}
        given: list[dict[str, Any]] = [
            {"limits": wide},
            {"limits": wide, "budget": {"usd": 0.02, "soft_usd": 0.01}},
            {"limits": {**wide, "requests_per_minute": 1, "burst": 1}},
        ]
        return cls(running, *[(await make_key(running.url, **fields))["key"] for fields in given])

    async def ask(self, key: str, status: int = 200, *, control: str = "max-age=0", **fields: Any) -> str:
        """Give what the cache did."""
        headers = {"Authorization": f"Bearer {key}", "Cache-Control": control}
        answer = await self._client.post("/v1/chat/completions", json=CHAT | fields, headers=headers)
        assert answer.status_code == status, answer.text
        return str(answer.headers["x-cache-status"])


async def test_each_figure_of_protection_counts_what_it_says(
    gateway: Serve, provider: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protection, "_STATUS_EVERY_S", 0.1)
    settings = {"auth__mode": "client", "admin_key": ADMIN_KEY}
    running = await gateway(priced(provider), **settings, sensitivity__enabled=True, sensitivity__action="redact")
    keys = await Keys.made(running)

    asked = [await keys.ask(keys.free) for _ in range(2)]
    asked.append(await keys.ask(keys.free, control="no-store"))
    provider.script(lambda step: step.delayed(1))
    together = await asyncio.gather(*(keys.ask(keys.free, seed=1) for _ in range(3)))
    asked.append(await keys.ask(keys.free, messages=[{"role": "user", "content": f"revoke {SECRET}"}]))
    for key, statuses in ((keys.poor, (200, 200, 429)), (keys.once, (200, 429))):
        for seed, status in enumerate(statuses):
            asked.append(await keys.ask(key, status, seed=10 + seed))

    assert asked[:4] == ["MISS", "HIT", "BYPASS", "MISS"]
    assert sorted(together) == ["COALESCED", "COALESCED", "MISS"]
    page = await figures(running)
    assert by(page, "llm_rate_limit_decisions_total", "decision") == {"allowed": 10, "limited": 2}
    # A call that is held back never came to the cache.
    assert by(page, "llm_cache_requests_total", "result") == {"hit": 1, "miss": 6, "bypass": 3, "coalesced": 2}
    looked = {"none": 11, "redact": 1, "refuse": 0, "reroute": 0}
    assert by(page, "llm_sensitivity_decisions_total", "action") == looked
    assert page.of("llm_audit_entries_lost_total") == 0

    async def told() -> bool:
        page = await figures(running)
        # Of several thresholds passed at once the highest is told.
        alerts = by(page, "llm_budget_alerts_total", "threshold") == {"soft": 1, "50": 1, "80": 0, "100": 1}
        kept = (page.of("llm_cache_entries") or 0) >= 3 and (page.of("llm_cache_size_bytes") or 0) > 300
        return alerts and kept and page.of("llm_budget_used_ratio") == 1.0

    await until(told)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_idempotency_key_holds_on_each_endpoint_that_costs_money(
    gateway: Serve, catalog: str, provider: Player, endpoint: str
) -> None:
    running = await gateway(catalog, cache__enabled=False)
    path, body = ENDPOINTS[endpoint]
    headers = {"Idempotency-Key": "order-1"}

    first, second = [await running.client.post(path, json=body, headers=headers) for _ in range(2)]
    conflict = await running.client.post(path, json=body | {"user": "bob"}, headers=headers)

    assert (first.status_code, second.content) == (200, first.content)
    assert ("idempotent-replayed" in first.headers, second.headers["idempotent-replayed"]) == (False, "true")
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert provider.requests_total == 1


async def test_an_idempotency_key_is_of_its_path_and_in_mode_none_of_its_organization(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    running = await gateway(catalog, cache__enabled=False)
    replayed = []
    for organization in ("acme", "other", "acme"):
        for endpoint in ("chat", "completion"):
            path, body = ENDPOINTS[endpoint]
            headers = {"Idempotency-Key": "order-1", "X-Organization-ID": organization}
            answer = await running.client.post(path, json=body, headers=headers)
            assert answer.status_code == 200
            replayed.append("idempotent-replayed" in answer.headers)

    assert replayed == [False, False, False, False, True, True]
    assert provider.requests_total == 4
