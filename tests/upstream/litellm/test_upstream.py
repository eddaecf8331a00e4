"""Every translated provider over a socket: what a client gets, whichever of them answers."""

import base64
import json
import struct
import time

import anyio
import pytest

from llmgateway.errors import (
    ContextLengthError,
    InvalidRequestError,
    UnsupportedParameterError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Complete, Usage
from llmgateway.upstream.litellm import LiteLLMUpstream
from tests.upstream import translated
from tests.upstream.translated import (
    ALL,
    ANTHROPIC,
    AS_JSON,
    BEDROCK,
    COHERE,
    DIRECT,
    GEMINI,
    OLLAMA,
    PICTURE,
    TOOLS,
    Provider,
    call,
    calls_of,
    chunks,
    deltas,
    streamed,
    text_of,
    whole,
)
from tests.upstreams.server import Player

pytestmark = pytest.mark.timeout(60)
every = pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.name)


@every
async def test_a_chat_is_answered_in_openais_shape(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        reply = await upstream.send(provider.deployment(player), call())

    assert isinstance(reply, Complete)
    answer = json.loads(reply.body)
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl")
    assert abs(answer["created"] - time.time()) < 10  # noqa: TID251  a date, as the API gives it
    assert answer["model"] == reply.model == provider.model
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "hello big wörld 🎉", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert reply.usage == Usage(prompt_tokens=7, completion_tokens=4)
    assert answer["usage"].items() >= {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}.items()


@every
async def test_a_stream_is_openais_and_ends_whole(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        stream = streamed(await upstream.send(provider.deployment(player), call(stream=True)))
        found = translated.parse(b"".join([chunk async for chunk in stream.chunks]))

    assert text_of(found) == "hello big wörld 🎉"
    assert {(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in found} == {
        (found[0]["id"], found[0]["created"], provider.model, "chat.completion.chunk")
    }
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None] * (len(found) - 1) + ["stop"]
    assert all("usage" not in chunk for chunk in found)
    assert stream.usage == Usage(prompt_tokens=7, completion_tokens=4)
    assert stream.model == provider.model


@every
async def test_pitfall_014_the_role_comes_in_the_first_delta_and_only_there(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        found = await chunks(upstream, provider.deployment(player), call(stream=True))

    assert [delta.get("role") for delta in deltas(found)] == ["assistant"] + [None] * (len(found) - 1)


@every
async def test_pitfall_018_usage_is_always_counted_and_sent_only_when_asked_for(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        found = await chunks(upstream, provider.deployment(player), call(stream=True, include_usage=True))

    *others, last = found
    assert last["choices"] == []
    assert last["usage"].items() >= {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}.items()
    assert all(chunk["usage"] is None for chunk in others)


@every
async def test_parallel_tools_are_called(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        answer = await whole(upstream, provider.deployment(player), call(tools=TOOLS))

    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    made = choice["message"]["tool_calls"]
    assert [one["function"]["name"] for one in made] == ["weather", "time"]
    assert [one["type"] for one in made] == ["function", "function"]
    assert [json.loads(one["function"]["arguments"]) for one in made] == [
        {"city": "city é😀 0"},
        {"city": "city é😀 1"},
    ]
    assert len({one["id"] for one in made}) == 2


@every
async def test_pitfall_013_044_streamed_tool_calls_are_numbered_from_zero_with_id_and_name_first(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        found = await chunks(upstream, provider.deployment(player), call(stream=True, tools=TOOLS))

    made = calls_of(found)
    assert [one["name"] for one in made] == ["weather", "time"]
    assert [json.loads(one["arguments"]) for one in made] == [{"city": "city é😀 0"}, {"city": "city é😀 1"}]
    assert len({one["id"] for one in made}) == 2
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


@every
async def test_tool_results_go_back_to_the_provider(upstream: LiteLLMUpstream, provider: Provider) -> None:
    asked = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    messages = [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    async with Player(provider.wire()) as player:
        answer = await whole(upstream, provider.deployment(player), call(messages=messages, tools=TOOLS))

    assert "sunny" in answer["choices"][0]["message"]["content"]


@every
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_follows_a_json_schema(upstream: LiteLLMUpstream, provider: Provider, stream: bool) -> None:
    asked = call(stream=stream, response_format=AS_JSON)
    async with Player(provider.wire()) as player:
        deployment = provider.deployment(player)
        if stream:
            found = await chunks(upstream, deployment, asked)
            text, reason = text_of(found), found[-1]["choices"][0]["finish_reason"]
        else:
            [choice] = (await whole(upstream, deployment, asked))["choices"]
            text, reason = choice["message"]["content"], choice["finish_reason"]

    assert list(json.loads(text)) == ["answer"]
    assert reason == "stop"


@every
async def test_a_picture_reaches_the_provider(upstream: LiteLLMUpstream, provider: Provider) -> None:
    parts = [{"type": "text", "text": "What is this?"}, PICTURE]
    async with Player(provider.wire()) as player:
        answer = await whole(upstream, provider.deployment(player), call(messages=[{"role": "user", "content": parts}]))

    assert "5 bytes" in answer["choices"][0]["message"]["content"]


@every
@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_answer_says_length(upstream: LiteLLMUpstream, provider: Provider, stream: bool) -> None:
    asked = call(stream=stream, max_tokens=2)
    async with Player(provider.wire()) as player:
        deployment = provider.deployment(player)
        last = (await chunks(upstream, deployment, asked))[-1] if stream else await whole(upstream, deployment, asked)

    assert last["choices"][0]["finish_reason"] == "length"


@every
@pytest.mark.parametrize("stream", [False, True])
async def test_a_legacy_completion_is_a_chat_of_one_message(
    upstream: LiteLLMUpstream, provider: Provider, stream: bool
) -> None:
    asked = call("completion", stream=stream, prompt="say this")
    async with Player(provider.wire()) as player:
        deployment = provider.deployment(player)
        if stream:
            found = await chunks(upstream, deployment, asked)
        else:
            found = [await whole(upstream, deployment, asked)]

    assert {chunk["object"] for chunk in found} == {"text_completion"}
    assert "".join(chunk["choices"][0]["text"] for chunk in found) == "say this"
    assert found[-1]["choices"][0]["finish_reason"] == "stop"


@every
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UpstreamRejectedError),
        (401, UpstreamAuthError),
        (403, UpstreamAuthError),
        (404, UpstreamRejectedError),
        (429, UpstreamRateLimitedError),
        (500, UpstreamError),
        (503, UpstreamError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_pitfall_058_a_providers_error_keeps_its_words_and_its_wait(
    upstream: LiteLLMUpstream, provider: Provider, status: int, kind: type[UpstreamError], stream: bool
) -> None:
    async with Player(provider.wire()) as player:
        player.script(player.wire.error(status, "Nothing doing (403, see 429).", retry_after="7"))
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(provider.deployment(player), call(stream=stream))

    assert type(caught.value) is kind
    assert "Nothing doing (403, see 429)." in caught.value.message
    assert caught.value.upstream_status == status
    assert caught.value.may_retry is (status in {429, 500, 503})
    assert caught.value.retry_after_s == (7 if status in {429, 500, 503} else None)


@every
async def test_a_prompt_that_does_not_fit_is_known_by_the_providers_own_words(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        player.script(player.wire.too_long())
        with pytest.raises(ContextLengthError):
            await upstream.send(provider.deployment(player), call())


async def test_anthropics_empty_account_is_a_quota_error(upstream: LiteLLMUpstream) -> None:
    async with Player(ANTHROPIC.wire()) as player:
        player.script(player.wire.error(400, "Your credit balance is too low to access the Anthropic API."))
        with pytest.raises(UpstreamQuotaError):
            await upstream.send(ANTHROPIC.deployment(player), call())


@every
async def test_pitfall_135_no_key_is_ever_in_an_address(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        await whole(upstream, provider.deployment(player), call())
        await chunks(upstream, provider.deployment(player), call(stream=True))

    for request in player.requests:
        assert "key" not in request.query
        assert not provider.key or provider.key not in request.target


@every
async def test_a_lost_connection_may_be_tried_again_and_names_no_address(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        player.always(lambda step: step.cut(pieces=0, reset=True))
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(provider.deployment(player), call())

    assert caught.value.may_retry
    assert "127.0.0.1" not in caught.value.message


@pytest.mark.parametrize("provider", DIRECT, ids=lambda provider: provider.name)
@pytest.mark.parametrize("body", [b'{"unexpected": true}', b"[]", b"not JSON", b""])
async def test_an_answer_in_no_known_format_is_a_broken_answer(
    upstream: LiteLLMUpstream, provider: Provider, body: bytes
) -> None:
    async with Player(provider.wire()) as player:
        player.script(lambda step: step.first(0).then(body))
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(provider.deployment(player), call())

    assert caught.value.status == 502
    assert caught.value.may_retry


@pytest.mark.parametrize("provider", DIRECT, ids=lambda provider: provider.name)
async def test_pitfall_019_an_error_in_a_200_is_an_error(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        body = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
        player.script(lambda step: step.first(0).then(body))
        with pytest.raises(UpstreamRateLimitedError, match="slow down"):
            await upstream.send(provider.deployment(player), call())


@pytest.mark.parametrize("provider", [COHERE, GEMINI, OLLAMA], ids=lambda provider: provider.name)
async def test_embeddings_come_as_numbers_or_packed(upstream: LiteLLMUpstream, provider: Provider) -> None:
    async with Player(provider.wire()) as player:
        deployment = provider.deployment(player)
        plain = await whole(upstream, deployment, call("embedding", input=["one", "two"]))
        packed = await whole(upstream, deployment, call("embedding", input="one", encoding_format="base64"))

    assert [row["index"] for row in plain["data"]] == [0, 1]
    first = plain["data"][0]["embedding"]
    unpacked = struct.unpack(f"<{len(first)}f", base64.b64decode(packed["data"][0]["embedding"]))
    assert unpacked == pytest.approx(first)


@every
async def test_pitfall_022_a_client_that_leaves_ends_the_stream_at_the_provider(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    async with Player(provider.wire()) as player:
        player.script(lambda step: step.endless(pieces=3, pause_s=0.01))
        stream = streamed(await upstream.send(provider.deployment(player), call(stream=True)))
        await anext(stream.chunks)
        await stream.chunks.aclose()
        await player.until(lambda: bool(player.cancels), within_s=1)


@every
@pytest.mark.parametrize("stream", [False, True])
async def test_pitfall_020_021_a_call_that_is_cancelled_ends_at_the_provider(
    upstream: LiteLLMUpstream, provider: Provider, stream: bool
) -> None:
    async with Player(provider.wire()) as player:
        player.script(lambda step: step.delayed(30))
        async with anyio.create_task_group() as group:
            group.start_soon(upstream.send, provider.deployment(player), call(stream=stream))
            await player.until(lambda: player.in_flight == 1)
            group.cancel_scope.cancel()
        await player.until(lambda: bool(player.cancels), within_s=1)


async def test_a_changed_deployment_is_not_answered_by_the_old_one(upstream: LiteLLMUpstream) -> None:
    async with Player(ANTHROPIC.wire()) as player, Player(ANTHROPIC.wire()) as other:
        await whole(upstream, ANTHROPIC.deployment(player), call())
        await whole(upstream, ANTHROPIC.deployment(other), call())

    assert (player.requests_total, other.requests_total) == (1, 1)


async def test_a_long_prompt_is_translated_off_the_event_loop(upstream: LiteLLMUpstream) -> None:
    text = "a-long-word-" * 30_000
    async with Player(ANTHROPIC.wire()) as player:
        answer = await whole(upstream, ANTHROPIC.deployment(player), call(messages=[{"role": "user", "content": text}]))

    assert answer["choices"][0]["message"]["content"].strip() == text.strip()


async def test_an_unknown_parameter_is_refused_or_dropped(upstream: LiteLLMUpstream) -> None:
    async with Player(BEDROCK.wire()) as player:
        with pytest.raises(UnsupportedParameterError) as caught:
            await upstream.send(BEDROCK.deployment(player), call(colour="red"))
        await upstream.send(BEDROCK.deployment(player, drop_unsupported=True), call(colour="red"))

    assert caught.value.param == "colour"


async def test_token_ids_are_not_embedded(upstream: LiteLLMUpstream) -> None:
    async with Player(OLLAMA.wire()) as player:
        with pytest.raises(InvalidRequestError) as caught:
            await upstream.send(OLLAMA.deployment(player), call("embedding", input=[1, 2, 3]))

    assert caught.value.param == "input"
