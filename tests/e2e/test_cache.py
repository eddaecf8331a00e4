"""Kept answers, as clients see them (pitfalls, group F)."""

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from tests.conftest import Serve
from tests.running import NO_TLS, Running
from tests.served import served
from tests.services import redis_server
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Step, json_step

ASKED: dict[str, Any] = {
    "model": "chat",
    "temperature": 0,
    "messages": [{"role": "user", "content": "one two three four five six seven eight"}],
}
TOOLS = [{"type": "function", "function": {"name": "weather", "strict": True, "parameters": {"type": "object"}}}]


async def ask(running: Running, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
    response = await running.client.post("/v1/chat/completions", json=ASKED | fields, headers=headers or {})
    await response.aread()
    return response


async def statuses(running: Running, times: int, headers: dict[str, str] | None = None, **fields: Any) -> list[str]:
    return [(await ask(running, headers, **fields)).headers["x-cache-status"] for _ in range(times)]


async def test_the_same_question_costs_once(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog)

    first, second = await ask(running), await ask(running)

    assert second.content == first.content
    assert (first.headers["x-cache-status"], second.headers["x-cache-status"]) == ("MISS", "HIT")
    assert (second.headers["x-cache-type"], second.headers["x-cost-usd"]) == ("exact", "0")
    assert (second.headers["x-provider"], second.headers["x-attempts"]) == ("main", "0")
    assert provider.requests_total == 1


async def test_only_answers_that_would_be_the_same_again_are_kept(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog)

    assert await statuses(running, 2, temperature=1) == ["BYPASS", "BYPASS"]
    assert await statuses(running, 2, temperature=1, seed=7) == ["MISS", "HIT"]
    embedded = [await running.client.post("/v1/embeddings", json={"model": "embed", "input": "a"}) for _ in range(2)]
    assert [response.headers["x-cache-status"] for response in embedded] == ["MISS", "HIT"]
    assert embedded[0].content == embedded[1].content


@pytest.mark.parametrize(
    ("mode", "headers", "expected"),
    [
        ("all", {}, ["MISS", "HIT"]),
        ("opt_in", {}, ["BYPASS", "BYPASS"]),
        ("opt_in", {"X-Cache-TTL": "60"}, ["MISS", "HIT"]),
    ],
)
async def test_the_mode_says_what_else_is_kept(
    gateway: Serve, catalog: str, mode: str, headers: dict[str, str], expected: list[str]
) -> None:
    running = await gateway(catalog, cache__mode=mode)

    assert await statuses(running, 2, headers, temperature=1) == expected


async def test_nothing_is_kept_when_it_is_switched_off(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, cache__enabled=False)

    assert await statuses(running, 2) == ["BYPASS", "BYPASS"]


async def test_no_cache_asks_again_and_no_store_leaves_no_trace(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog)
    await ask(running)

    assert await statuses(running, 1, {"Cache-Control": "no-cache"}) == ["MISS"]
    assert await statuses(running, 1, {"Cache-Control": "no-store"}) == ["BYPASS"]
    assert await statuses(running, 1, {"Cache-Control": "no-store"}, seed=1) == ["BYPASS"]
    assert await statuses(running, 1, seed=1) == ["MISS"]
    assert await statuses(running, 1) == ["HIT"]
    assert provider.requests_total == 5


async def test_a_time_to_live_is_the_clients_to_choose(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog)
    assert await statuses(running, 2, {"X-Cache-TTL": "0.3"}) == ["MISS", "HIT"]

    with anyio.fail_after(5):
        while (await statuses(running, 1)) == ["HIT"]:  # noqa: ASYNC110  nobody is told of its end
            await asyncio.sleep(0.02)

    assert provider.requests_total == 2
    wrong = await ask(running, {"X-Cache-TTL": "soon"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "X-Cache-TTL")


DIFFERENT: list[dict[str, Any]] = [
    {"tools": TOOLS},
    {"tools": TOOLS, "tool_choice": "none"},
    {"response_format": {"type": "json_object"}},
    {"max_tokens": 3},
    {"top_p": 0.5},
    {"logprobs": True},
    {"a_field_of_its_own": True},
]


async def test_pitfall_050_051_questions_that_differ_share_nothing(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog)

    found = [(await ask(running, **fields)).headers["x-cache-status"] for fields in [{}, *DIFFERENT]]

    assert found == ["MISS"] * len(found)
    assert (await ask(running, user="bob", metadata={"a": "b"})).headers["x-cache-status"] == "HIT"


async def test_pitfall_052_a_keys_answers_are_its_own(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog, auth__mode="gateway", auth__gateway_keys="key-of-alice-0001,key-of-bob-000002")
    alice, bob = ({"Authorization": f"Bearer {key}"} for key in ("key-of-alice-0001", "key-of-bob-000002"))

    assert await statuses(running, 2, alice) == ["MISS", "HIT"]
    assert await statuses(running, 2, bob) == ["MISS", "HIT"]
    assert provider.requests_total == 2


async def test_pitfall_052_organizations_share_nothing_unless_it_is_wanted(gateway: Serve, catalog: str) -> None:
    apart = await gateway(catalog)
    acme, other = {"X-Organization-ID": "acme"}, {"X-Organization-ID": "other"}

    assert await statuses(apart, 2, acme) == ["MISS", "HIT"]
    assert await statuses(apart, 1, other) == ["MISS"]
    together = await gateway(catalog, cache__scope="global")
    assert await statuses(together, 1, acme) == ["MISS"]
    assert await statuses(together, 1, other) == ["HIT"]


async def test_pitfall_052_what_is_kept_stays_within_its_bounds(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog, cache__max_entries=10)

    for seed in range(30):
        await ask(running, seed=seed)

    assert await statuses(running, 1, seed=29) == ["HIT"]
    assert await statuses(running, 1, seed=1) == ["MISS"]


async def deltas(running: Running, **fields: Any) -> tuple[list[Any], Any]:
    """Ask for a stream with OpenAI's SDK: what each chunk brought, and the usage."""
    stream = await running.openai.chat.completions.create(**(ASKED | {"stream": True} | fields))
    found, usage = [], None
    async for chunk in stream:
        usage = chunk.usage or usage
        found += [(choice.delta.model_dump(exclude_unset=True), choice.finish_reason) for choice in chunk.choices]
    return found, usage


async def test_pitfall_053_a_kept_stream_has_the_same_pieces(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog)
    asked: dict[str, Any] = {"stream_options": {"include_usage": True}}

    first, second = await deltas(running, **asked), await deltas(running, **asked)

    assert second == first
    assert len(second[0]) > 4
    assert second[1].completion_tokens > 0
    assert provider.requests_total == 1
    response = await ask(running, stream=True, **asked)
    assert response.headers["x-cache-status"] == "HIT"
    assert response.content.endswith(b"data: [DONE]\n\n")
    assert response.content.count(b"data: ") > 5


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS}, {"n": 2}, {"logprobs": True}])
async def test_pitfall_053_streams_are_made_of_whole_answers(
    gateway: Serve, provider: Player, catalog: str, fields: dict[str, Any]
) -> None:
    running = await gateway(catalog)
    whole = await running.openai.chat.completions.create(**(ASKED | fields))

    async with running.openai.chat.completions.stream(**(ASKED | fields)) as stream:
        chunks = [event async for event in stream if event.type == "chunk"]
        found = await stream.get_final_completion()

    assert provider.requests_total == 1
    assert len(chunks) > 2
    for ours, theirs in zip(found.choices, whole.choices, strict=True):
        assert ours.message.content == theirs.message.content
        assert ours.finish_reason == theirs.finish_reason
        assert (ours.logprobs and ours.logprobs.content) == (theirs.logprobs and theirs.logprobs.content)
        assert [call.id for call in ours.message.tool_calls or ()] == [
            call.id for call in theirs.message.tool_calls or ()
        ]


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS}, {"n": 2}])
async def test_pitfall_053_whole_answers_are_made_of_streams(
    gateway: Serve, provider: Player, catalog: str, fields: dict[str, Any]
) -> None:
    running = await gateway(catalog)
    async with running.openai.chat.completions.stream(**(ASKED | fields)) as stream:
        streamed = await stream.get_final_completion()

    whole = await running.openai.chat.completions.create(**(ASKED | fields))

    assert provider.requests_total == 1
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    for ours, theirs in zip(whole.choices, streamed.choices, strict=True):
        assert (ours.message.content or None) == (theirs.message.content or None)
        assert ours.finish_reason == theirs.finish_reason


