import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from llmgateway.errors import GatewayError, JobFailedError, JobRunningError, ShuttingDownError
from llmgateway.exchange import Complete, Exchange, Streamed
from llmgateway.gateway.virtual.target import VirtualModels
from tests.gateway.virtual.staged import Staged, call, complete, event, exchange, piece, said

FAULT = {"code": "worker_lost", "message": "three workers died"}


async def asked(staged: Staged, body: dict[str, Any] | None = None, **fields: Any) -> tuple[Exchange, Complete]:
    given = exchange(**fields)
    reply = await VirtualModels(staged, staged).send(given, call(body or said("text")))
    assert isinstance(reply, Complete)
    return given, reply


async def streamed(staged: Staged, *, silence_s: float = 10.0, usage: bool = False, **fields: Any) -> Streamed:
    models = VirtualModels(staged, staged, silence_s=silence_s)
    reply = await models.send(exchange(**fields), call(said("text"), stream=True, include_usage=usage))
    assert isinstance(reply, Streamed)
    return reply


def texts(chunks: bytes) -> str:
    events = [line[6:] for line in chunks.splitlines() if line.startswith(b"data: {")]
    deltas = [choice["delta"] for one in events for choice in msgspec.json.decode(one)["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


async def all_of(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_a_whole_answer_is_the_result_with_what_it_cost() -> None:
    given, reply = await asked(Staged(event(1, "queued"), complete(2, "The minutes.")))

    answer = msgspec.json.decode(reply.body)
    assert answer["choices"][0]["message"]["content"] == "The minutes."
    assert answer["usage"]["total_tokens"] == 42
    assert dict(reply.headers) == {b"x-job-id": b"job-1", b"x-cost-usd": b"0.0125"}
    assert given.route_reason == "job job-1"


async def test_a_stream_says_everything_once() -> None:
    staged = Staged(event(1, "queued"), piece(2, "One.", 0), piece(3, "\n\nTwo.", 4), complete(4, "One.\n\nTwo.\nEnd."))

    chunks = await all_of((await streamed(staged)).chunks)

    assert texts(chunks) == "One.\n\nTwo.\nEnd."
    assert chunks.endswith(b"data: [DONE]\n\n")
    assert b'"total_tokens":42' in chunks
    assert staged.left == 1


async def test_a_piece_that_comes_again_is_said_once() -> None:
    staged = Staged(piece(1, "One.", 0), piece(2, "One. Two.", 0), complete(3, "One. Two."))

    assert texts(await all_of((await streamed(staged)).chunks)) == "One. Two."


async def test_a_silence_is_filled_with_progress() -> None:
    chunks = (await streamed(Staged(event(1, "processing")), silence_s=0.01)).chunks

    seen = [await anext(chunks) for _ in range(4)]
    await chunks.aclose()

    assert seen[2] == seen[3] == b': progress {"percentage":50.0}\n\n'


async def test_a_job_without_a_result_is_an_error_with_its_id() -> None:
    staged = Staged(event(1, "failed", event_type="error", error=FAULT))

    with pytest.raises(JobFailedError) as caught:
        await asked(staged)
    with pytest.raises(JobFailedError):
        await all_of((await streamed(staged)).chunks)

    assert caught.value.code == "worker_lost"
    assert caught.value.details == {"job_id": "job-1", "status": "failed"}
    assert caught.value.should_retry is False


async def test_when_the_time_is_over_the_job_goes_on() -> None:
    soon = time.perf_counter() + 0.55

    with pytest.raises(JobRunningError) as caught:
        await asked(Staged(), deadline=soon)
    with pytest.raises(JobRunningError):
        await all_of((await streamed(Staged(), deadline=time.perf_counter() + 0.55)).chunks)

    assert caught.value.details == {"job_id": "job-1"}


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_client_that_leaves_ends_its_job_only_if_it_said_so(cancels: bool) -> None:
    staged = Staged(event(1, "processing"))
    body = {**said("text"), "service": {"cancel_on_disconnect": cancels}}
    waiting = asyncio.ensure_future(VirtualModels(staged, staged).send(exchange(), call(body)))
    await staged.watched.wait()
    reply = await VirtualModels(staged, staged).send(exchange(), call(body, stream=True))
    assert isinstance(reply, Streamed)
    await anext(reply.chunks)
    await anext(reply.chunks)

    waiting.cancel()
    await asyncio.wait([waiting])
    await reply.chunks.aclose()

    assert staged.cancelled == (["job-1", "job-1"] if cancels else [])
    assert staged.left == 2


@pytest.mark.parametrize("cause", [None, ShuttingDownError("The gateway ends.")])
async def test_a_job_is_not_ended_while_another_waits_or_when_it_was_not_the_client_who_left(
    cause: GatewayError | None,
) -> None:
    staged = Staged(event(1, "processing"))
    body = {**said("text"), "service": {"cancel_on_disconnect": True}}
    models = VirtualModels(staged, staged)
    replies = [await models.send(exchange(cancelled_by=cause), call(body, stream=True)) for _ in range(2)]
    chunks = [reply.chunks for reply in replies if isinstance(reply, Streamed)]
    for one in chunks:
        await anext(one)

    await chunks[0].aclose()
    assert staged.cancelled == []
    await chunks[1].aclose()
    assert staged.cancelled == ([] if cause else ["job-1"])


async def test_a_dry_run_is_the_plan() -> None:
    reply = await VirtualModels(Staged(), Staged()).explain(exchange(), call(said("text")))

    assert isinstance(reply, Complete)
    assert msgspec.json.decode(reply.body) == {"valid": True, "calls": 3}


async def test_the_demo_says_that_it_is_one() -> None:
    staged = Staged(complete(1, "x", warnings=["The built-in demo model answered."]))

    _, reply = await asked(staged)

    assert msgspec.json.decode(reply.body)["system_fingerprint"] == "demo"


async def test_progress_is_told_between_pieces_as_well() -> None:
    staged = Staged(piece(1, "One.", 0), piece(2, " Two.", 4), complete(3, "One. Two."))

    chunks = await all_of((await streamed(staged, silence_s=0.0)).chunks)

    assert chunks.count(b": progress") == 3
    assert texts(chunks) == "One. Two."
    assert len({msgspec.json.decode(line[6:])["created"] for line in chunks.splitlines() if b"data: {" in line}) == 1
