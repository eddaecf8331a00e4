"""Streams through the relay, as a client on a socket sees them (pitfalls, group A)."""

import asyncio
import json
import time
from itertools import pairwise
from statistics import median

import httpx2
import openai
import pytest

from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.server import Player
from tests.upstreams.step import Step, one_read_step, stream_step

BODY = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "one two three four five six"}]}


def events(*texts: str) -> list[bytes]:
    return [f'data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}\n\n'.encode() for text in texts]


STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\n'


async def raw(served: Running, **fields: object) -> tuple[httpx2.Response, bytes]:
    async with served.client.stream("POST", "/v1/chat/completions", json={**BODY, **fields}) as response:
        return response, b"".join([piece async for piece in response.aiter_raw()])


def error_of(stream: bytes) -> dict[str, object]:
    last = stream.strip().rpartition(b"\n\n")[2].removeprefix(b"data: ")
    error: dict[str, object] = json.loads(last)["error"]
    return error


@pytest.mark.parametrize("size_bytes", [1, 7, 100_000])
async def test_pitfall_015_events_cut_anywhere_arrive_unchanged(
    gateway: Serve, provider: Player, catalog: str, size_bytes: int
) -> None:
    served = await gateway(catalog)
    whole = b"".join([*events("grüße", "🙂", "你好"), STOP, DONE])
    provider.script(stream_step([whole]).split(size_bytes))

    response, body = await raw(served)

    assert body == whole
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"