async def test_a_legacy_completion_is_kept_as_well(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog)
    asked: dict[str, Any] = {"model": "chat", "prompt": "one two three four", "temperature": 0}
    whole = await running.openai.completions.create(**asked)

    stream = await running.openai.completions.create(**asked, stream=True)
    texts = [chunk.choices[0].text async for chunk in stream if chunk.choices]

    assert "".join(texts) == whole.choices[0].text
    assert provider.requests_total == 1


async def leave(running: Running, **fields: Any) -> None:
    """Ask, in the words that httpx uses, and hang up."""
    body = json.dumps(ASKED | fields, separators=(",", ":")).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("play", "fields"),
    [
        (lambda step: step.cut(pieces=4), {"stream": True}),
        (lambda step: step.first(4), {"stream": True}),
        (Step(500), {}),
        (None, {"max_tokens": 2}),
        (None, {"max_tokens": 2, "stream": True}),
    ],
)
async def test_pitfall_055_what_was_cut_or_failed_is_asked_again(
    gateway: Serve, provider: Player, catalog: str, play: Any, fields: dict[str, Any]
) -> None:
    running = await gateway(catalog, retry__max_retries=0)
    if play is not None:
        provider.script(play)
    await ask(running, **fields)

    assert (await ask(running, **fields)).headers["x-cache-status"] == "MISS"
    assert provider.requests_total == 2


