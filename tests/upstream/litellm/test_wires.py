"""The providers that are spoken to directly, at the right addresses; what they say is in test_equality.py."""

import json
from typing import Any

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import InvalidRequestError, UpstreamAuthError
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.litellm.question import read_question
from llmgateway.upstream.litellm.wires import WIRES
from tests.upstream.translated import (
    ANTHROPIC,
    COHERE,
    DIRECT,
    GEMINI,
    OLLAMA,
    Provider,
    call,
    chunks,
    whole,
)
from tests.upstreams.cohere_wire import CohereWire
from tests.upstreams.server import Player
from tests.upstreams.step import Step

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    ("provider", "ending", "path"),
    [
        (ANTHROPIC, "", "/v1/messages"),
        (ANTHROPIC, "/v1", "/v1/messages"),
        (ANTHROPIC, "/v1/messages", "/v1/messages"),
        (ANTHROPIC, "/proxy/anthropic/", "/proxy/anthropic/v1/messages"),
        (COHERE, "", "/v2/chat"),
        (COHERE, "/v2", "/v2/chat"),
        (COHERE, "/v2/chat", "/v2/chat"),
        (OLLAMA, "", "/api/chat"),
        (OLLAMA, "/v1", "/api/chat"),
        (OLLAMA, "/api/chat", "/api/chat"),
        (GEMINI, "/v1beta", "/v1beta/models/gemini-2.5-flash:generateContent"),
        (GEMINI, "", "/v1beta/models/gemini-2.5-flash:generateContent"),
    ],
)
async def test_an_address_may_or_may_not_hold_the_version_and_path(
    upstream: LiteLLMUpstream, provider: Provider, ending: str, path: str
) -> None:
    async with Player(provider.wire()) as player:
        account = Account(
            name="a", provider=provider.name, wire="litellm", api_key=provider.key, api_base=player.url + ending
        )
        player.always(player.wire.error(400, "stop here"))
        with pytest.raises(Exception, match="stop here"):
            await upstream.send(Deployment(account=account, model=provider.model), call())

        assert player.last.path == path


@pytest.mark.parametrize(
    ("provider", "address"),
    [
        (ANTHROPIC, "https://api.anthropic.com/v1/messages"),
        (COHERE, "https://api.cohere.com/v2/chat"),
        (GEMINI, "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"),
        (OLLAMA, "http://localhost:11434/api/chat"),
    ],
)
async def test_without_an_address_the_providers_own_is_called(litellm: Any, provider: Provider, address: str) -> None:
    account = Account(name="a", provider=provider.name, wire="litellm", api_key="key-0042")
    deployment = Deployment(account=account, model=provider.model)
    wire = WIRES[provider.name](litellm, deployment)

    assert wire.request(read_question(call(), deployment, wire.known), stream=False).url == address


async def test_the_catalogs_extra_headers_are_sent(upstream: LiteLLMUpstream) -> None:
    for provider in (ANTHROPIC, GEMINI):
        async with Player(provider.wire()) as player:
            account = Account(
                name="a",
                provider=provider.name,
                wire="litellm",
                api_key=provider.key,
                api_base=player.base,
                options={"extra_headers": {"x-team": "blue"}},
            )
            await whole(upstream, Deployment(account=account, model=provider.model), call())

        assert player.last.headers["x-team"] == "blue"


async def test_a_missing_key_is_the_gateways_fault_not_the_clients(
    upstream: LiteLLMUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    account = Account(name="a", provider="anthropic", wire="litellm", api_base="http://127.0.0.1:9")
    with pytest.raises(UpstreamAuthError, match="Missing Anthropic API Key"):
        await upstream.send(Deployment(account=account, model="claude-sonnet-4-5"), call())


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "not-a-picture"}}]},
        {"role": "assistant", "tool_calls": [{"id": "x", "type": "function", "function": {"arguments": "not JSON"}}]},
        {"role": "tool", "content": "no call before it"},
    ],
)
@pytest.mark.parametrize("provider", DIRECT, ids=lambda provider: provider.name)
async def test_a_message_that_cannot_be_translated_is_a_400_without_the_prompt(
    upstream: LiteLLMUpstream, provider: Provider, message: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": "the secret prompt"}, message]
    async with Player(provider.wire()) as player:
        player.always(player.wire.error(400, "the provider refuses it"))
        with pytest.raises(Exception, match=r"cannot be put|the provider refuses it") as caught:
            await upstream.send(provider.deployment(player), call(messages=messages))

    assert getattr(caught.value, "status", None) == 400
    assert "the secret prompt" not in str(caught.value)


async def test_ollamas_thoughts_within_the_text_are_told_apart(upstream: LiteLLMUpstream) -> None:
    body = {"model": "m", "message": {"role": "assistant", "content": "<think>hm</think>yes"}, "done": True}
    async with Player(OLLAMA.wire()) as player:
        player.script(lambda step: step.first(0).then(json.dumps(body).encode()))
        answer = await whole(upstream, OLLAMA.deployment(player), call())

    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("yes", "hm")


async def test_gemini_blocks_are_content_filters(upstream: LiteLLMUpstream) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}
    async with Player(GEMINI.wire()) as player:
        player.script(Step(headers={"content-type": "application/json"}).then(json.dumps(blocked).encode()))
        answer = await whole(upstream, GEMINI.deployment(player), call())

    assert answer["choices"][0]["finish_reason"] == "content_filter"


async def test_cohere_streams_as_events(upstream: LiteLLMUpstream) -> None:
    async with Player(CohereWire()) as player:
        await chunks(upstream, COHERE.deployment(player), call(stream=True))

    assert player.last.headers["accept"] == "text/event-stream"
    assert player.last.json["stream"] is True


async def test_a_picture_for_anthropic_over_plain_http_is_refused(upstream: LiteLLMUpstream) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}
    async with Player(ANTHROPIC.wire()) as player:
        with pytest.raises(InvalidRequestError, match="data: URI"):
            await upstream.send(ANTHROPIC.deployment(player), call(messages=[{"role": "user", "content": [part]}]))
