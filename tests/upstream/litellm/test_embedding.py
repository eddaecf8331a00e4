from typing import Any

import pytest

from llmgateway.errors import InvalidRequestError, UnsupportedParameterError, UpstreamRateLimitedError
from llmgateway.exchange import Complete, Usage
from llmgateway.upstream.litellm import LiteLLMUpstream
from tests.upstream.translated import COHERE, GEMINI, OLLAMA, call, whole
from tests.upstreams.server import Player


async def test_the_order_the_model_and_the_usage_are_openais(upstream: LiteLLMUpstream) -> None:
    async with Player(OLLAMA.wire()) as player:
        reply = await upstream.send(OLLAMA.deployment(player), call("embedding", input=["one two", "three"]))

    assert isinstance(reply, Complete)
    assert reply.usage == Usage(prompt_tokens=3)
    assert reply.model == "llama3.1"


async def test_dimensions_go_on(upstream: LiteLLMUpstream) -> None:
    async with Player(COHERE.wire()) as player:
        answer = await whole(upstream, COHERE.deployment(player), call("embedding", input="one", dimensions=4))

    assert len(answer["data"][0]["embedding"]) == 4


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2]], [], None, 7, ["a", 1]])
async def test_only_texts_are_embedded(upstream: LiteLLMUpstream, given: Any) -> None:
    async with Player(OLLAMA.wire()) as player:
        with pytest.raises(InvalidRequestError) as caught:
            await upstream.send(OLLAMA.deployment(player), call("embedding", input=given))

    assert caught.value.param == "input"


@pytest.mark.parametrize(
    "text", ["files/abc", "gs://bucket/x.png", "https://generativelanguage.googleapis.com/v1beta/files/a"]
)
async def test_pitfall_131_no_file_of_the_gateways_own_account_is_read(upstream: LiteLLMUpstream, text: str) -> None:
    async with Player(GEMINI.wire()) as player:
        with pytest.raises(InvalidRequestError, match="not files"):
            await upstream.send(GEMINI.deployment(player), call("embedding", input=["a", text]))

    assert player.requests_total == 0


async def test_an_unknown_form_of_vectors_is_refused(upstream: LiteLLMUpstream) -> None:
    async with Player(OLLAMA.wire()) as player:
        with pytest.raises(InvalidRequestError) as caught:
            await upstream.send(OLLAMA.deployment(player), call("embedding", input="a", encoding_format="hex"))

    assert caught.value.param == "encoding_format"


@pytest.mark.parametrize("name", ["api_base", "api_key", "extra_headers", "custom_llm_provider", "colour"])
async def test_pitfall_131_a_client_never_steers_an_embedding(upstream: LiteLLMUpstream, name: str) -> None:
    steering: dict[str, Any] = {name: "http://127.0.0.1:9/canary"}
    asked = call("embedding", input="a", user="u", **steering)
    async with Player(GEMINI.wire()) as player:
        with pytest.raises(UnsupportedParameterError) as caught:
            await upstream.send(GEMINI.deployment(player), asked)
        await upstream.send(GEMINI.deployment(player, drop_unsupported=True), asked)

    assert caught.value.param == name
    assert player.requests_total == 1
    assert "canary" not in f"{player.last.target} {player.last.headers} {player.last.body!r}"


async def test_a_providers_error_is_translated(upstream: LiteLLMUpstream) -> None:
    async with Player(COHERE.wire()) as player:
        player.always(player.wire.error(429, "slow down", retry_after="3"))
        with pytest.raises(UpstreamRateLimitedError, match="slow down") as caught:
            await upstream.send(COHERE.deployment(player), call("embedding", input="a"))

        assert (caught.value.retry_after_s, player.requests_total) == (3.0, 1)