async def at_once(client: httpx2.AsyncClient, count: int, **fields: Any) -> list[httpx2.Response]:
    asking = [client.post("/v1/chat/completions", json=ASKED | fields) for _ in range(count)]
    return list(await asyncio.gather(*asking))


@pytest.mark.alone
async def test_pitfall_054_a_hundred_at_once_are_one_call(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog)
    provider.always(lambda step: step.delayed(0.7))

    found = await at_once(running.client, 100)

    assert provider.requests_total == 1
    assert {response.content for response in found} == {found[0].content}
    told = [response.headers["x-cache-status"] for response in found]
    assert (told.count("MISS"), told.count("COALESCED")) == (1, 99)


@pytest.mark.alone
async def test_pitfall_054_one_who_leaves_takes_nothing_from_the_others(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    running = await gateway(catalog)
    provider.always(lambda step: step.delayed(0.5))
    asking = asyncio.ensure_future(at_once(running.client, 3))
    await provider.until(lambda: provider.in_flight == 1)

    await leave(running)
    found = await asking

    assert provider.requests_total == 1
    assert {response.status_code for response in found} == {200}


@pytest.mark.alone
@pytest.mark.parametrize("fields", [{}, {"stream": True}])
async def test_pitfall_054_when_the_one_who_asked_leaves_another_asks(
    gateway: Serve, provider: Player, catalog: str, fields: dict[str, Any]
) -> None:
    running = await gateway(catalog)
    provider.script(lambda step: step.delayed(10))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(running, **fields))
        await provider.until(lambda: provider.in_flight == 1)
        others = [group.create_task(ask(running)) for _ in range(3)]
        await running_tasks(running, 4)
        first.cancel()

    assert sorted(other.result().headers["x-cache-status"] for other in others) == ["COALESCED", "COALESCED", "MISS"]
    assert provider.requests_total == 2


async def running_tasks(running: Running, count: int) -> None:
    with anyio.fail_after(5):
        while len(running.app.state.running.tasks) < count:  # noqa: ASYNC110  the product has no event for it
            await asyncio.sleep(0.005)


async def test_when_it_fails_each_asks_for_itself(gateway: Serve, provider: Player, catalog: str) -> None:
    running = await gateway(catalog, retry__max_retries=0)
    provider.always(provider.wire.error(500, "down").delayed(0.3))

    found = await at_once(running.client, 3)

    assert {response.status_code for response in found} == {502}
    assert provider.requests_total == 3


