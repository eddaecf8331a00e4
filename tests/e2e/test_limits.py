"""Limits of callers and of accounts, through the front door (pitfalls, group C)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, administer, make_key, make_organization
from tests.e2e.providers.conftest import Play
from tests.e2e.providers.conftest import play as play  # noqa: PLC0414  a fixture
from tests.e2e.providers.played import PLAYED
from tests.running import NO_TLS, Running
from tests.served import served
from tests.services import Server, redis_server
from tests.telemetry.exchanges import until
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import stream_step

CLIENTS: dict[str, Any] = {"auth__mode": "client", "admin_key": ADMIN_KEY, "cache__enabled": False}
SAID: Any = [{"role": "user", "content": "one two three four"}]
CHAT: dict[str, Any] = {"model": "chat", "messages": SAID}
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "stream": ("/v1/chat/completions", CHAT | {"stream": True}),
    "completion": ("/v1/completions", {"model": "chat", "prompt": "one two"}),
    "embedding": ("/v1/embeddings", {"model": "embed", "input": "one two"}),
}
ONE: dict[str, Any] = {"requests_per_minute": 1, "burst": 1, "cooldown_seconds": 0}
MANY: dict[str, Any] = {"requests_per_minute": 100_000, "requests_per_hour": 10_000_000, "tokens_per_minute": 10**9}
WIDE: dict[str, Any] = {**MANY, "burst": 10_000, "cooldown_seconds": 0}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def sent_with(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def ask(running: Running, key: str, endpoint: str = "chat", **fields: object) -> httpx2.Response:
    path, body = ENDPOINTS[endpoint]
    return await running.client.post(path, json=body | fields, headers=sent_with(key))


def limited(catalog: str, **limits: object) -> str:
    """Add limits of callers to a catalog that is indented by eight."""
    return f"{catalog.rstrip()}\n        limits: {json.dumps(limits)}\n"


async def free_key(running: Running, **fields: object) -> str:
    """Make a key that is held back by nothing but what a test says."""
    key: str = (await make_key(running.url, **{"limits": WIDE, **fields}))["key"]
    return key


# Of the catalog, of the key, of its organization.
SCOPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "key.requests_per_minute": ({}, {"limits": ONE}, {}),
    "organization.requests_per_minute": ({}, {}, {"limits": ONE}),
    "user.requests_per_minute": ({"users": ONE}, {}, {}),
    "operation": ({"operations": {"chat": 1, "embeddings": 1}}, {}, {}),
    "model.requests_per_minute": ({"models": {f"of-{endpoint}": ONE for endpoint in ENDPOINTS}}, {}, {}),
}


def model_of_each_endpoint(provider: Player) -> str:
    models = ((endpoint, "text-embedding-3-small" if endpoint == "embedding" else "gpt-4o") for endpoint in ENDPOINTS)
    offered = [
        {"name": f"of-{endpoint}", "deployments": [{"provider": "main", "model": model}]} for endpoint, model in models
    ]
    account = {"provider": "openai", "api_key": "sk-upstream", "api_base": provider.base}
    # As `limited` wants it: YAML, of which JSON is a part.
    return f"""
        providers: {json.dumps({"main": account})}
        models: {json.dumps(offered)}"""


@pytest.mark.parametrize("rule", SCOPES)
async def test_pitfall_029_the_request_after_the_limit_is_refused(gateway: Serve, provider: Player, rule: str) -> None:
    of_catalog, of_key, of_organization = SCOPES[rule]
    catalog = model_of_each_endpoint(provider)
    running = await gateway(limited(catalog, **of_catalog) if of_catalog else catalog, **CLIENTS)
    for endpoint in ENDPOINTS:
        await make_organization(running.url, endpoint, **of_organization)
        key = await free_key(running, organization_id=endpoint, **of_key)

        first, second = [await ask(running, key, endpoint, model=f"of-{endpoint}", user="bob") for _ in range(2)]

        assert first.status_code == 200, first.text
        expected = rule
        if rule == "operation":
            expected = "operation.embeddings" if endpoint == "embedding" else "operation.chat"
        refused_by(second, expected)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_pitfall_029_a_limit_for_everyone_is_one_for_all_keys(
    gateway: Serve, catalog: str, endpoint: str
) -> None:
    running = await gateway(limited(catalog, everyone=ONE), **CLIENTS)

    first, second = [await ask(running, await free_key(running), endpoint) for _ in range(2)]

    assert first.status_code == 200, first.text
    refused_by(second, "everyone.requests_per_minute")


def refused_by(answer: httpx2.Response, rule: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert error["details"]["rule"] == rule
    assert answer.headers["retry-after"]
    assert answer.headers["retry-after-ms"]


async def test_pitfall_034_a_refusal_says_when_and_then_it_passes(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    key = await free_key(running, limits={"requests_per_minute": 60, "burst": 1, "cooldown_seconds": 0})
    assert (await ask(running, key)).status_code == 200

    refused, begun = await ask(running, key), time.perf_counter()
    with anyio.fail_after(5):
        while (await ask(running, key)).status_code == 429:  # noqa: ASYNC110  the gateway has no event for it
            await asyncio.sleep(0.02)
    waited_s = time.perf_counter() - begun

    promised_s = int(refused.headers["retry-after-ms"]) / 1000
    assert abs(waited_s - promised_s) < 0.5
    assert refused.headers["retry-after"] == "1"


async def test_headers_and_body_come_from_the_same_numbers(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    key = await free_key(running, limits={"requests_per_minute": 6, "burst": 2, "tokens_per_minute": 6000})

    answers = [await ask(running, key, max_tokens=50) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    last = answers[-1].headers
    assert (last["x-ratelimit-limit-requests"], last["x-ratelimit-limit"], last["x-ratelimit-remaining"]) == (
        "6",
        "6",
        "0",
    )
    assert last["x-ratelimit-limit-tokens"] == "6000"
    reset_s = float(last["x-ratelimit-reset-requests"].removesuffix("s"))
    assert int(last["retry-after-ms"]) / 1000 == pytest.approx(reset_s - 10, abs=0.1)


async def test_pitfall_035_a_client_reads_that_the_gateway_limits_it(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    sdk = running.openai.with_options(api_key=await free_key(running, limits=ONE))
    await sdk.chat.completions.create(**CHAT)

    with pytest.raises(openai.RateLimitError) as caught:
        await sdk.chat.completions.create(**CHAT)

    assert caught.value.code == "rate_limit_exceeded"
    assert "A limit of this gateway, not of the provider" in caught.value.message
    assert "1 requests a minute for this key" in caught.value.message


async def test_in_mode_none_nobody_is_limited_unless_a_setting_says_so(gateway: Serve, catalog: str) -> None:
    free = await gateway(catalog)
    answers = [await free.client.post("/v1/chat/completions", json=CHAT) for _ in range(15)]
    assert {answer.status_code for answer in answers} == {200}
    assert "x-ratelimit-limit" not in answers[-1].headers


async def test_limits_in_mode_none_are_for_each_organization(gateway: Serve, catalog: str) -> None:
    settings = {"limits__enabled": True, "limits__requests_per_minute": 1, "limits__burst": 1}
    running = await gateway(catalog, cache__enabled=False, **settings)

    async def status(organization: str | None) -> int:
        headers = {} if organization is None else {"X-Organization-ID": organization}
        return (await running.client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code

    asked = [await status(one) for one in (None, "acme", "other", None, "acme", "other")]

    assert asked == [200, 200, 200, 429, 429, 429]


# Slots.


async def sent(running: Running, key: str, **fields: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request by hand, which costs this process little."""
    body = json.dumps(CHAT | fields).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return reader, writer


