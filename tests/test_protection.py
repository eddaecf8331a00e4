"""What protects callers and providers, put together: asked through a gateway that serves."""

from pathlib import Path

import pytest

from llmgateway.storage.admin.sealing import SealError
from tests import services
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, administer, make_key
from tests.running import running
from tests.upstreams.server import Player

CHAT = {"model": "chat", "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}
EMBED = {"model": "embed", "input": "hi"}
PATH = "/v1/chat/completions"


async def test_a_key_its_limits_its_budget_and_the_cache_work_together(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    g = await gateway(catalog, auth__mode="client", admin_key=ADMIN_KEY)
    made = await make_key(g.url, name="billing", models=["chat"], budget={"usd": 1}, limits={"requests_per_minute": 12})
    mine = {"authorization": f"Bearer {made['key']}"}

    first = await g.client.post(PATH, json=CHAT, headers=mine)
    second = await g.client.post(PATH, json=CHAT, headers=mine)
    third = await g.client.post(PATH, json=CHAT, headers=mine)
    other = await g.client.post("/v1/embeddings", json=EMBED, headers=mine)

    assert [answer.status_code for answer in (first, second, third, other)] == [200, 200, 429, 403]
    assert [answer.headers["x-cache-status"] for answer in (first, second)] == ["MISS", "HIT"]
    assert third.json()["error"]["details"]["rule"] == "key.requests_per_minute"
    assert provider.requests_total == 1
    key = await administer(g.url, "GET", f"/admin/keys/{made['id']}")
    limits = await administer(g.url, "GET", f"/admin/limits?key_id={made['id']}")
    assert key["budget"]["spent_usd"] == pytest.approx(float(first.headers["x-cost-usd"]))
    assert next(rate for rate in limits["rates"] if rate["rule"] == "key.requests_per_minute")["remaining"] == 0


async def test_figures_of_it_are_in_the_metrics_and_in_the_detailed_health(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, limits__enabled=True)
    await g.client.post(PATH, json=CHAT)
    await g.client.post(PATH, json=CHAT)

    metrics = (await g.client.get("/metrics")).text
    detailed = (await g.client.get("/health/detailed")).json()

    assert 'llm_rate_limit_decisions_total{decision="allowed"} 2' in metrics
    assert 'llm_cache_requests_total{result="hit"} 1' in metrics
    assert "llm_redis_up 1" in metrics
    assert detailed["rate_limiter"] == {"status": "ok", "counted_by": "each process"}
    assert detailed["cache"]["status"] == "ok"
    assert detailed["checks"]["redis"] == "not configured"


async def test_with_redis_everything_is_counted_there_and_without_it_each_process_counts(
    gateway: Serve, catalog: str
) -> None:
    with services.redis_server() as redis:
        g = await gateway(catalog, limits__enabled=True, redis_url=redis.url)
        await ready(g)
        with_redis = (await g.client.get("/health/detailed")).json()
        assert (await g.client.post(PATH, json=CHAT)).status_code == 200
        redis.stop()
        answers = [await g.client.post(PATH, json={**CHAT, "seed": number}) for number in range(4)]
        without = (await g.client.get("/health/detailed")).json()

        assert with_redis["rate_limiter"]["counted_by"] == "redis"
        assert {answer.status_code for answer in answers} == {200}
        assert without["rate_limiter"] == {"status": "redis is away", "counted_by": "each process"}
        assert without["checks"]["redis"] == "away, each process counts for itself"
        assert without["status"] == "ready"


async def test_a_gateway_that_must_not_guess_refuses_calls_while_redis_is_away(gateway: Serve, catalog: str) -> None:
    nowhere = f"redis://127.0.0.1:{services.free_port()}/0"
    g = await gateway(catalog, limits__enabled=True, limits__fail_open=False, redis_url=nowhere)

    answer = await g.client.post(PATH, json=CHAT)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "limits_unavailable")
    assert "retry-after" in answer.headers
    assert (await g.client.get("/health/ready")).status_code == 503


async def test_a_wrong_encryption_key_is_seen_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="Encryption key 1 is none"):
        async with running(tmp_path, encryption_keys="short"):
            pass


async def test_the_cache_can_be_switched_off(gateway: Serve, provider: Player, catalog: str) -> None:
    g = await gateway(catalog, cache__enabled=False)
    await ready(g)

    answers = [await g.client.post(PATH, json=CHAT) for _ in range(2)]

    assert [answer.headers["x-cache-status"] for answer in answers] == ["BYPASS", "BYPASS"]
    assert provider.requests_total == 2
    assert (await g.client.get("/health/detailed")).json()["cache"] == {"status": "off"}
