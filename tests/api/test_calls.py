"""A request becomes a call, and its reply goes out: whole or as a stream, however it ends."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Scope

from llmgateway.api.calls import ModelCalls, ReplyTimes
from llmgateway.errors import (
    ClientGoneError,
    GatewayError,
    InvalidJSONError,
    InvalidRequestError,
    MethodNotAllowedError,
    ShuttingDownError,
    UpstreamError,
)
from llmgateway.exchange import Call, Complete, Exchange, Operation, Reply, Streamed
from llmgateway.wire.requests import Asked, read_chat, read_completion, read_embedding
from tests.api.answering import Answering, Chunks
from tests.asgi import Client, Stalling, scope_of

READERS: dict[Operation, Callable[[bytes], Asked]] = {
    "chat": read_chat,
    "completion": read_completion,
    "embedding": read_embedding,
}
BODIES: dict[Operation, dict[str, object]] = {
    "chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "completion": {"model": "m", "prompt": "hi"},
    "embedding": {"model": "m", "input": "hi"},
}
EVENT, DONE = b'data: {"a":1}\n\n', b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"
ANSWER = Complete(b'{"answer":1}')


def calls(target: Answering, operation: Operation = "chat", times: ReplyTimes | None = None) -> ModelCalls:
    return ModelCalls(operation, READERS[operation], gateway=target.gateway(), times=times or ReplyTimes())


def asked(operation: Operation = "chat", headers: dict[str, str] | None = None, **fields: object) -> Scope:
    return scope_of(headers=headers, body=json.dumps(BODIES[operation] | fields).encode())


async def ask(target: Answering, scope: Scope, operation: Operation = "chat", **times: float) -> Client:
    client = Client()
    await calls(target, operation, ReplyTimes(**times))(scope, client.receive, client.send)
    return client


def start(target: Answering, scope: Scope, client: Client, **times: float) -> asyncio.Task[None]:
    async def run() -> None:
        await calls(target, times=ReplyTimes(**times))(scope, client.receive, client.send)

    return asyncio.get_running_loop().create_task(run())


@pytest.mark.parametrize("operation", list(READERS))
async def test_a_request_becomes_a_call_and_its_answer_goes_out(operation: Operation) -> None:
    target, scope = Answering(ANSWER), asked(operation)

    client = await ask(target, scope, operation)

    assert target.calls == [Call(operation, "m", scope["body"], has_answers=False)]
    assert (client.status, client.body) == (200, ANSWER.body)
    exchange: Exchange = scope["exchange"]
    assert (exchange.operation, exchange.requested_model, exchange.stream) == (operation, "m", False)
    assert exchange.reply is ANSWER
    assert client.headers["x-attempts"] == "0"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "X" * 100])
async def test_a_model_call_is_a_post(method: str) -> None:
    target = Answering(ANSWER)

    with pytest.raises(MethodNotAllowedError) as refused:
        await ask(target, scope_of(method, "/v1/completions", body=b""))

    assert refused.value.details == {"allow": "POST"}
    assert refused.value.message == f"/v1/completions takes POST, not {method[:20]}."
    assert target.calls == []


async def test_a_wrong_body_reaches_no_model() -> None:
    target = Answering(ANSWER)

    with pytest.raises(InvalidJSONError):
        await ask(target, scope_of(body=b"{"))

    assert target.calls == []


@pytest.mark.parametrize(
    ("value", "allowed_s"),
    [("30", 30), ("0.5", 0.5), ("1e1", 10), (" 7 ", 7), ("+7", 7), ("60.5", 60), ("9" * 400, 60), ("inf", 60)],
)
async def test_a_client_may_shorten_the_time(value: str, allowed_s: float) -> None:
    target, scope = Answering(ANSWER), asked(headers={"x-timeout-seconds": value})

    await ask(target, scope, request_s=60)

    exchange: Exchange = scope["exchange"]
    assert exchange.deadline is not None
    assert exchange.deadline - exchange.started == pytest.approx(allowed_s)


async def test_without_a_wish_the_time_is_the_settings() -> None:
    scope = asked()

    await ask(Answering(ANSWER), scope, request_s=12)

    assert scope["exchange"].deadline - scope["exchange"].started == pytest.approx(12)


@pytest.mark.parametrize("value", ["0", "-1", "0.0", "-0", "-inf", "nan", "soon", "", " ", "0x10", "1,5", "30s", "ÿ"])
async def test_a_time_that_is_none_is_refused_before_anything_is_asked(value: str) -> None:
    target = Answering(ANSWER)

    with pytest.raises(InvalidRequestError, match="number of seconds above 0") as refused:
        await ask(target, scope_of(headers=[(b"x-timeout-seconds", value.encode("latin-1"))], body=b"{"))

    assert refused.value.param == "X-Timeout-Seconds"
    assert target.calls == []


@pytest.mark.parametrize(("size_bytes", "in_thread"), [(256 * 1024, False), (256 * 1024 + 1, True)])
async def test_only_a_large_body_is_read_in_a_thread(size_bytes: int, in_thread: bool) -> None:
    threads: list[int] = []

    def read(body: bytes) -> Asked:
        threads.append(threading.get_ident())
        return read_chat(body)

    target = Answering(ANSWER)
    empty = len(asked(padding="")["body"])
    scope = asked(padding="x" * (size_bytes - empty))
    assert len(scope["body"]) == size_bytes
    client = Client()

    served = ModelCalls("chat", read, gateway=target.gateway(), times=ReplyTimes())
    await served(scope, client.receive, client.send)

    assert (threads != [threading.get_ident()]) == in_thread
    assert len(threads) == 1
    assert target.calls[0].body is scope["body"]


async def test_a_large_wrong_body_is_refused_like_a_small_one() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await ask(Answering(ANSWER), asked(padding="x" * 300_000, messages=7))

    assert refused.value.param == "messages"


@pytest.mark.parametrize(("operation", "stream"), [("chat", True), ("completion", True), ("embedding", False)])
async def test_an_embedding_never_streams(operation: Operation, stream: bool) -> None:
    target = Answering(Streamed(Chunks(EVENT, DONE)) if stream else ANSWER)

    client = await ask(target, asked(operation, stream=True), operation)

    assert target.calls[0].stream is target.exchanges[0].stream is stream
    assert client.body == (EVENT + DONE if stream else ANSWER.body)


@pytest.mark.parametrize("stream", [False, None])
async def test_a_stream_is_only_for_who_asks(stream: bool | None) -> None:
    target = Answering(ANSWER)

    await ask(target, asked(stream=stream))

    assert target.calls[0].stream is False


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (None, False),
        ({}, False),
        ({"include_usage": None}, False),
        ({"include_usage": False}, False),
        ({"include_usage": True}, True),
        ({"include_usage": True, "include_obfuscation": False}, True),
    ],
)
async def test_pitfall_018_whether_the_usage_was_asked_for_is_known(options: object, wanted: bool) -> None:
    target = Answering(Streamed(Chunks(EVENT, DONE)))

    await ask(target, asked(stream=True, stream_options=options))

    assert target.calls[0].include_usage is wanted


async def test_a_stream_for_a_call_that_asked_for_none_is_a_bug() -> None:
    client = Client()

    with pytest.raises(TypeError, match="a stream came"):
        await calls(Answering(Streamed(Chunks(EVENT))))(asked(), client.receive, client.send)

    assert client.sent == []


async def test_a_whole_answer_for_a_call_that_asked_for_a_stream_is_a_bug() -> None:
    client = Client()

    with pytest.raises(TypeError, match="a whole answer came"):
        await calls(Answering(ANSWER))(asked(stream=True), client.receive, client.send)

    assert client.sent == []


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_byte_goes_on_to_be_an_answer(stream: bool) -> None:
    client, scope = Client(), asked(stream=stream)

    with pytest.raises(UpstreamError, match="down"):
        await calls(Answering(UpstreamError("down")))(scope, client.receive, client.send)

    assert client.sent == []


async def test_an_error_inside_a_stream_is_its_last_event() -> None:
    chunks, scope = Chunks(EVENT, UpstreamError("cut")), asked(stream=True)

    client = await ask(Answering(Streamed(chunks)), scope)

    assert client.body.startswith(EVENT + b'data: {"error"')
    assert client.error["code"] == scope["exchange"].error_code == "provider_unavailable"
    assert b"[DONE]" not in client.body
    assert client.complete
    assert chunks.closed == 1


async def test_an_error_after_the_stream_was_opened_is_an_event_too() -> None:
    async def late(_: Exchange, __: Call) -> Reply:
        await asyncio.sleep(0.1)
        raise UpstreamError("late")

    client = await ask(Answering(late), asked(stream=True), commit_after_s=0.03)

    assert client.status == 200
    assert client.body.startswith(COMMENT)
    assert client.error["message"] == "late"
    assert client.complete


async def cancelled(
    cause: GatewayError | None, *, client: Client | None = None, first: bool = True
) -> tuple[Client, Chunks, asyncio.Task[None]]:
    """Cancel a stream, before or after its first event."""
    client, scope, chunks = client or Client(), asked(stream=True), Chunks(*([EVENT] if first else []), 10.0)
    task = start(Answering(Streamed(chunks)), scope, client)
    await asyncio.sleep(0.02)
    scope["exchange"].cancelled_by = cause
    task.cancel()
    await asyncio.wait([task])
    return client, chunks, task


async def test_pitfall_100_a_stream_that_must_end_says_why() -> None:
    client, chunks, task = await cancelled(ShuttingDownError("Ending."))

    assert not task.cancelled()
    assert task.exception() is None
    assert client.error["code"] == "shutting_down"
    assert client.complete
    assert b"[DONE]" not in client.body
    assert chunks.closed == 1


async def test_a_stream_whose_client_left_just_ends() -> None:
    client, chunks, task = await cancelled(ClientGoneError("Gone."))

    assert task.cancelled()
    assert client.body == EVENT
    assert not client.complete
    assert chunks.closed == 1


async def test_a_stream_cancelled_from_elsewhere_just_ends() -> None:
    client, chunks, task = await cancelled(None)

    assert task.cancelled()
    assert client.body == EVENT
    assert chunks.closed == 1


async def test_a_stream_that_must_end_before_its_first_event_is_left_to_be_an_answer() -> None:
    client, chunks, task = await cancelled(ShuttingDownError("Ending."), first=False)

    assert task.cancelled()
    assert client.sent == []
    assert chunks.closed == 1


async def test_a_reader_that_does_not_read_the_reason_is_taken_for_gone() -> None:
    started = time.perf_counter()

    client, _, task = await cancelled(ShuttingDownError("Ending."), client=Stalling(takes=2))

    with pytest.raises(ClientGoneError, match="did not read"):
        await task
    assert 0.9 < time.perf_counter() - started < 2
    assert client.body == EVENT


async def test_a_reader_that_reads_nothing_until_its_time_is_over_is_taken_for_gone() -> None:
    client, chunks = Stalling(takes=3), Chunks(*[EVENT] * 100)
    scope = asked(stream=True, headers={"x-timeout-seconds": "0.2"})
    started = time.perf_counter()

    task = start(Answering(Streamed(chunks)), scope, client, commit_after_s=0.05, keep_alive_s=0.05)
    await asyncio.wait([task])

    with pytest.raises(ClientGoneError):
        await task
    assert 1.1 < time.perf_counter() - started < 2.5
    assert task.cancelling() == 0
    assert chunks.closed == 1
    assert client.waiting == 0


async def test_a_reader_that_reads_just_in_time_is_told() -> None:
    client, chunks = Stalling(takes=3), Chunks(*[EVENT] * 100)
    scope = asked(stream=True, headers={"x-timeout-seconds": "0.2"})
    asyncio.get_running_loop().call_later(0.6, client.read_on)

    await start(Answering(Streamed(chunks)), scope, client, commit_after_s=0.05, keep_alive_s=0.05)

    assert client.error["message"] == "The client did not read its answer in time."
    assert client.complete


@pytest.mark.parametrize(
    "play",
    [Streamed(Chunks(EVENT, DONE)), Streamed(Chunks(EVENT, UpstreamError("cut"))), UpstreamError("down"), ANSWER],
)
async def test_after_a_stream_nothing_is_written_and_nothing_runs(play: Reply | Exception) -> None:
    before, client = asyncio.all_tasks(), Client()
    task = start(Answering(play), asked(stream=True), client, commit_after_s=0.02, keep_alive_s=0.02)
    await asyncio.wait([task])
    task.exception()
    sent = list(client.sent)

    await asyncio.sleep(0.08)

    assert client.sent == sent
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, None),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 1, "max_tokens": 100_000}, 100_000),
        ({"max_completion_tokens": 100_000, "max_tokens": 1}, 100_000),
        ({"max_tokens": 500.0}, 500),
        ({"max_tokens": "500"}, 500),
        ({"max_tokens": 10**30}, 10**30),
        ({"max_tokens": -5}, None),
        ({"max_tokens": "many"}, None),
        ({"max_tokens": [1]}, None),
        ({"max_tokens": "1e999"}, None),
    ],
)
async def test_the_longest_answer_is_the_longest_that_any_upstream_may_read(
    fields: dict[str, Any], most: int | None
) -> None:
    target = Answering(ANSWER)

    await ask(target, asked(**fields))

    assert target.calls[0].max_tokens == (None if most is None else pytest.approx(most))


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 3.0}, 3),
        ({"n": -1}, 1),
        ({"prompt": ["a", "b"]}, 2),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"n": 2, "best_of": 5}, 5),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": []}, 1),
    ],
)
async def test_each_prompt_is_answered_as_often_as_is_asked(fields: dict[str, Any], count: int) -> None:
    target = Answering(ANSWER)

    await ask(target, asked("completion", **fields), "completion")

    assert target.calls[0].n == count