async def leave_after(running: Running, key: str, seconds: float, **fields: object) -> None:
    """Ask, and hang up."""
    _, writer = await sent(running, key, **fields)
    await asyncio.sleep(seconds)
    writer.close()


async def in_flight(running: Running, key_id: str) -> int:
    shown = await administer(running.url, "GET", f"/admin/limits?key_id={key_id}")
    slots: int = shown["concurrent"][0]["in_flight"]
    return slots


@pytest.mark.alone
async def test_pitfall_023_slots_come_back_from_every_phase(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    made = await make_key(running.url, limits={**WIDE, "concurrent": 2})
    key = made["key"]
    provider.always(stream_step([EVENT, EVENT]).silent(pieces=1))
    for number in range(50):
        await leave_after(running, key, 0.002 * number, stream=number % 2 == 0)
        await until(lambda: not running.app.state.running.tasks)
    assert await in_flight(running, made["id"]) == 0
    provider.always(None)

    answers = await asyncio.gather(*(ask(running, key) for _ in range(2)))

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_one_more_than_may_run_at_once_is_refused(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS)
    key = await free_key(running, limits={**WIDE, "concurrent": 1})
    provider.always(lambda step: step.delayed(0.3))

    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(running, key))
        await provider.until(lambda: provider.in_flight == 1)
        second = await ask(running, key)

    assert (first.result().status_code, second.status_code) == (200, 429)
    assert second.json()["error"]["details"]["rule"] == "key.concurrent"
    assert (await ask(running, key)).status_code == 200