async def test_a_question_that_means_the_same_is_answered(gateway: Serve, provider: Player, catalog: str) -> None:
    semantic = "semantic_cache: {embedding_model: embed, threshold: 0.9}"
    running = await gateway(catalog.replace("model: gpt-4o}]}", "model: gpt-4o}], " + semantic + "}"))

    def vector(*numbers: float) -> Step:
        row = {"object": "embedding", "index": 0, "embedding": numbers}
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return json_step({"object": "list", "data": [row], "model": "e", "usage": usage})

    provider.script(vector(1, 0), lambda step: step, vector(0.99, 0.1), vector(0, 1))

    def said(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}]}

    first, like, other = [await ask(running, **said(text)) for text in ("France's capital", "capital of France", "x")]

    assert like.content == first.content
    assert (like.headers["x-cache-status"], like.headers["x-cache-type"]) == ("HIT", "semantic")
    assert float(like.headers["x-cache-similarity"]) == pytest.approx(0.9949, abs=1e-3)
    assert other.headers["x-cache-status"] == "MISS"


CATALOG = """
providers:
  main: {{provider: openai, api_key: sk-upstream, api_base: "{base}"}}
models:
  - {{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}
"""


@pytest.mark.timeout(60)
async def test_pitfall_054_four_processes_and_one_redis_make_one_call(tmp_path: Path) -> None:
    async with Player(OpenAIWire()) as provider:
        provider.always(lambda step: step.delayed(1.5))
        with redis_server() as redis:
            settings = {"workers": 4, "redis_url": redis.url}
            async with served(
                tmp_path, CATALOG.format(base=provider.base), settings=settings, measured=False
            ) as gateway:
                found = []

                async def one() -> None:
                    # A connection each, so that all workers have some of them.
                    async with httpx2.AsyncClient(base_url=gateway.url, timeout=20, verify=NO_TLS) as client:
                        found.append(await client.post("/v1/chat/completions", json=ASKED))

                async with anyio.create_task_group() as group:
                    for _ in range(50):
                        group.start_soon(one)
                again = await gateway.client.post("/v1/chat/completions", json=ASKED)

    assert provider.requests_total == 1
    assert {response.content for response in found} == {again.content}
    assert again.headers["x-cache-status"] == "HIT"


@pytest.mark.alone
@pytest.mark.timeout(60)
async def test_the_death_of_the_process_that_asks_frees_the_rest(tmp_path: Path) -> None:
    """Its claim lasts five seconds."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with Player(OpenAIWire()) as provider:
        provider.script(lambda step: step.delayed(25))
        catalog = CATALOG.format(base=provider.base)
        with redis_server() as redis:
            settings = {"redis_url": redis.url}
            async with (
                served(tmp_path / "one", catalog, settings=settings) as one,
                served(tmp_path / "two", catalog, settings=settings) as two,
                anyio.create_task_group() as group,
            ):
                group.start_soon(_until_killed, one.client)
                await provider.until(lambda: provider.in_flight == 1)
                waiting = asyncio.ensure_future(two.client.post("/v1/chat/completions", json=ASKED))
                await asyncio.wait((waiting,), timeout=1)
                assert provider.requests_total == 1

                killed = one.signal(signal.SIGKILL)
                response = await waiting

    assert (response.status_code, response.headers["x-cache-status"]) == (200, "MISS")
    assert time.perf_counter() - killed < 6.5
    assert provider.requests_total == 2


async def _until_killed(client: httpx2.AsyncClient) -> None:
    with pytest.raises(httpx2.HTTPError):
        await client.post("/v1/chat/completions", json=ASKED)


async def test_openais_sdk_reads_what_was_kept(gateway: Serve, catalog: str) -> None:
    running = await gateway(catalog)
    asked = [await running.openai.chat.completions.with_raw_response.create(**ASKED) for _ in range(2)]

    assert [each.headers["x-cache-status"] for each in asked] == ["MISS", "HIT"]
    first, second = [each.parse() for each in asked]
    assert isinstance(first, openai.types.chat.ChatCompletion)
    assert first == second
