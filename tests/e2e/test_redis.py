"""A Redis that fails, as clients see it (pitfalls, group J)."""

import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import redis

from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, make_key
from tests.running import Running
from tests.services import Server, redis_server

# Something to count: calls that no rule holds for need no store.
WIDE = {"requests_per_minute": 100_000, "burst": 10_000, "cooldown_seconds": 0}
CLIENTS: dict[str, Any] = {"auth__mode": "client", "admin_key": ADMIN_KEY}
ASKED: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture
def redis_service() -> Iterator[Server]:
    with redis_server() as server:
        yield server


async def limited(gateway: Serve, catalog: str, **settings: Any) -> Running:
    """Serve callers with limits; the gateway's client is one of them."""
    running = await gateway(catalog, **CLIENTS, **settings)
    key = (await make_key(running.url, limits=WIDE))["key"]
    running.client.headers["Authorization"] = f"Bearer {key}"
    return running


async def ask(running: Running, **fields: Any) -> tuple[int, float]:
    """Give the status and the seconds it took."""
    began = time.perf_counter()
    response = await running.client.post("/v1/chat/completions", json=ASKED | fields)
    return response.status_code, time.perf_counter() - began


async def metric(running: Running, name: str) -> float:
    page = await running.client.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert page.status_code == 200
    lines = page.text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name) and line[len(name)] in " {")


@pytest.mark.alone
async def test_pitfall_078_while_redis_hangs_calls_go_on_without_delay(
    gateway: Serve, catalog: str, redis_service: Server
) -> None:
    g = await limited(gateway, catalog, redis_url=redis_service.url)
    await ask(g)

    with redis_service.hung():
        await g.logged("redis_away")
        answers = [await ask(g, seed=number) for number in range(20)]
        assert await metric(g, "llm_redis_up") == 0

    assert {status for status, _ in answers} == {200}
    assert max(took_s for _, took_s in answers) < 0.5
    assert sorted(took_s for _, took_s in answers)[10] < 0.1
    await g.logged("redis_back")
    assert await metric(g, "llm_redis_up") == 1


async def test_pitfall_079_a_redis_that_is_back_is_used_again(
    gateway: Serve, catalog: str, redis_service: Server
) -> None:
    g = await limited(gateway, catalog, redis_url=redis_service.url)
    await anyio.to_thread.run_sync(redis_service.stop)
    await g.logged("redis_away")
    assert (await ask(g))[0] == 200
    assert await metric(g, "llm_limits_guessed_total") >= 1

    await anyio.to_thread.run_sync(redis_service.start)
    await g.logged("redis_back")

    assert (await ask(g, seed=1))[0] == 200
    with redis.Redis.from_url(redis_service.url) as client, anyio.fail_after(5):
        while not client.keys("llmgw:answer:*"):  # noqa: ASYNC110  Redis has no event for it
            await anyio.sleep(0.01)


async def test_pitfall_032_a_redis_that_forbids_scripts_is_told_and_not_passed_over(
    gateway: Serve, catalog: str, redis_service: Server
) -> None:
    with redis.Redis.from_url(redis_service.url) as client:
        client.acl_setuser("gate", enabled=True, nopass=True, commands=["+@all", "-@scripting"], keys=["*"])
    url = f"redis://gate:any@127.0.0.1:{redis_service.port}/0"
    g = await limited(gateway, catalog, redis_url=url, limits__fail_open="false")

    line = await g.logged("redis_away")
    refused = await g.client.post("/v1/chat/completions", json=ASKED)

    assert "NOPERM" in line["reason"]
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "limits_unavailable"
    assert await metric(g, "llm_redis_up") == 0
    ready = await g.client.get("/health/ready")
    assert ready.status_code == 503  # for nothing passes uncounted
    assert ready.json()["checks"]["redis"] != "ok"