# Tokens.


@pytest.mark.parametrize("provider_name", PLAYED)
async def test_pitfall_033_tokens_counted_are_those_reported(play: Play, provider_name: str) -> None:
    running, _ = await play(provider_name, **CLIENTS)
    said = [{"role": "user", "content": " ".join(f"word{number}" for number in range(20))}]
    for stream in (False, True):
        made = await make_key(running.url, limits={**WIDE, "tokens_per_minute": 60})
        begun = time.perf_counter()

        answer = await ask(running, made["key"], messages=said, stream=stream)
        assert answer.status_code == 200, answer.text
        line = await running.logged("llm_request_complete", request_id=answer.headers["x-gateway-request-id"])
        shown = await administer(running.url, "GET", f"/admin/limits?key_id={made['id']}")

        used = line["prompt_tokens"] + line["completion_tokens"]
        rate = next(rate for rate in shown["rates"] if rate["rule"] == "key.tokens_per_minute")
        assert used > 20
        # Reserved were all sixty; one token a second comes back.
        assert used - (time.perf_counter() - begun) - 1 <= rate["reset_seconds"] <= used


async def test_a_failure_gives_its_tokens_back(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog, **CLIENTS, retry__max_retries=0)
    key = await free_key(running, limits={**WIDE, "tokens_per_minute": 600})
    provider.always(provider.wire.error(500, "broken"))

    answers = [await ask(running, key, max_tokens=500) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [502, 502, 502]


# Accounts and deployments.


async def test_a_provider_at_its_limit_makes_routing_take_another(gateway: Serve) -> None:
    async with Player(OpenAIWire()) as small, Player(OpenAIWire()) as large:
        catalog = f"""
            providers:
              small: {{provider: openai, api_key: sk-upstream, api_base: "{small.base}", limits: {json.dumps(ONE)}}}
              large: {{provider: openai, api_key: sk-upstream, api_base: "{large.base}"}}
            models:
              - name: chat
                deployments: [{{provider: small, model: gpt-4o}}, {{provider: large, model: gpt-4o}}]
              - {{name: alone, deployments: [{{provider: small, model: gpt-4o}}]}}
        """
        running = await gateway(catalog, cache__enabled=False)

        answers = [await running.client.post("/v1/chat/completions", json=CHAT) for _ in range(3)]
        alone = await running.client.post("/v1/chat/completions", json=CHAT | {"model": "alone"})

        assert [answer.headers["x-provider"] for answer in answers] == ["small", "large", "large"]
        assert alone.status_code == 429
        error = alone.json()["error"]
        assert (error["code"], error["details"]["rule"]) == ("rate_limit_exceeded", "provider.requests_per_minute")
        assert small.requests_total == 1


# Several processes, one Redis.


@pytest.fixture
def redis() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@asynccontextmanager
async def several(folder: Path, catalog: str, redis: Server, workers: int) -> AsyncIterator[str]:
    settings = {**CLIENTS, "redis_url": redis.url, "workers": workers, "data_dir": folder / "data"}
    async with served(folder, catalog.replace("\n        ", "\n"), settings=settings, measured=False) as gateway:
        yield gateway.url


@pytest.mark.timeout(90)
async def test_pitfall_026_three_workers_and_redis_are_one_limiter(tmp_path: Path, catalog: str, redis: Server) -> None:
    async with several(tmp_path, catalog, redis, 3) as url:
        key = (await make_key(url, limits={**WIDE, "requests_per_minute": 100, "burst": None}))["key"]
        async with httpx2.AsyncClient(base_url=url, timeout=30, headers=sent_with(key), verify=NO_TLS) as client:
            begun = time.perf_counter()
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=CHAT) for _ in range(600)))
            took_s = time.perf_counter() - begun

    passed = sum(answer.status_code == 200 for answer in answers)
    burst, per_s = 17, 100 / 60
    assert {answer.status_code for answer in answers} == {200, 429}
    assert burst <= passed <= burst + per_s * took_s


