"""The orderly end of a process (pitfalls, group N)."""

import asyncio
import json
import signal
import time
from pathlib import Path

import httpx2
import pytest

from tests.running import NO_TLS
from tests.served import Served, served
from tests.upstreams.server import Player
from tests.upstreams.step import stream_step

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def catalog_of(provider: Player) -> str:
    return f"""
providers: {{main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}"}}}}
models: [{{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}]
"""


async def stream(gateway: Served, seen: asyncio.Event | None = None) -> bytes:
    body = b""
    async with gateway.client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        async for piece in response.aiter_raw():
            body += piece
            if seen is not None:
                seen.set()
    return body


@pytest.mark.alone
async def test_pitfall_100_streams_in_flight_finish_and_the_exit_is_clean(provider: Player, tmp_path: Path) -> None:
    provider.always(stream_step([EVENT] * 20 + [STOP, DONE]).paced(0.1))
    async with served(tmp_path, catalog_of(provider), settings={"shutdown_grace_s": 10}) as gateway:
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(stream(gateway)) for _ in range(20)]
            await provider.until(lambda: provider.in_flight == 20)
            gateway.signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            with pytest.raises(httpx2.TransportError):
                await httpx2.AsyncClient(verify=NO_TLS).get(f"{gateway.url}/health")

        assert {task.result() for task in streams} == {EVENT * 20 + STOP + DONE}
        assert await gateway.ended(within_s=5) == 0


@pytest.mark.alone
async def test_what_is_left_after_the_grace_ends_with_an_error_event(provider: Player, tmp_path: Path) -> None:
    provider.always(stream_step([EVENT]).endless(pieces=1, pause_s=0.05))
    async with served(tmp_path, catalog_of(provider), settings={"shutdown_grace_s": 1}) as gateway:
        async with asyncio.TaskGroup() as group:
            seen = asyncio.Event()
            endless = group.create_task(stream(gateway, seen))
            await seen.wait()
            told = gateway.signal(signal.SIGTERM)

        last = endless.result().strip().rpartition(b"\n\n")[2]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "shutting_down"
        assert b"[DONE]" not in endless.result()
        assert 0.9 < time.perf_counter() - told < 3
        assert await gateway.ended(within_s=3) == 0
        await provider.until(lambda: provider.in_flight == 0, within_s=1)


@pytest.mark.alone
async def test_a_whole_answer_is_waited_for_then_given_up(provider: Player, tmp_path: Path) -> None:
    provider.always(lambda step: step.delayed(30))
    async with served(tmp_path, catalog_of(provider), settings={"shutdown_grace_s": 1}) as gateway:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(gateway.client.post("/v1/chat/completions", json=CHAT))
            await provider.until(lambda: provider.in_flight == 1)
            gateway.signal(signal.SIGTERM)

        assert asked.result().status_code == 503
        assert asked.result().json()["error"]["code"] == "shutting_down"
        assert await gateway.ended(within_s=3) == 0


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_idle_gateway_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with served(tmp_path) as gateway:
        gateway.signal(number)

        assert await gateway.ended(within_s=3) == 0


async def test_several_workers_serve_and_end_together(provider: Player, tmp_path: Path) -> None:
    async with served(tmp_path, catalog_of(provider), settings={"workers": 2}, first=True) as gateway:
        for _ in range(6):
            async with httpx2.AsyncClient(timeout=20, verify=NO_TLS) as client:
                answer = await client.post(f"{gateway.url}/v1/chat/completions", json=CHAT)
                assert answer.status_code == 200
        gateway.signal(signal.SIGTERM)

        assert await gateway.ended(within_s=15) == 0
        lines = [line for line in gateway.logs() if line["event"] == "llm_request_complete"]
        assert len(lines) == 6, "a worker's last lines are written before it goes"


@pytest.mark.alone
async def test_pitfall_071_health_answers_within_a_second_or_two(tmp_path: Path) -> None:
    started = time.perf_counter()
    async with served(tmp_path, first=True) as gateway:
        assert (await gateway.client.get("/health")).json()["status"] == "ok"
        # The goal is 1.0 s on a quiet machine (docs/performance.md); the limit here has a margin of three.
        assert time.perf_counter() - started < 3.0


@pytest.mark.alone
async def test_pitfall_090_a_model_taken_away_is_gone_from_every_worker(provider: Player, tmp_path: Path) -> None:
    async with served(tmp_path, catalog_of(provider), settings={"workers": 2}) as gateway:
        (tmp_path / "gateway.yaml").write_text(catalog_of(provider).replace("name: chat", "name: talk"))
        await asyncio.sleep(2)

        statuses = set()
        for _ in range(30):
            async with httpx2.AsyncClient(timeout=20, verify=NO_TLS) as client:
                statuses.add((await client.post(f"{gateway.url}/v1/chat/completions", json=CHAT)).status_code)

    assert statuses == {404}