async def test_events_with_crlf_arrive_unchanged(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    whole = b"".join([*events("a", "b"), STOP, DONE]).replace(b"\n", b"\r\n")
    provider.script(stream_step([whole]).split(5))

    assert (await raw(served))[1] == whole


async def test_pitfall_013_a_stream_ends_with_exactly_done(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)

    assert (await raw(served))[1].endswith(b"}\n\ndata: [DONE]\n\n")


@pytest.mark.alone
async def test_pitfall_008_chunks_leave_as_they_arrive(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.script(stream_step([*events(*"abcdefgh"), STOP + DONE]).paced(0.05))

    async with served.client.stream("POST", "/v1/chat/completions", json=BODY) as response:
        arrivals = [time.perf_counter() async for _ in response.aiter_raw()]

    gaps = [b - a for a, b in pairwise(arrivals)]
    assert len(arrivals) == 9
    assert abs(median(gaps) - 0.05) < 0.02


async def test_pitfall_018_usage_is_asked_for_and_kept_from_who_did_not_ask(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)

    answers = [await raw(served), await raw(served, stream_options={"include_usage": True})]
    quiet, asked = (body for _, body in answers)

    assert all(request.json["stream_options"]["include_usage"] for request in provider.requests)
    assert b'"choices":[]' not in quiet
    assert asked.count(b'"choices":[]') == 1
    for response, _ in answers:
        request_id = response.headers["x-gateway-request-id"]
        line = await served.logged("llm_request_complete", request_id=request_id)
        assert line["prompt_tokens"] > 0


@pytest.mark.parametrize("ending", ["fin", "reset", "whole"])
async def test_pitfall_002_a_cut_stream_is_not_taken_for_whole(
    gateway: Serve, provider: Player, catalog: str, ending: str
) -> None:
    served = await gateway(catalog)
    step = stream_step(events(*"abcde"))
    provider.script(step if ending == "whole" else step.cut(pieces=5, reset=ending == "reset"))

    body = (await raw(served))[1]

    assert b"[DONE]" not in body
    assert error_of(body)["code"] == "provider_unavailable"
    line = await served.logged("llm_request_error")
    assert (line["status"], line["error_code"]) == (200, "provider_unavailable")


async def test_half_an_event_is_never_glued_to_the_error(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    first, second = events("a", "b")
    provider.script(stream_step([first, second[:20]]).cut(pieces=2))

    body = (await raw(served))[1]

    assert body.startswith(first + b'data: {"error"')


async def test_the_sdk_raises_when_a_stream_breaks(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.script(stream_step(events(*"abc")).cut(pieces=3))
    stream = await served.openai.chat.completions.create(
        model="chat", stream=True, messages=[{"role": "user", "content": "hi"}]
    )

    seen = [(await anext(stream)).choices[0].delta.content for _ in range(3)]
    with pytest.raises(openai.APIError, match="openai"):
        await anext(stream)

    assert seen == ["a", "b", "c"]


async def test_a_provider_that_leaves_done_out_is_whole_when_it_said_why_it_stops(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)
    provider.script(stream_step([*events("a"), STOP]))

    assert (await raw(served))[1] == events("a")[0] + STOP + DONE


async def test_pitfall_001_an_error_event_is_an_error(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    failure = b'data: {"error":{"message":"The server had an error","type":"server_error","code":null}}\n\n'
    provider.script(stream_step([*events(*"abc"), failure, DONE]))

    body = (await raw(served))[1]

    assert body.startswith(b"".join(events(*"abc")))
    assert b"[DONE]" not in body
    assert error_of(body)["message"] == "The server had an error"
    assert error_of(body)["code"] == "provider_unavailable"


@pytest.mark.parametrize(
    "step",
    [
        stream_step([]),
        stream_step([b"\n\n"]),
        Step(headers={"content-type": "text/event-stream"}, framing="length"),
    ],
)
async def test_pitfall_016_an_empty_stream_is_a_bad_gateway(
    gateway: Serve, provider: Player, catalog: str, step: Step
) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    provider.script(step)

    response, body = await raw(served)

    assert response.status_code == 502
    assert json.loads(body)["error"]["code"] == "provider_unavailable"


async def test_an_error_as_the_first_event_is_a_plain_http_error(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    provider.script(stream_step([b'data: {"error":{"message":"Rate limit","type":"rate_limit_error"}}\n\n']))

    response, body = await raw(served)

    assert response.status_code == 429
    assert json.loads(body)["error"]["code"] == "provider_rate_limited"


async def test_an_error_before_the_first_event_is_retried_unseen(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)
    provider.script(provider.wire.error(503, "overloaded"), stream_step([*events("a"), STOP, DONE]))

    response, body = await raw(served)

    assert (response.status_code, response.headers["x-attempts"]) == (200, "2")
    assert body == events("a")[0] + STOP + DONE


async def test_pitfall_004_after_the_first_byte_nothing_is_retried(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog)
    provider.script(stream_step(events("a")).cut(pieces=1))

    body = (await raw(served))[1]

    assert provider.requests_total == 1
    assert body.count(b'"content":"a"') == 1


@pytest.mark.alone
async def test_pitfall_006_a_silent_upstream_ends_in_a_timeout(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, stream_idle_timeout_s=0.3)
    provider.always(stream_step(events("a", "b")).silent(pieces=2))
    took_s = list[float]()

    for _ in range(3):
        started = time.perf_counter()
        body = (await raw(served))[1]
        took_s.append(time.perf_counter() - started)
        assert error_of(body)["code"] == "provider_timeout"

    # The machine may make one of them late; a limit that is not kept makes all of them late.
    assert 0.3 - 0.01 < min(took_s) < 2 * 0.3
    await provider.until(lambda: provider.open_connections == 0, within_s=1)


@pytest.mark.alone
async def test_pitfall_007_pauses_below_the_limit_pass(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, stream_idle_timeout_s=0.4)
    provider.script(stream_step([*events("a", "b", "c"), STOP, DONE]).paced(0.3))

    assert (await raw(served))[1].endswith(DONE)


@pytest.mark.alone
async def test_a_stream_that_never_ends_ends_with_its_time(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.script(stream_step(events("a")).endless(pieces=1, pause_s=0.02))

    async with served.client.stream(
        "POST", "/v1/chat/completions", json=BODY, headers={"X-Timeout-Seconds": "0.4"}
    ) as response:
        body = b"".join([piece async for piece in response.aiter_raw()])

    assert error_of(body)["code"] == "provider_timeout"
    assert body.count(b'"content":"a"') > 5


@pytest.mark.alone
async def test_no_first_token_in_time_is_a_gateway_timeout(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog, first_token_timeout_s=0.2)
    provider.script(stream_step([]).silent(pieces=0))

    response, body = await raw(served)

    assert response.status_code == 504
    assert json.loads(body)["error"]["type"] == "timeout_error"


@pytest.mark.alone
async def test_a_slow_first_token_opens_the_stream_with_comments(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog, stream_commit_after_s=0.2)
    provider.script(stream_step([*events("a"), STOP, DONE]).delayed(0.6))
    started = time.perf_counter()

    async with served.client.stream("POST", "/v1/chat/completions", json=BODY) as response:
        opened_s = time.perf_counter() - started
        body = b"".join([piece async for piece in response.aiter_raw()])

    assert 0.15 < opened_s < 0.5
    assert body == b": keep-alive\n\n" + events("a")[0] + STOP + DONE


@pytest.mark.alone
async def test_a_failure_after_the_stream_was_opened_is_an_event(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog, stream_commit_after_s=0.1, retry__max_retries=0)
    provider.script(provider.wire.error(500, "boom").delayed(0.3))

    response, body = await raw(served)

    assert response.status_code == 200
    assert error_of(body)["code"] == "provider_unavailable"
    assert b"[DONE]" not in body


async def test_azures_filter_chunk_stays(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    filtered = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    provider.script(stream_step([filtered, *events("a"), STOP, usage, DONE]))

    assert (await raw(served))[1] == filtered + events("a")[0] + STOP + DONE


async def test_a_connection_is_used_again_after_a_stream(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)

    for _ in range(5):
        await raw(served)

    assert provider.connections == 1


async def test_a_stream_that_comes_at_once_goes_on_at_once(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.always(one_read_step(*events("one ", "two"), STOP, USAGE, DONE))

    response, body = await raw(served)
    stream = await served.openai.chat.completions.create(
        model="chat",
        stream=True,
        stream_options={"include_usage": True},
        messages=[{"role": "user", "content": "hi"}],
    )
    chunks = [chunk async for chunk in stream]

    assert body == b"".join([*events("one ", "two"), STOP, DONE])
    assert response.headers["content-length"] == str(len(body))
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (response.headers["x-accel-buffering"], response.headers["x-content-type-options"]) == ("no", "nosniff")
    assert (response.headers["x-provider"], response.headers["x-upstream-request-id"]) == ("main", "req_up")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9
    assert provider.connections == 1


async def test_a_client_that_reads_nothing_is_gone_also_where_its_stream_came_whole(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    served = await gateway(catalog, stream_commit_after_s=0.2)
    long, short = one_read_step(*events("w" * 12_000_000), STOP, DONE), one_read_step(*events("one"), STOP, USAGE, DONE)
    provider.script(long, short)
    body = json.dumps(BODY).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-timeout-seconds: {}\r\ncontent-length: {}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]), limit=1024)

    try:
        writer.write(head.format(30, len(body)).encode() + body + head.format(1, len(body)).encode() + body)
        ended = await served.logged("llm_request_error", within_s=10.0, error_code="client_closed_request")
    finally:
        writer.transport.abort()

    assert ended["status"] == 499
    assert 'llm_streams_truncated_total{provider="main"} 0.0' in (await served.client.get("/metrics")).text


@pytest.mark.alone
async def test_a_slow_reader_slows_the_upstream(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    big = events("x" * 100_000)
    provider.script(stream_step(big).endless(pieces=1))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]), limit=1024)
    body = json.dumps(BODY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await reader.read(10)

    await asyncio.sleep(1.0)
    before = provider.bytes_written
    await asyncio.sleep(0.5)

    assert provider.bytes_written - before < 1_000_000, "the upstream waits for the reader"
    assert provider.bytes_written < 30_000_000
    writer.close()
    await provider.until(lambda: len(provider.cancels) == 1, within_s=3)


async def test_a_json_error_instead_of_a_stream_is_that_error(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    error = b'{"error":{"message":"no such thing","type":"invalid_request_error","code":"bad_thing"}}'
    provider.script(stream_step([error], content_type="application/json"))

    response, body = await raw(served)

    assert (response.status_code, json.loads(body)["error"]["code"]) == (400, "bad_thing")