async def test_redis_dies_and_comes_back_and_calls_go_on(gateway: Serve, catalog: str, redis: Server) -> None:
    running = await gateway(catalog, **CLIENTS, redis_url=redis.url)
    key = await free_key(running, limits={**WIDE, "requests_per_minute": 60, "burst": 3})
    before = [(await ask(running, key)).status_code for _ in range(4)]

    redis.stop()
    meanwhile = [(await ask(running, key)).status_code for _ in range(5)]
    redis.start()

    assert before == [200, 200, 200, 429]
    # Each process counts for itself now, from the beginning.
    assert meanwhile[:3] == [200, 200, 200]
    assert set(meanwhile[3:]) <= {200, 429}


async def test_pitfall_034_without_redis_calls_are_refused_when_a_setting_says_so(
    gateway: Serve, catalog: str, redis: Server
) -> None:
    running = await gateway(catalog, **CLIENTS, redis_url=redis.url, limits__fail_open=False)
    key = await free_key(running)
    assert (await ask(running, key)).status_code == 200

    redis.stop()
    refused = await ask(running, key)
    redis.start()
    with anyio.fail_after(10):
        while (await ask(running, key)).status_code != 200:  # noqa: ASYNC110  the gateway has no event for it
            await asyncio.sleep(0.05)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "limits_unavailable")
    assert refused.headers["retry-after"] == "1"


@pytest.mark.alone
async def test_pitfall_036_a_tenant_that_floods_does_not_hold_up_another(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    running = await gateway(catalog, **CLIENTS)
    flooding = await free_key(running, limits={**WIDE, "concurrent": 10})
    quiet = await free_key(running)
    provider.always(lambda step: step.delayed(0.1))

    async def took_s() -> float:
        begun = time.perf_counter()
        assert (await ask(running, quiet)).status_code == 200
        return time.perf_counter() - begun

    alone = [await took_s() for _ in range(10)]
    over = asyncio.Event()

    statuses: list[bytes] = []

    async def flood() -> None:
        while not over.is_set():
            wave = [await sent(running, flooding) for _ in range(40)]
            for reader, writer in wave:
                statuses.append((await reader.readline())[9:12])
                writer.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(flood())
        beside = [await took_s() for _ in range(10)]
        over.set()

    assert statuses.count(b"429") > 5 * statuses.count(b"200") / 4
    assert sorted(beside)[-2] < 2 * max(alone) + 0.05
