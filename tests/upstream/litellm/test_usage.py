"""What each provider reports of its usage, whole and streamed, is what the gateway notes (pitfalls 33, 38, 39, 40)."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import UpstreamError
from llmgateway.exchange import Call, Complete, Streamed, Usage
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.relay import Relay
from llmgateway.upstream.transport import Transport
from tests.upstream.translated import (
    ALL,
    ANTHROPIC,
    BEDROCK,
    COHERE,
    GEMINI,
    OLLAMA,
    Provider,
    call,
    counted,
    streamed,
    twisted,
)
from tests.upstreams.openai_wire import openai
from tests.upstreams.server import Player

DETAILS = b'{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,'
OPENAI = (
    DETAILS,
    DETAILS.replace(b'"cached_tokens":0,"audio_tokens":0', b'"cached_tokens":2,"cache_write_tokens":1,"audio_tokens":1')
    .replace(b'"reasoning_tokens":0', b'"reasoning_tokens":3')
    .replace(b'"completion_tokens_details"', b'"service_tier":"priority","completion_tokens_details"'),
)
EXPECTED = {
    "anthropic": Usage(77, 4, 40, 0, 20, 10, service_tier="priority"),
    "bedrock": Usage(77, 4, 40, 0, 30),
    "cohere": Usage(7, 4, 2),
    "gemini": Usage(7, 9, 2, 5, audio_prompt_tokens=2, image_prompt_tokens=1),
    "ollama": Usage(7, 4),
}
SAID: list[dict[str, Any]] = [{"role": "user", "content": "one two three four"}]


@pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.name)
async def test_pitfall_033_what_a_translated_provider_reports_is_noted_whole_and_streamed(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        player.always(counted(provider))
        deployment = provider.deployment(player)
        whole = await upstream.send(deployment, call(messages=SAID))
        stream = streamed(await upstream.send(deployment, call(stream=True, messages=SAID)))
        before_the_end = [(stream.usage, stream.model) async for chunk in stream.chunks if b"[DONE]" in chunk]

    assert whole.usage == EXPECTED[provider.name]
    # It is there with the chunk that ends the stream, not after it.
    assert before_the_end == [(whole.usage, whole.model)]


@pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.name)
async def test_the_client_sees_the_same_counts(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        player.always(counted(provider))
        whole = await upstream.send(provider.deployment(player), call(messages=SAID))

    assert isinstance(whole, Complete)
    assert whole.usage is not None
    usage = json.loads(whole.body)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )
    assert usage.get("prompt_tokens_details", {}).get("cached_tokens", 0) == whole.usage.cached_tokens


async def test_pitfall_033_what_a_relayed_provider_reports_is_noted_whole_and_streamed(transport: Transport) -> None:
    relay = Relay(transport)
    async with Player(openai("sk-upstream")) as player:
        player.always(twisted(*OPENAI))
        account = Account("main", "openai", "openai", api_key="sk-upstream", api_base=player.base)
        deployment = Deployment(account, "gpt-4o")
        whole = await relay.send(deployment, call(messages=SAID))
        body = json.dumps({"model": "m", "messages": SAID, "stream": True}).encode()
        stream = streamed(await relay.send(deployment, Call("chat", "m", body, stream=True)))
        before_the_end = [(stream.usage, stream.model) async for chunk in stream.chunks if b"[DONE]" in chunk]

    assert whole.usage == Usage(7, 4, 2, 3, 1, audio_prompt_tokens=1, service_tier="priority")
    assert before_the_end == [(whole.usage, "gpt-4o")]


async def test_what_anthropic_told_before_its_stream_broke_off_is_kept(upstream: LiteLLMUpstream) -> None:
    async with Player(ANTHROPIC.wire()) as player:
        twist = counted(ANTHROPIC)
        assert twist is not None
        player.always(lambda step: twist(step).cut(pieces=5))
        stream = streamed(await upstream.send(ANTHROPIC.deployment(player), call(stream=True, messages=SAID)))
        with pytest.raises(UpstreamError):
            [chunk async for chunk in stream.chunks]

    assert stream.usage == Usage(77, 1, 40, 0, 20, 10, service_tier="priority")


@pytest.mark.parametrize(("said", "tier"), [("flex", "flex"), ("STANDARD", "default")])
async def test_the_tier_that_google_says_in_a_header_is_noted_whole_and_streamed(
    upstream: LiteLLMUpstream, said: str, tier: str
) -> None:
    async with Player(GEMINI.wire()) as player:
        player.always(lambda step: replace(step, headers={**step.headers, "x-gemini-service-tier": said}))
        deployment = GEMINI.deployment(player)
        whole = await upstream.send(deployment, call(messages=SAID))
        stream = streamed(await upstream.send(deployment, call(stream=True, messages=SAID)))
        [chunk async for chunk in stream.chunks]

    assert whole.usage == stream.usage == Usage(7, 4, service_tier=tier)


CACHED: list[dict[str, Any]] = [
    {
        "role": "system",
        "content": [{"type": "text", "text": "rule " * 2000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    },
    {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
]


async def _sent_twice(send: Callable[[Call], Any], player: Player) -> list[bytes]:
    for more in ([], [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "and now?"}]):
        reply = await send(call(messages=[*CACHED, *more]))
        assert not isinstance(reply, Streamed)
    return [request.body for request in player.requests]


def _prefix(body: bytes) -> bytes:
    """Give the part up to the end of the first user message."""
    return body[: body.index(b'"hi"')]


async def test_pitfall_040_a_relayed_prompt_begins_with_the_same_bytes_each_time(transport: Transport) -> None:
    relay = Relay(transport)
    async with Player(openai("sk-upstream")) as player:
        account = Account("main", "openai", "openai", api_key="sk-upstream", api_base=player.base)
        first, second = await _sent_twice(lambda asked: relay.send(Deployment(account, "gpt-4o"), asked), player)

    assert _prefix(first) == _prefix(second)
    assert len(_prefix(first)) > 10_000
    assert json.loads(first)["messages"] == CACHED


async def test_pitfall_040_a_translated_prompt_begins_with_the_same_bytes_and_keeps_its_cache_marks(
    upstream: LiteLLMUpstream,
) -> None:
    async with Player(ANTHROPIC.wire()) as player:
        deployment = ANTHROPIC.deployment(player)
        first, second = await _sent_twice(lambda asked: upstream.send(deployment, asked), player)

    one, other = json.loads(first), json.loads(second)
    assert one["system"] == other["system"]
    assert one["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert one["messages"][0] == other["messages"][0]
    assert one["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert [*one] == [*other]


def test_every_translated_player_is_asked() -> None:
    assert {*EXPECTED} == {one.name for one in (ANTHROPIC, BEDROCK, COHERE, GEMINI, OLLAMA)}
