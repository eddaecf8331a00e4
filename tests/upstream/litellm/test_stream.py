"""What may happen to a provider's stream on its way."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.errors import UpstreamError, UpstreamRateLimitedError
from llmgateway.exchange import Streamed, Usage
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.litellm.stream import LineCutter, SentEventCutter
from llmgateway.wire.sse import EventTooLongError, payload, split_events
from tests.upstream.translated import (
    ALL,
    ANTHROPIC,
    COHERE,
    DIRECT,
    GEMINI,
    OLLAMA,
    TOOLS,
    Provider,
    call,
    calls_of,
    chunks,
    deltas,
    streamed,
    text_of,
)
from tests.upstreams.server import Player
from tests.upstreams.step import Step

every = pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.name)
direct = pytest.mark.parametrize("provider", DIRECT, ids=lambda provider: provider.name)


@every
@pytest.mark.parametrize("tools", [[], TOOLS])
async def test_pitfall_015_a_stream_written_byte_by_byte_is_the_same(
    upstream: LiteLLMUpstream, provider: Provider, tools: list[dict[str, object]]
) -> None:
    asked = call(stream=True, tools=tools)
    async with Player(provider.wire()) as player:
        in_one = await chunks(upstream, provider.deployment(player), asked)
        player.script(lambda step: step.split(1))
        bytewise = await chunks(upstream, provider.deployment(player), asked)

    assert text_of(bytewise) == text_of(in_one) == ("" if tools else "hello big wörld 🎉")
    assert [(one["name"], one["arguments"]) for one in calls_of(bytewise)] == [
        (one["name"], one["arguments"]) for one in calls_of(in_one)
    ]


@every
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("left", [1, 2])
async def test_pitfall_002_a_cut_stream_is_never_whole(
    upstream: LiteLLMUpstream, provider: Provider, reset: bool, left: int
) -> None:
    def without_the_end(step: Step) -> Step:
        ending = 2 if provider.name == "bedrock" else 1  # pieces that say that the answer is whole
        kept = step.first(len(step.pieces) - ending - left + 1)
        return kept.cut(pieces=len(kept.pieces), reset=True) if reset else kept

    async with Player(provider.wire()) as player:
        player.script(without_the_end)
        with pytest.raises(UpstreamError) as caught:
            await _read(upstream, provider, player)

    assert caught.value.status == 502


async def _collect(stream: Streamed, got: list[bytes]) -> None:
    """Keep what comes, also when the stream breaks off."""
    while chunk := await anext(stream.chunks, b""):
        got.append(chunk)


async def _read(upstream: LiteLLMUpstream, provider: Provider, player: Player) -> bytes:
    stream = streamed(await upstream.send(provider.deployment(player), call(stream=True)))
    got = b""
    try:
        async for chunk in stream.chunks:
            got += chunk
            assert b"[DONE]" not in got
    finally:
        await stream.chunks.aclose()
    return got


@direct
async def test_pitfall_002_a_stream_that_loses_half_its_last_event_is_cut(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        player.script(lambda step: step.cut(after_bytes=len(step.body) - 8))
        with pytest.raises(UpstreamError):
            await _read(upstream, provider, player)


@direct
async def test_a_missing_blank_line_at_the_very_end_is_forgiven(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        player.script(lambda step: step.split_at(len(step.body.rstrip())).first(1))
        found = await chunks(upstream, provider.deployment(player), call(stream=True))

    assert text_of(found) == "hello big wörld 🎉"


ERRORS = {
    "anthropic": b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"Slow down"}}\n\n',
    "gemini": b'data: {"error":{"code":429,"message":"Slow down","status":"RESOURCE_EXHAUSTED"}}\n\n',
    "cohere": b'data: {"type":"error","error":{"type":"rate_limit_error","message":"Slow down"}}\n\n',
    "ollama": b'{"error":{"message":"Slow down","type":"rate_limit_error"}}\n',
}


@direct
async def test_pitfall_001_an_error_in_the_middle_follows_what_came_before(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        player.script(lambda step: Step(step.status, step.headers, step.first(4).then(ERRORS[provider.name]).pieces))
        stream = streamed(await upstream.send(provider.deployment(player), call(stream=True)))
        got: list[bytes] = []
        with pytest.raises(UpstreamRateLimitedError, match="Slow down"):
            await _collect(stream, got)

    assert b"hello" in b"".join(got)
    assert b'finish_reason":"' not in b"".join(got)


@direct
async def test_pitfall_003_011_an_error_before_the_answer_is_an_error_of_the_call(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    opening = 1 if provider.name in {"anthropic", "cohere"} else 0
    async with Player(provider.wire()) as player:
        player.script(lambda step: step.first(opening).then(ERRORS[provider.name]))
        with pytest.raises(UpstreamRateLimitedError, match="Slow down"):
            await upstream.send(provider.deployment(player), call(stream=True))


@every
async def test_pitfall_016_an_empty_stream_is_an_error_of_the_call(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        player.script(lambda step: step.first(0))
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(provider.deployment(player), call(stream=True))

    assert caught.value.status == 502


@direct
async def test_pitfall_019_a_plain_json_error_instead_of_a_stream_is_that_error(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        body = b'{"error":{"message":"Slow down","type":"rate_limit_error"}}'
        player.script(lambda step: step.first(0).then(body))
        with pytest.raises(UpstreamRateLimitedError, match="Slow down"):
            await upstream.send(provider.deployment(player), call(stream=True))


@every
async def test_pitfall_008_an_event_leaves_when_it_arrives(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        player.script(lambda step: step.silent(pieces=len(step.pieces) // 2))
        stream = streamed(await upstream.send(provider.deployment(player), call(stream=True)))
        got = b""
        async with asyncio.timeout(2):
            while b"hello" not in got:
                got += await anext(stream.chunks)
        await stream.chunks.aclose()

    assert b"[DONE]" not in got


async def test_pitfall_009_an_answer_that_thinks_first_starts_at_its_first_thought(upstream: LiteLLMUpstream) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    async with Player(ANTHROPIC.wire()) as player:
        player.script(lambda step: step.silent(pieces=4))
        asked = call(stream=True, thinking=thinking, max_tokens=2048)
        stream = streamed(await upstream.send(ANTHROPIC.deployment(player), asked))
        async with asyncio.timeout(1):
            first = await anext(stream.chunks)
        await stream.chunks.aclose()

    assert b'"role":"assistant"' in first


async def test_thoughts_come_as_reasoning_and_can_be_sent_back(upstream: LiteLLMUpstream) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    async with Player(ANTHROPIC.wire()) as player:
        found = await chunks(
            upstream, ANTHROPIC.deployment(player), call(stream=True, thinking=thinking, max_tokens=2048)
        )

    thoughts = "".join(delta.get("reasoning_content", "") for delta in deltas(found))
    assert thoughts.strip() == "The user wants an echo."
    blocks = [block for delta in deltas(found) for block in delta.get("thinking_blocks", [])]
    assert blocks[-1]["signature"] == "c2lnbmVk"


async def test_pitfall_017_the_usage_so_far_is_known_when_the_client_leaves(upstream: LiteLLMUpstream) -> None:
    async with Player(ANTHROPIC.wire()) as player:
        player.script(lambda step: step.silent(pieces=6))
        stream = streamed(await upstream.send(ANTHROPIC.deployment(player), call(stream=True)))
        await anext(stream.chunks)
        await stream.chunks.aclose()

    assert stream.usage == Usage(prompt_tokens=7, completion_tokens=1)


async def test_cohere_that_fails_while_it_writes_is_an_error(upstream: LiteLLMUpstream) -> None:
    failed = b'data: {"type":"message-end","delta":{"finish_reason":"ERROR"}}\n\n'
    async with Player(COHERE.wire()) as player:
        player.script(lambda step: step.first(4).then(failed))
        with pytest.raises(UpstreamError, match="in the middle"):
            await _read(upstream, COHERE, player)


async def test_gemini_that_blocks_the_prompt_ends_as_filtered(upstream: LiteLLMUpstream) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}
    async with Player(GEMINI.wire()) as player:
        player.script(lambda step: step.first(0).then(b"data: " + json.dumps(blocked).encode() + b"\r\n\r\n"))
        found = await chunks(upstream, GEMINI.deployment(player), call(stream=True))

    assert found[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_a_connection_is_used_again_after_a_stream(upstream: LiteLLMUpstream) -> None:
    for provider in DIRECT:
        async with Player(provider.wire()) as player:
            for _ in range(3):
                await chunks(upstream, provider.deployment(player), call(stream=True))

            assert player.connections == 1


async def test_a_broken_event_is_a_broken_answer(upstream: LiteLLMUpstream) -> None:
    async with Player(OLLAMA.wire()) as player:
        player.script(lambda step: step.first(2).then(b'{"message": \n'))
        with pytest.raises(UpstreamError, match="not in its own format"):
            await _read(upstream, OLLAMA, player)


async def test_reading_on_after_the_end_or_a_failure_stays_at_it(upstream: LiteLLMUpstream) -> None:
    async with Player(OLLAMA.wire()) as player:
        stream = streamed(await upstream.send(OLLAMA.deployment(player), call(stream=True)))
        assert [chunk async for chunk in stream.chunks][-1].endswith(b"[DONE]\n\n")
        with pytest.raises(StopAsyncIteration):
            await anext(stream.chunks)

        player.script(lambda step: step.first(2))
        stream = streamed(await upstream.send(OLLAMA.deployment(player), call(stream=True)))
        with pytest.raises(UpstreamError):
            [chunk async for chunk in stream.chunks]
        with pytest.raises(UpstreamError):
            await anext(stream.chunks)


@given(st.lists(st.text(alphabet="ab é🎉{}", min_size=1), min_size=1), st.data())
def test_pitfall_015_lines_survive_any_cut(texts: list[str], data: st.DataObject) -> None:
    lines = [json.dumps(text, ensure_ascii=False).encode() for text in texts]
    sent = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)))))
    cutter = LineCutter()
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]

    assert [line for piece in pieces for line in cutter.feed(piece)] == lines
    assert cutter.rest == b""


@given(st.lists(st.text(alphabet="ab é🎉{}", min_size=1), min_size=1), st.sampled_from(["\n", "\r\n"]), st.data())
def test_pitfall_015_events_survive_any_cut(texts: list[str], end: str, data: st.DataObject) -> None:
    contents = [json.dumps(text, ensure_ascii=False) for text in texts]
    sent = "".join(f"event: x{end}data: {content}{end}{end}" for content in contents).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)))))
    cutter = SentEventCutter()
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]

    assert [event.decode() for piece in pieces for event in cutter.feed(piece)] == contents


@given(st.lists(st.sampled_from(["event: x", "event:x", "data: {}", "data:{}", ": c", "id: 1", "", "\r", "data: 1\r"])))
def test_the_data_of_any_event_is_found(lines: list[str]) -> None:
    sent = "\n".join([*lines, "", ""]).encode()

    assert SentEventCutter().feed(sent) == [
        found for event in split_events(sent) if (found := payload(event)) and found != b"[DONE]"
    ]


def test_a_line_without_an_end_is_given_up() -> None:
    cutter = LineCutter()
    assert cutter.feed(b"x" * 30_000_000) == []
    with pytest.raises(EventTooLongError):
        cutter.feed(b"x" * 10_000_000)
