"""Budgets through the front door: nobody spends more, and whoever runs the gateway is told in time (pitfalls, C)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests import running as in_process
from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, administer, make_key, make_organization
from tests.running import NO_TLS, Running
from tests.served import served
from tests.services import redis_server
from tests.telemetry.exchanges import until
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step

CLIENTS: dict[str, Any] = {
    "auth__mode": "client",
    "admin_key": ADMIN_KEY,
    "cache__enabled": False,
    "limits__enabled": False,
}
# Ten words are answered with ten tokens: a cent.
CHAT: dict[str, Any] = {
    "model": "chat",
    "messages": [{"role": "user", "content": "one two three four five six seven eight nine ten"}],
    "max_tokens": 10,
}
CENT = 0.01


def priced(provider: Player, **more: object) -> str:
    return json.dumps(
        {
            "providers": {"main": {"provider": "openai", "api_key": "sk-upstream", "api_base": provider.base}},
            "models": [
                {
                    "name": "chat",
                    "prices_per_million": {"input": 0, "output": 1000},
                    "deployments": [{"provider": "main", "model": "gpt-4o"}],
                },
                {"name": "unpriced", "deployments": [{"provider": "main", "model": "our-own-model"}]},
            ],
            **more,
        }
    )


async def ask(running: Running, key: str, **fields: object) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return await running.client.post("/v1/chat/completions", json=CHAT | fields, headers=headers)


async def budget_of(running: Running, key_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = (await administer(running.url, "GET", f"/admin/keys/{key_id}"))["budget"]
    return shown


async def test_pitfall_028_two_hundred_at_once_do_not_spend_more_than_ten(gateway: Serve, provider: Player) -> None:
    running = await gateway(priced(provider), **CLIENTS)
    made = await make_key(running.url, budget={"usd": 10 * CENT})
    provider.always(lambda step: step.delayed(0.2))

    answers = await asyncio.gather(*(ask(running, made["key"]) for _ in range(200)))

    codes = [answer.status_code for answer in answers]
    assert codes.count(200) == 10
    assert codes.count(429) == 190
    assert provider.requests_total == 10
    refused = next(answer for answer in answers if answer.status_code == 429)
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert error["details"]["rule"] == "key.budget"
    assert error["details"]["resets_at"].endswith("T00:00:00Z")
    assert refused.headers["x-should-retry"] == "false"
    assert int(refused.headers["retry-after"]) > 0
    assert (await budget_of(running, made["id"]))["spent_usd"] == pytest.approx(10 * CENT)


async def test_pitfall_028_a_failure_gives_its_reservation_back(gateway: Serve, provider: Player) -> None:
    running = await gateway(priced(provider), **CLIENTS, retry__max_retries=0)
    key = (await make_key(running.url, budget={"usd": 1.5 * CENT}))["key"]
    provider.script(*[provider.wire.error(500, "broken")] * 3)

    codes = [(await ask(running, key)).status_code for _ in range(5)]

    assert codes == [502, 502, 502, 200, 429]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scope", ["key", "organization"])
async def test_pitfall_029_the_request_after_the_budget_is_refused(
    gateway: Serve, provider: Player, scope: str, stream: bool
) -> None:
    running = await gateway(priced(provider), **CLIENTS)
    budget = {"usd": 1.5 * CENT, "period": "day"}
    if scope == "organization":
        await make_organization(running.url, "acme", budget=budget)
        key = (await make_key(running.url, organization_id="acme"))["key"]
        other = (await make_key(running.url, organization_id="acme"))["key"]
    else:
        key = other = (await make_key(running.url, budget=budget))["key"]

    first, second = await ask(running, key, stream=stream), await ask(running, other, stream=stream)

    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["error"]["details"]["rule"] == f"{scope}.budget"


async def test_the_sdk_does_not_try_a_spent_budget_again(gateway: Serve, provider: Player) -> None:
    running = await gateway(priced(provider), **CLIENTS)
    key = (await make_key(running.url, budget={"usd": CENT / 2}))["key"]

    with pytest.raises(openai.RateLimitError) as caught:
        await running.openai.with_options(api_key=key, max_retries=5).chat.completions.create(**CHAT)

    assert caught.value.code == "insufficient_quota"
    await running.logged("llm_request_error")
    assert len([line for line in running.logs() if line["event"] == "llm_request_error"]) == 1


async def test_what_is_spent_outlives_a_restart(tmp_path: Path, provider: Player) -> None:
    async with in_process.running(tmp_path, priced(provider), **CLIENTS) as first:
        made = await make_key(first.url, budget={"usd": 2.5 * CENT})
        assert [(await ask(first, made["key"])).status_code for _ in range(2)] == [200, 200]

    async with in_process.running(tmp_path, priced(provider), **CLIENTS) as second:
        assert (await ask(second, made["key"])).status_code == 429


async def test_pitfall_043_a_model_without_a_price_is_refused_to_who_has_a_budget(
    gateway: Serve, provider: Player
) -> None:
    running = await gateway(priced(provider), **CLIENTS)
    bound = (await make_key(running.url, budget={"usd": 5}))["key"]
    free = (await make_key(running.url))["key"]

    refused, allowed = await ask(running, bound, model="unpriced"), await ask(running, free, model="unpriced")

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (403, "price_unknown", "model")
    assert "`unpriced`" in error["message"]
    assert "prices_per_million" in error["message"]
    assert allowed.status_code == 200


async def test_pitfall_043_unless_a_setting_lets_it_pass(gateway: Serve, provider: Player) -> None:
    running = await gateway(priced(provider), **CLIENTS, limits__unpriced="allow")
    key = (await make_key(running.url, budget={"usd": 5}))["key"]

    assert (await ask(running, key, model="unpriced")).status_code == 200


async def test_alerts_go_to_the_log_the_metrics_and_the_webhook_once(gateway: Serve, provider: Player) -> None:
    async with Player(OpenAIWire()) as listener:
        listener.always(Step(pieces=(Piece(b"{}"),)))
        hooks = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "alerts_url": f"{listener.url}/alerts"}
        running = await gateway(priced(provider, webhooks=hooks), **CLIENTS)
        made = await make_key(running.url, budget={"usd": 10 * CENT, "soft_usd": 6.5 * CENT})

        for _ in range(11):
            await ask(running, made["key"])
        await until(lambda: listener.requests_total == 4)

        told = [request.json for request in listener.requests]
        assert [event["data"]["threshold"] for event in told] == ["50 %", "soft", "80 %", "100 %"]
        assert {event["type"] for event in told} == {"budget.alert"}
        assert {event["data"]["owner"] for event in told} == {made["id"]}
        lines = [line for line in running.logs() if line["event"] == "budget_alert"]
        assert [line["threshold"] for line in lines] == ["50 %", "soft", "80 %", "100 %"]
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        metrics = (await running.client.get("/metrics", headers=headers)).text
        assert "llm_budget_used_ratio 1.0" in metrics


@pytest.mark.timeout(90)
async def test_pitfall_028_four_processes_on_one_redis_spend_one_budget(tmp_path: Path, provider: Player) -> None:
    provider.always(lambda step: step.delayed(0.1))
    with redis_server() as redis:
        settings = {**CLIENTS, "redis_url": redis.url, "workers": 4, "data_dir": tmp_path / "data"}
        async with served(tmp_path, priced(provider), settings=settings, measured=False) as running:
            key = (await make_key(running.url, budget={"usd": 10 * CENT}))["key"]
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx2.AsyncClient(base_url=running.url, timeout=30, headers=headers, verify=NO_TLS) as client:
                answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=CHAT) for _ in range(200)))

    assert sum(answer.status_code == 200 for answer in answers) == 10
    assert {answer.status_code for answer in answers} == {200, 429}
    assert provider.requests_total == 10
