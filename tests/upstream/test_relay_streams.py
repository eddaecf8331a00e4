"""The relay's streams, event by event."""

import asyncio
import json
import time
from dataclasses import replace

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import GatewayError, UpstreamError, UpstreamRateLimitedError, UpstreamRejectedError
from llmgateway.exchange import Call, Streamed, Usage
from llmgateway.upstream.relay import Relay
from llmgateway.upstream.transport import Transport
from llmgateway.wire.sse import WholeStream
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step, json_step, one_read_step, stream_step

BODY = json.dumps({"model": "chat", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
CALL = Call("chat", "chat", BODY, stream=True)
WITH_USAGE = Call("chat", "chat", BODY, stream=True, include_usage=True)
DONE = b"data: [DONE]\n\n"
STOP = b'data: {"model":"m-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
COMMENT = b": still thinking\n\n"


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps({"model": "m-1", **fields}).encode() + b"\n\n"


def word(text: str, **more: object) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}], **more)


def usage(prompt: int, completion: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


@pytest.fixture
def relay(transport: Transport) -> Relay:
    return Relay(transport)


async def start(relay: Relay, player: Player, call: Call = CALL) -> Streamed:
    account = Account("main", "openai", "openai", api_key="sk-upstream", api_base=player.base)
    reply = await relay.send(Deployment(account, "gpt-4o"), call)
    assert isinstance(reply, Streamed)
    return reply


async def whole(reply: Streamed) -> bytes:
    try:
        return b"".join([chunk async for chunk in reply.chunks])
    finally:
        await reply.chunks.aclose()


async def refused(relay: Relay, player: Player) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await start(relay, player)
    return caught.value


async def test_usage_and_model_are_known_when_the_stream_has_ended(relay: Relay, provider: Player) -> None:
    counted = event(choices=[], usage=usage(5, 3))
    provider.script(stream_step([word("a"), STOP, counted, DONE]))

    reply = await start(relay, provider)

    before = reply.usage
    assert await whole(reply) == word("a") + STOP + DONE
    assert (before, reply.usage, reply.model) == (None, Usage(5, 3, 2, 1), "m-1")


async def test_a_stream_that_came_in_one_read_is_whole(relay: Relay, provider: Player) -> None:
    provider.always(one_read_step(word("a") + STOP, event(choices=[], usage=usage(5, 3)), DONE))

    for _ in range(2):
        reply = await start(relay, provider)
        assert isinstance(reply.chunks, WholeStream)
        assert (reply.chunks.events, reply.usage, reply.model) == (word("a") + STOP + DONE, Usage(5, 3, 2, 1), "m-1")
        assert reply.headers == [(b"x-upstream-request-id", b"req_up")]
    assert provider.connections == 1


@pytest.mark.parametrize("end", [b"", event(error={"message": "no"}) + DONE, STOP + b"data: [DONE] \n\n"])
async def test_a_stream_that_has_not_come_to_its_end_is_not_whole(relay: Relay, provider: Player, end: bytes) -> None:
    provider.script(one_read_step(word("a"), STOP + end))

    assert not isinstance((await start(relay, provider)).chunks, WholeStream)


async def test_a_long_stream_goes_on_piece_by_piece(relay: Relay, provider: Player) -> None:
    long = word("a" * 300_000)
    provider.script(one_read_step(long + STOP + event(choices=[], usage=usage(5, 3)) + DONE))
    reply = await start(relay, provider)

    assert not isinstance(reply.chunks, WholeStream)
    assert await whole(reply) == long + STOP + DONE


async def test_a_stream_whose_connection_is_not_back_is_not_whole(relay: Relay, provider: Player) -> None:
    step = one_read_step(word("a"), STOP + DONE)
    provider.script(replace(step, pieces=(Piece(step.body.removesuffix(b"0\r\n\r\n")),), ending="silence"))
    reply = await start(relay, provider)

    assert not isinstance(reply.chunks, WholeStream)
    assert await whole(reply) == word("a") + STOP + DONE


async def test_the_providers_headers_are_passed_on(relay: Relay, provider: Player) -> None:
    provider.script(stream_step([STOP, DONE]).with_headers(x_request_id="req_up"))

    reply = await start(relay, provider)

    assert reply.headers == [(b"x-upstream-request-id", b"req_up")]
    await whole(reply)


async def test_a_connection_serves_the_next_stream(relay: Relay, provider: Player) -> None:
    provider.always(stream_step([word("a"), STOP, DONE]))

    for _ in range(5):
        await whole(await start(relay, provider))

    assert (provider.connections, provider.finished) == (1, 5)


@pytest.mark.parametrize("after", [b"", COMMENT])
async def test_an_upstream_that_stays_after_the_end_holds_up_nobody(
    relay: Relay, provider: Player, after: bytes
) -> None:
    step = stream_step([word("a"), STOP, DONE, after or DONE])
    provider.script(step.endless(pieces=4, pause_s=0.01) if after else step.silent(pieces=3))
    reply = await start(relay, provider)
    received = b""
    while not received.endswith(DONE):
        received += await anext(reply.chunks)
    ended = time.perf_counter()

    with pytest.raises(StopAsyncIteration):
        await anext(reply.chunks)

    assert time.perf_counter() - ended < 0.2
    assert received == word("a") + STOP + DONE
    await provider.until(lambda: len(provider.cancels) == 1, within_s=1)
    await provider.until(lambda: provider.open_connections == 0, within_s=1)


async def test_comments_before_the_first_event_are_kept_and_are_no_answer(relay: Relay, provider: Player) -> None:
    provider.script(stream_step([COMMENT, COMMENT, word("a"), STOP, DONE]).paced(0.1))
    started = time.perf_counter()

    reply = await start(relay, provider)
    waited_s = time.perf_counter() - started

    assert 0.15 < waited_s < 2
    assert await whole(reply) == COMMENT * 2 + word("a") + STOP + DONE


async def test_comments_without_end_do_not_fill_the_memory(relay: Relay, provider: Player) -> None:
    comment = b": " + b"x" * 10_000 + b"\n\n"
    provider.script(stream_step([*[comment] * 200, word("a"), STOP, DONE]))

    received = await whole(await start(relay, provider))

    assert received.startswith(comment)
    assert received.endswith(word("a") + STOP + DONE)
    assert len(received) < 1_000_000


@pytest.mark.parametrize("pieces", [[], [COMMENT, COMMENT]])
async def test_pitfall_016_comments_alone_are_an_empty_stream(
    relay: Relay, provider: Player, pieces: list[bytes]
) -> None:
    provider.script(stream_step(pieces))

    error = await refused(relay, provider)

    assert isinstance(error, UpstreamError)
    assert (error.message, error.may_retry) == ("openai sent an empty stream.", True)


async def test_closing_ends_the_call_at_once_and_keeps_the_usage_so_far(relay: Relay, provider: Player) -> None:
    counting = [word("a", usage=usage(5, 1)), word("b", usage=usage(5, 2))]
    provider.script(stream_step([*counting, word("c", usage=usage(5, 3))]).endless(pieces=3, pause_s=0.01))
    reply = await start(relay, provider)
    received = b""
    while b'"c"' not in received:
        received += await anext(reply.chunks)
    left = time.perf_counter()

    await reply.chunks.aclose()
    await reply.chunks.aclose()

    await provider.until(lambda: len(provider.cancels) == 1, within_s=1)
    assert provider.cancels[0].noticed - left < 0.5
    assert reply.usage == Usage(5, 3, 2, 1)


async def test_closing_before_any_usage_knows_none(relay: Relay, provider: Player) -> None:
    provider.script(stream_step([word("a")]).silent(pieces=1))
    reply = await start(relay, provider)

    await reply.chunks.aclose()

    assert reply.usage is None
    await provider.until(lambda: len(provider.cancels) == 1, within_s=1)


async def test_closing_after_the_end_keeps_the_connection(relay: Relay, provider: Player) -> None:
    provider.always(stream_step([word("a"), STOP, DONE]))
    reply = await start(relay, provider)
    await whole(reply)

    await reply.chunks.aclose()
    await whole(await start(relay, provider))

    assert provider.connections == 1


async def test_a_wait_for_the_next_event_can_be_given_up_and_taken_up_again(relay: Relay, provider: Player) -> None:
    provider.script(stream_step([word("a"), STOP, DONE]).paced(0.3))
    reply = await start(relay, provider)
    assert await anext(reply.chunks) == word("a")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(reply.chunks)

    assert await whole(reply) == STOP + DONE


async def test_giving_up_before_the_first_event_ends_the_call(relay: Relay, provider: Player) -> None:
    provider.script(stream_step([COMMENT]).silent(pieces=1))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await start(relay, provider)

    await provider.until(lambda: len(provider.cancels) == 1, within_s=1)
    await provider.until(lambda: provider.open_connections == 0, within_s=1)


async def test_an_error_as_the_first_event_is_raised_at_once(relay: Relay, provider: Player) -> None:
    failure = b'data: {"error":{"message":"slow down","type":"rate_limit_error"}}\n\n'
    provider.script(stream_step([COMMENT, failure]).silent(pieces=2))

    error = await refused(relay, provider)

    assert isinstance(error, UpstreamRateLimitedError)
    await provider.until(lambda: provider.open_connections == 0, within_s=1)


async def test_pitfall_001_an_error_in_the_middle_comes_after_what_was_said(relay: Relay, provider: Player) -> None:
    failure = b'event: error\ndata: {"error":{"message":"broke","type":"server_error"}}\n\n'
    provider.script(stream_step([word("a") + failure + word("b") + STOP + DONE]))
    reply = await start(relay, provider)
    received = [await anext(reply.chunks)]

    with pytest.raises(UpstreamError, match="broke"):
        received.append(await anext(reply.chunks))

    assert received == [word("a")]
    await provider.until(lambda: provider.open_connections == 0, within_s=1)


async def test_an_error_event_alone_in_the_middle_is_raised(relay: Relay, provider: Player) -> None:
    provider.script(stream_step([word("a"), b'data: {"error":{"message":"broke"}}\n\n']).paced(0.1))
    reply = await start(relay, provider)
    assert await anext(reply.chunks) == word("a")

    with pytest.raises(UpstreamError, match="broke"):
        await anext(reply.chunks)


@pytest.mark.parametrize(
    ("step", "raised", "said"),
    [
        (json_step({"choices": [{"message": {}}]}), UpstreamError, "with something else"),
        (json_step({"error": {"message": "no", "type": "invalid_request_error"}}), UpstreamRejectedError, "no"),
        (json_step({"error": None}), UpstreamError, "with something else"),
        (Step(pieces=(Piece(b"<html>busy</html>"),)), UpstreamError, "with something else"),
        (Step(pieces=(Piece(b'{"error":"\xff"}'),)), UpstreamError, "with something else"),
    ],
)
async def test_what_is_no_stream_is_an_error(
    relay: Relay, provider: Player, step: Step, raised: type[GatewayError], said: str
) -> None:
    provider.script(step)

    error = await refused(relay, provider)

    assert isinstance(error, raised)
    assert said in error.message


async def test_an_event_that_never_ends_is_an_error(relay: Relay, provider: Player) -> None:
    provider.script(Step(pieces=(Piece(b"data: "), Piece(b"x" * 1_000_000)), framing="chunked").endless(pieces=2))

    error = await refused(relay, provider)

    assert error.message == "openai sends an event without an end."
    assert provider.bytes_written < 64_000_000
    await provider.until(lambda: len(provider.cancels) == 1, within_s=2)


@pytest.mark.parametrize("reset", [False, True])
async def test_pitfall_002_a_connection_lost_in_the_middle_is_an_error(
    relay: Relay, provider: Player, reset: bool
) -> None:
    provider.script(stream_step([word("a"), word("b")]).cut(pieces=2, reset=reset))
    reply = await start(relay, provider)

    with pytest.raises(UpstreamError, match="the connection was lost"):
        await whole(reply)


@pytest.mark.parametrize("rest", [b"", b"data: {", b'data: {"choices":[{"finish_reason":"stop"}]}'])
async def test_pitfall_002_an_end_without_a_reason_is_an_error(relay: Relay, provider: Player, rest: bytes) -> None:
    provider.script(stream_step([word("a"), rest] if rest else [word("a")]))
    reply = await start(relay, provider)
    assert await anext(reply.chunks) == word("a")

    with pytest.raises(UpstreamError, match="before the answer was complete"):
        await anext(reply.chunks)
    with pytest.raises(StopAsyncIteration):
        await anext(reply.chunks)


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data:[DONE]", b"data: [DONE]\n", b""])
async def test_an_end_that_is_not_quite_one_is_made_whole(relay: Relay, provider: Player, end: bytes) -> None:
    provider.script(stream_step([word("a"), STOP, end] if end else [word("a"), STOP]))

    received = await whole(await start(relay, provider))

    assert received.startswith(word("a") + STOP + b"data:")
    assert received.rstrip().endswith(b"[DONE]")
    assert received.endswith(b"\n\n")
    assert provider.connections == 1


@pytest.mark.parametrize("end", [DONE, b"data: [DONE]", b""])
async def test_usage_that_came_beside_a_choice_is_told_to_who_asked(relay: Relay, provider: Player, end: bytes) -> None:
    stop = STOP.replace(b'"choices"', b'"usage":{"prompt_tokens":5,"completion_tokens":3},"choices"')
    provider.script(stream_step([word("a"), stop, end] if end else [word("a"), stop]))

    reply = await start(relay, provider, WITH_USAGE)
    *_, last, done = (await whole(reply)).strip().split(b"\n\n")

    assert done == b"data: [DONE]"
    counted = json.loads(last.removeprefix(b"data: "))
    assert (counted["choices"], counted["usage"]["prompt_tokens"]) == ([], 5)
    assert reply.usage == Usage(5, 3)


async def test_a_usage_that_cannot_be_read_costs_only_itself(relay: Relay, provider: Player) -> None:
    broken = STOP.replace(b'"choices"', b'"usage":{"prompt_tokens":5},,"choices"')
    provider.script(stream_step([word("a"), broken, DONE]))

    reply = await start(relay, provider, WITH_USAGE)

    assert await whole(reply) == word("a") + broken + DONE
    assert reply.usage is None


async def test_pitfall_001_an_error_in_one_piece_with_the_end_is_no_end(relay: Relay, provider: Player) -> None:
    provider.script(stream_step([word("a"), b'data: {"error":{"message":"broke"}}\n\n' + DONE]).paced(0.05))

    with pytest.raises(UpstreamError, match="broke"):
        await whole(await start(relay, provider))


@pytest.mark.parametrize("end", [DONE, b""], ids=["done", "left out"])
async def test_the_usage_is_there_before_the_stream_ends_is_known(relay: Relay, provider: Player, end: bytes) -> None:
    pieces = [word("one"), STOP, event(choices=[], usage=usage(9, 3)), *([end] if end else [])]
    provider.always(stream_step(pieces))
    reply = await start(relay, provider)
    told = [(reply.usage, reply.model) async for chunk in reply.chunks if chunk.endswith(DONE)]
    await reply.chunks.aclose()

    assert told == [(Usage(9, 3, 2, 1), "m-1")]


async def test_what_was_told_before_a_stream_broke_off_is_kept(relay: Relay, provider: Player) -> None:
    provider.always(stream_step([word("one", usage=usage(9, 1)), word("two")]).cut(pieces=2))
    reply = await start(relay, provider)
    with pytest.raises(UpstreamError):
        await whole(reply)

    assert reply.usage == Usage(9, 1, 2, 1)
