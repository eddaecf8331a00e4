"""What is sensitive, through the front door: the player of a provider shows what it was sent."""

import json
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pytest
import redis

from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, administer
from tests.running import Running
from tests.sensitivity.examples import GITHUB
from tests.services import redis_server
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Step

MAIL = "maria@example.org"
PROMPT = f"revoke {GITHUB} of {MAIL} [EMAIL_1]"
HARMLESS = "shipping a monkey costs more than a keyboard"


@pytest.fixture
async def house() -> AsyncIterator[Player]:
    """A provider that may see everything."""
    async with Player(OpenAIWire()) as player:
        yield player


@pytest.fixture
def catalog(provider: Player, house: Player) -> str:
    return f"""
        providers:
          outside: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}", security_level: medium}}
          house: {{provider: openai, api_key: sk-upstream, api_base: "{house.base}", security_level: high}}
        models:
          - {{name: chat, deployments: [{{provider: outside, model: gpt-4o}}]}}
          - {{name: text, deployments: [{{provider: outside, model: gpt-3.5-turbo-instruct}}]}}
          - {{name: mixed, deployments: [{{provider: outside, model: gpt-4o}}, {{provider: house, model: gpt-4o}}]}}
          - {{name: embed, deployments: [{{provider: outside, model: text-embedding-3-small}}]}}
    """


def sent(player: Player) -> str:
    return "\n".join(request.body.decode() for request in player.requests)


def body(text: str = PROMPT, model: str = "chat", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, **more}


async def streamed(g: Running, text: str) -> str:
    chunks = await g.openai.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": text}], stream=True
    )
    said = [chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]
    return "".join(said)


async def test_off_unless_it_is_turned_on(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)

    answer = await g.client.post("/v1/chat/completions", json=body())

    assert answer.status_code == 200
    assert "x-sensitivity" not in answer.headers
    assert GITHUB in sent(provider)


@pytest.mark.parametrize("action", ["refuse", "reroute", "redact"])
async def test_harmless_text_passes_as_it_is(gateway: Serve, catalog: str, provider: Player, action: str) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action=action)

    answer = await g.client.post("/v1/chat/completions", json=body(HARMLESS))

    assert answer.headers["x-sensitivity"] == "score=0.00; categories=none; action=none"
    assert HARMLESS in sent(provider)


async def test_refused_with_the_categories_and_never_the_text(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action="refuse")

    answer = await g.client.post("/v1/chat/completions", json=body())

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "sensitive_content")
    assert "personal, secret" in answer.json()["error"]["message"]
    assert answer.headers["x-sensitivity"] == "score=1.00; categories=personal,secret; action=refuse"
    assert GITHUB not in answer.text
    assert provider.requests_total == 0


@pytest.mark.parametrize("model", ["chat", "mixed"])
async def test_rerouted_to_a_provider_that_may_see_it(
    gateway: Serve, catalog: str, provider: Player, house: Player, model: str
) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action="reroute")

    answer = await g.client.post("/v1/chat/completions", json=body(model=model))

    assert answer.status_code == 200
    assert answer.headers["x-provider"] == "house"
    assert answer.headers["x-sensitivity"].endswith("action=reroute")
    assert provider.requests_total == 0
    assert GITHUB in sent(house)


async def test_a_failing_provider_is_never_a_way_out(
    gateway: Serve, catalog: str, provider: Player, house: Player
) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, retry__max_retries=1)
    house.always(house.wire.error(503, "down"))

    answer = await g.client.post("/v1/chat/completions", json=body(model="mixed"))

    assert answer.status_code == 502
    assert provider.requests_total == 0


async def test_redacted_for_the_provider_and_restored_for_the_client(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action="redact")

    answer = await g.client.post("/v1/chat/completions", json=body())

    assert answer.json()["choices"][0]["message"]["content"] == f"revoke {GITHUB} of {MAIL} [EMAIL_1]"
    assert answer.headers["x-sensitivity"].endswith("action=redact")
    assert "revoke [GITHUB_TOKEN_1] of [EMAIL_2] [EMAIL_1]" in sent(provider)
    assert GITHUB not in sent(provider)
    assert MAIL not in sent(provider)


async def test_a_kept_answer_is_restored_as_well(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action="redact")

    answers = [await g.client.post("/v1/chat/completions", json=body()) for _ in range(2)]

    assert [answer.headers["x-cache-status"] for answer in answers] == ["MISS", "HIT"]
    assert answers[0].json()["choices"] == answers[1].json()["choices"]
    assert provider.requests_total == 1


