"""Clients that leave (pitfalls, group B): the upstream is told within a second, and nothing stays behind."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import anyio
import httpx2
import pytest

from tests.conftest import Serve
from tests.running import NO_TLS, Running
from tests.upstreams.server import Player
from tests.upstreams.step import stream_step

pytestmark = pytest.mark.alone

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


async def leave_after(served: Running, seconds: float, **fields: object) -> float:
    """Ask, hang up, and say when."""
    body = json.dumps(CHAT | fields).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await asyncio.sleep(seconds)
    writer.close()
    return time.perf_counter()


async def settled(served: Running) -> None:
    with anyio.fail_after(2):
        while served.app.state.running.tasks:  # noqa: ASYNC110  the product has no event for it
            await asyncio.sleep(0.01)


async def test_pitfall_020_a_whole_answer_nobody_waits_for_is_not_made(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)
    provider.always(lambda step: step.delayed(10))

    left = await leave_after(served, 0.15)

    await provider.until(lambda: len(provider.cancels) == 1)
    assert provider.cancels[0].noticed - left < 1
    line = await served.logged("llm_request_error")
    assert (line["status"], line["error_code"]) == (499, "client_closed_request")


async def test_one_that_leaves_at_once_is_seen_too(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.always(lambda step: step.delayed(10))

    left = await leave_after(served, 0.02)

    await provider.until(lambda: len(provider.cancels) == 1)
    assert provider.cancels[0].noticed - left < 1


async def test_pitfall_021_leaving_before_the_first_token_ends_the_generation(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)
    provider.always(stream_step([]).silent(pieces=0))

    left = await leave_after(served, 0.2, stream=True)

    await provider.until(lambda: len(provider.cancels) == 1)
    assert provider.cancels[0].noticed - left < 1


async def test_pitfall_022_streams_stop_when_their_clients_are_cut(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)
    provider.always(stream_step([EVENT]).endless(pieces=1, pause_s=0.05))

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(leave_after(served, 0.5, stream=True))

    await provider.until(lambda: provider.in_flight == 0, within_s=2)
    await provider.until(lambda: provider.open_connections == 0, within_s=2)
    # What their clients were given is counted, for the ledger, before their places are free.
    await settled(served)


async def test_pitfall_023_slots_come_back_from_every_phase(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, max_concurrent_requests=2)
    provider.always(stream_step([EVENT, EVENT]).silent(pieces=1))
    for number in range(12):
        await leave_after(served, 0.01 * number, stream=number % 2 == 0)
        await provider.until(lambda: provider.in_flight == 0, within_s=2)
        await settled(served)
    provider.always(None)

    answers = await asyncio.gather(*(served.client.post("/v1/chat/completions", json=CHAT) for _ in range(2)))

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_more_than_the_limit_are_told_to_come_again(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, max_concurrent_requests=1)
    provider.always(lambda step: step.delayed(0.5))

    async with asyncio.TaskGroup() as group:
        first = group.create_task(served.client.post("/v1/chat/completions", json=CHAT))
        await provider.until(lambda: provider.in_flight == 1)
        second = await served.client.post("/v1/chat/completions", json=CHAT)
        health = await served.client.get("/health")

    assert first.result().status_code == 200
    assert (second.status_code, second.headers["retry-after"], second.headers["x-should-retry"]) == (503, "1", "true")
    assert health.status_code == 200


async def test_pitfall_025_nobody_is_taken_for_gone_who_is_there(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    """A body that arrives in pieces, keep-alive, answers slower than the watch: no false cancels."""
    served = await gateway(catalog)
    provider.always(lambda step: step.delayed(0.15))
    body = json.dumps(CHAT).encode()

    async def pieces_of_body() -> AsyncIterator[bytes]:
        for byte in range(0, len(body), 20):
            yield body[byte : byte + 20]
            await asyncio.sleep(0.03)

    answers = await asyncio.gather(
        *(served.client.post("/v1/chat/completions", content=pieces_of_body()) for _ in range(20)),
        *(served.client.post("/v1/chat/completions", json=CHAT) for _ in range(200)),
    )

    assert {answer.status_code for answer in answers} == {200}
    assert not provider.cancels


async def test_leaving_while_the_body_is_sent_makes_no_call(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    _, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()

    line = await served.logged("llm_request_error", status=499)

    assert line["error_code"] == "client_closed_request"
    assert provider.requests_total == 0


@pytest.mark.parametrize("streams", [300])
async def test_many_streams_at_once_each_whole(gateway: Serve, provider: Player, catalog: str, streams: int) -> None:
    served = await gateway(catalog)
    done = b"data: [DONE]\n\n"
    stop = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    provider.always(stream_step([EVENT] * 10 + [stop, done]).paced(0.05))
    limits = httpx2.Limits(max_connections=streams)

    async with httpx2.AsyncClient(base_url=served.url, limits=limits, timeout=20, verify=NO_TLS) as client:
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", json=CHAT | {"stream": True}) for _ in range(streams))
        )

    assert {answer.content for answer in answers} == {EVENT * 10 + stop + done}
    with contextlib.suppress(TimeoutError):
        await provider.until(lambda: provider.in_flight == 0)
    assert provider.in_flight == 0
