"""Bodies that are wrong, huge or strange (http-api.md, section 4; pitfalls, group H and 142)."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import httpx2
import psutil
import pytest

from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
MIB = 1024 * 1024


def with_window(catalog: str, tokens: int) -> str:
    """Give the model of a catalog this context window, so that a long prompt has room, or none."""
    return catalog.replace("model: gpt-4o", f"model: gpt-4o, context_length: {tokens}")


async def post(served: Running, body: bytes, path: str = "/v1/chat/completions") -> tuple[int, dict[str, object]]:
    answer = await served.client.post(path, content=body)
    return answer.status_code, answer.json()["error"]


@pytest.mark.alone
@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b'{"model":"chat","messages":"hi"}', "messages", "invalid_value"),
        (b'{"model":"chat","messages":[]}', "messages", "invalid_value"),
        (b'{"model":"chat","messages":[{"role":"robot","content":"x"}]}', "messages[0].role", "invalid_value"),
        (b'{"model":"chat","messages":[{"role":"user","content":7}]}', "messages[0].content", "invalid_value"),
        (b'{"messages":[{"role":"user","content":"x"}]}', "model", "invalid_value"),
        (b'{"model":"chat","messages":[{"role":"user","content":"\xff"}]}', None, "invalid_json"),
        (b'{"model":"chat","temperature":NaN,"messages":[]}', None, "invalid_json"),
        (b"[" * 100_000, None, "invalid_json"),
        (b"", None, "invalid_json"),
    ],
)
async def test_a_wrong_body_is_refused_at_once(
    gateway: Serve, provider: Player, catalog: str, body: bytes, param: str | None, code: str
) -> None:
    served = await gateway(catalog)
    started = time.perf_counter()

    status, error = await post(served, body)

    assert (status, error["code"], error["param"]) == (400, code, param)
    assert time.perf_counter() - started < 0.5
    assert provider.requests_total == 0
    assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def raw_exchange(served: Running, head: str, body: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    writer.write(head.replace("\n", "\r\n").encode() + body)
    try:
        async with asyncio.timeout(5):
            return await reader.read(65536)
    finally:
        writer.close()


@pytest.mark.alone
async def test_two_gigabytes_declared_are_refused_unread(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)
    started = time.perf_counter()

    answer = await raw_exchange(
        served, f"POST /v1/chat/completions HTTP/1.1\nHost: x\nContent-Length: {2 * 1024**3}\n\n", b"{" * 1000
    )

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["error"]["code"] == "request_too_large"
    assert time.perf_counter() - started < 1


async def test_a_client_that_sends_all_of_a_large_body_still_sees_the_answer(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog, max_body_bytes=MIB)

    status, error = await post(served, b"x" * (3 * MIB))

    assert (status, error["code"]) == (413, "request_too_large")


@pytest.mark.alone
async def test_pitfall_142_an_endless_chunked_body_costs_no_memory(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog, max_body_bytes=MIB)
    before = psutil.Process().memory_info().rss

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20_000):
            yield b"x" * 65536

    with contextlib.suppress(httpx2.TransportError):  # the connection may end while the client is still sending
        answer = await served.client.post("/v1/chat/completions", content=endless())
        assert answer.status_code == 413
    line = await served.logged("llm_request_error", status=413)

    assert line["error_code"] == "request_too_large"
    assert psutil.Process().memory_info().rss - before < 40 * MIB


@pytest.mark.parametrize(
    "head",
    [
        "POST /v1/chat/completions HTTP/1.1\nHost: x\nContent-Length: 5\nContent-Length: 6\n\n",
        "POST /v1/chat/completions HTTP/1.1\nHost: x\nContent-Length: 5\nContent-Length: 5\n\n",
        "POST /v1/chat/completions HTTP/1.1\nHost: x\nContent-Length: 5\nTransfer-Encoding: chunked\n\n",
        "POST /v1/chat/completions HTTP/1.1\nHost: x\nContent-Length: -5\n\n",
        "POST /v1/chat/completions HTTP/1.1\nHost: x\nContent-Length: 0x5\n\n",
    ],
)
async def test_a_length_that_can_be_read_two_ways_is_refused(gateway: Serve, catalog: str, head: str) -> None:
    served = await gateway(catalog)

    answer = await raw_exchange(served, head, b"hello")

    assert answer.startswith(b"HTTP/1.1 400")


async def test_compressed_bodies_are_refused_with_the_way_out(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)

    answer = await served.client.post("/v1/chat/completions", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 400
    assert "send the JSON as it is" in answer.json()["error"]["message"]


@pytest.mark.alone
async def test_all_bodies_together_have_a_limit(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(with_window(catalog, 20 * MIB), max_body_bytes=MIB, max_inflight_body_bytes=MIB)
    provider.always(lambda step: step.delayed(0.4))
    large = json.dumps(CHAT | {"messages": [{"role": "user", "content": "x" * (MIB - 90)}]})

    async with asyncio.TaskGroup() as group:
        first = group.create_task(served.client.post("/v1/chat/completions", content=large))
        await provider.until(lambda: provider.in_flight == 1)
        second = await served.client.post("/v1/chat/completions", json=CHAT)

    assert first.result().status_code == 200
    assert (second.status_code, second.headers["retry-after"]) == (503, "1")
    assert (await served.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


@pytest.mark.alone
async def test_a_body_that_stops_coming_holds_up_nobody(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)
    head = "POST /v1/chat/completions HTTP/1.1\nHost: x\nContent-Length: 500\n\n"

    answer = asyncio.ensure_future(raw_exchange(served, head, b"{"))
    await asyncio.sleep(0.3)
    ordinary = await served.client.post("/v1/chat/completions", json=CHAT)

    assert ordinary.status_code == 200, "nobody waits for the slow one"
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer


@pytest.mark.alone
@pytest.mark.parametrize(
    ("window", "code"),
    [
        pytest.param(20 * MIB, "invalid_value", id="passed on"),
        pytest.param(MIB, "context_length_exceeded", id="counted and refused"),
    ],
)
async def test_pitfall_010_a_huge_prompt_holds_up_nobody(
    gateway: Serve, provider: Player, catalog: str, window: int, code: str
) -> None:
    served = await gateway(with_window(catalog, window))
    provider.always(OpenAIWire().error(400, "no"))
    huge = json.dumps(CHAT | {"messages": [{"role": "user", "content": "word " * (2 * MIB)}]}).encode()
    waits = []

    async with asyncio.TaskGroup() as group:
        upload = group.create_task(served.client.post("/v1/chat/completions", content=huge))
        while not upload.done():
            started = time.perf_counter()
            await served.client.get("/health")
            waits.append(time.perf_counter() - started)

    assert (upload.result().status_code, upload.result().json()["error"]["code"]) == (400, code)
    assert provider.requests_total == (code == "invalid_value")
    assert sorted(waits)[len(waits) // 2] < 0.05


async def test_unknown_fields_reach_the_provider_untouched(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    extra = {"safety_identifier": "abc", "nested": {"a": [1, None, 2.5]}, "logit_bias": {"50256": -100}}

    await served.client.post("/v1/chat/completions", json=CHAT | extra)

    assert provider.last.json == CHAT | extra | {"model": "gpt-4o"}


async def test_pitfall_047_nothing_is_sent_that_the_client_did_not_send(gateway: Serve) -> None:
    async with Player(OpenAIWire(), strict=["model", "messages", "input", "prompt"]) as strict:
        served = await gateway(
            f"""
            providers: {{main: {{provider: openai, api_key: sk-upstream, api_base: "{strict.base}"}}}}
            models:
              - {{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}
            """
        )
        bodies = {
            "/v1/chat/completions": CHAT,
            "/v1/completions": {"model": "chat", "prompt": "hi"},
            "/v1/embeddings": {"model": "chat", "input": "hi"},
        }

        for path, body in bodies.items():
            assert (await served.client.post(path, json=body)).status_code == 200


async def test_catalog_defaults_fill_what_the_client_left_out(gateway: Serve, provider: Player) -> None:
    served = await gateway(
        f"""
        providers: {{main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}"}}}}
        models:
          - {{name: chat, defaults: {{temperature: 0.2, top_p: 0.9}}, deployments: [{{provider: main, model: m}}]}}
        """
    )

    await served.client.post("/v1/chat/completions", json=CHAT | {"top_p": 1})

    assert (provider.last.json["temperature"], provider.last.json["top_p"]) == (0.2, 1)


async def test_pitfall_077_one_client_one_connection(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)

    for _ in range(200):
        await served.client.post("/v1/chat/completions", json=CHAT)

    assert provider.connections == 1