def _by_bytes(step: Step) -> Step:
    return step.split(1)


async def test_a_stream_in_single_bytes_is_restored(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action="redact")
    provider.always(_by_bytes)

    assert await streamed(g, PROMPT) == f"revoke {GITHUB} of {MAIL} [EMAIL_1]"
    assert GITHUB not in sent(provider)


async def test_a_placeholder_in_single_characters_is_restored(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action="redact")

    def by_characters(step: Step) -> Step:
        events = []
        for char in "use [GITHUB_TOKEN_1] now [":
            choice = {"index": 0, "delta": {"content": char}, "finish_reason": None}
            events.append(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n")
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        events.append(b"data: " + json.dumps({"id": "c", "choices": [end]}).encode() + b"\n\ndata: [DONE]\n\n")
        return Step(headers=step.headers, framing="chunked").then(*events)

    provider.always(by_characters)

    assert await streamed(g, f"revoke {GITHUB}") == f"use {GITHUB} now ["


@pytest.mark.parametrize("action", ["refuse", "redact"])
async def test_prompts_and_inputs_are_looked_at_like_messages(
    gateway: Serve, catalog: str, provider: Player, action: str
) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action=action)
    tries = [
        await g.client.post("/v1/completions", json={"model": "text", "prompt": PROMPT}),
        await g.client.post("/v1/embeddings", json={"model": "embed", "input": [HARMLESS, PROMPT]}),
    ]

    assert {answer.status_code for answer in tries} == {403 if action == "refuse" else 200}
    assert GITHUB not in sent(provider)


async def test_own_words_and_patterns_hold_and_a_catastrophic_one_stays_fast(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    patterns = json.dumps([r"EMP-\d{6}", r"(a+)+\$$"])
    g = await gateway(
        catalog,
        sensitivity__enabled=True,
        sensitivity__action="redact",
        sensitivity__keywords="Falcon",
        sensitivity__patterns=patterns,
    )
    started = time.perf_counter()

    await g.client.post("/v1/chat/completions", json=body("a" * 50_000 + "! EMP-204518 asks about FALCON"))

    assert time.perf_counter() - started < 5
    assert "! [CUSTOM_1] asks about [KEYWORD_1]" in sent(provider)


async def test_what_is_kept_for_a_repeated_request_holds_placeholders_and_no_secret(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    long = f"{PROMPT} {HARMLESS * 40}"  # so long that it is kept compressed
    with redis_server() as server:
        g = await gateway(
            catalog, redis_url=server.url, sensitivity__enabled=True, sensitivity__action="redact", cache__enabled=False
        )
        wanted: list[dict[str, Any]] = [{}, {"stream": True}, {"text": long}]
        for key, fields in enumerate(wanted):
            headers = {"Idempotency-Key": f"again-{key}"}
            answers = [
                await g.client.post("/v1/chat/completions", json=body(**fields), headers=headers) for _ in range(2)
            ]

            assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]
            assert answers[0].content == answers[1].content
            assert fields.get("stream") or GITHUB in answers[1].text
        stored = _stored(server.url)

    assert len(stored) == 3
    assert all(b"[GITHUB_TOKEN_1]" in value and GITHUB.encode() not in value for value in stored)
    assert provider.requests_total == 3


def _stored(url: str) -> list[bytes]:
    """Give all answers that are kept for repeated requests; before each there is how it is kept, and a digest."""
    with redis.Redis.from_url(url) as store:
        values = [value for key in store.scan_iter("llmgw:idem:*") if (value := store.get(key))]
    return [zlib.decompress(value[33:]) if value[:1] == b"z" else value[33:] for value in values]


async def test_each_decision_is_in_the_audit_log_without_the_text(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, sensitivity__enabled=True, sensitivity__action="refuse", admin_key=ADMIN_KEY)
    with pytest.raises(openai.PermissionDeniedError):
        await g.openai.chat.completions.create(model="chat", messages=[{"role": "user", "content": PROMPT}])
    await g.client.post("/v1/chat/completions", json=body(HARMLESS))

    with anyio.fail_after(10):
        rows: list[dict[str, object]] = []
        while not rows:
            log = await administer(g.url, "GET", "/admin/audit")
            rows = [row for row in log["items"] if row["action"].startswith("sensitivity.")]

    (row,) = rows
    assert row["action"] == "sensitivity.refuse"
    assert row["details"] == {"score": 1.0, "categories": ["personal", "secret"]}
    assert GITHUB not in json.dumps(rows)
