"""What a client may say to a translated provider, and what never leaves the gateway."""

import json
from typing import Any

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import InvalidRequestError, UnsupportedParameterError, UpstreamRejectedError
from llmgateway.exchange import Call
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.litellm.question import Known, known_parameters, read_question, refuse_remote_media
from tests.upstream.translated import ALL, ANTHROPIC, COHERE, GEMINI, HELLO, OLLAMA, TOOLS, Provider, call, whole
from tests.upstreams.server import Player

KNOWN = Known(openai=frozenset({"temperature", "tools", "max_tokens"}), own=frozenset({"top_k"}))
every = pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.name)


def deployment(**changes: Any) -> Deployment:
    return Deployment(account=Account(name="a", provider="anthropic", wire="litellm"), model="claude", **changes)


CANARY = "http://127.0.0.1:9/canary"
OVERRIDES: dict[str, Any] = {
    "api_base": CANARY,
    "base_url": CANARY,
    "api_key": "sk-canary-key",
    "api_version": "canary",
    "custom_llm_provider": "openai",
    "mock_response": "canary",
    "extra_headers": {"x-canary": "1"},
    "headers": {"x-canary": "1"},
    "extra_body": {"canary": True},
    "aws_access_key_id": "canary",
    "aws_bedrock_runtime_endpoint": CANARY,
    "vertex_credentials": CANARY,
    "vertex_project": "canary",
    "azure_ad_token": "canary",
    "litellm_params": {"api_base": CANARY},
    "litellm_credential_name": "canary",
    "fallbacks": ["openai/gpt-4o"],
    "model_list": [{"api_base": CANARY}],
    "timeout": 0.001,
    "num_retries": 9,
    "client": "canary",
    "callbacks": [CANARY],
    "success_callback": ["canary"],
    "allowed_openai_params": ["canary"],
    "additional_drop_params": ["messages"],
    "drop_params": True,
    "proxy": CANARY,
    "organization": "canary",
    "project": "canary",
    "region_name": "canary",
    "input_cost_per_token": 0,
    "caching": True,
    "ssl_verify": False,
    "prompt_id": "canary",
    "guardrails": ["canary"],
    "_skip_mcp_handler": False,
    "no-log": False,
    "shared_session": "canary",
    "system": "canary",
}


@every
@pytest.mark.parametrize("name", sorted(OVERRIDES))
async def test_pitfall_131_a_client_never_steers_where_a_call_goes(
    upstream: LiteLLMUpstream, provider: Provider, name: str
) -> None:
    async with Player(provider.wire()) as player:
        with pytest.raises(UnsupportedParameterError) as caught:
            await upstream.send(provider.deployment(player), call(**{name: OVERRIDES[name]}))
        assert caught.value.param == name

        await upstream.send(provider.deployment(player, drop_unsupported=True), call(**{name: OVERRIDES[name]}))
        assert player.requests_total == 1
        assert "canary" not in f"{player.last.target} {player.last.headers} {player.last.body!r}"


@every
async def test_pitfall_131_nor_through_metadata_or_other_labels(upstream: LiteLLMUpstream, provider: Provider) -> None:
    labels: dict[str, Any] = {
        "metadata": OVERRIDES,
        "store": True,
        "prompt_cache_key": "canary",
        "prediction": {"content": "canary"},
    }
    async with Player(provider.wire()) as player:
        answer = await whole(upstream, provider.deployment(player), call(**labels))

    assert answer["choices"][0]["message"]["content"] == "hello big wörld 🎉"
    assert "canary" not in f"{player.last.target} {player.last.headers} {player.last.body!r}"


@pytest.mark.parametrize("provider", [GEMINI, OLLAMA, ALL[-1]], ids=lambda provider: provider.name)
@pytest.mark.parametrize("scheme", ["http://", "https://", " HTTPS://", "file:///", "gs://", "s3://"])
async def test_pitfall_131_no_address_of_a_clients_is_fetched(
    upstream: LiteLLMUpstream, provider: Provider, scheme: str
) -> None:
    async with Player(OLLAMA.wire()) as canary, Player(provider.wire()) as player:
        url = f"{scheme}127.0.0.1:{canary.port}/x.png"
        for part in (
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "image_url", "image_url": url},
            {"type": "file", "file": {"file_id": url}},
            {"type": "file", "file": {"file_data": url, "filename": "x.pdf"}},
            {"type": "video_url", "video_url": {"url": url}},
            {"type": "document", "source": {"type": "url", "url": url}},
            {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": url}}]},
        ):
            with pytest.raises(InvalidRequestError, match="data: URI") as caught:
                await upstream.send(provider.deployment(player), call(messages=[{"role": "user", "content": [part]}]))
            assert caught.value.param is not None
            assert caught.value.param.startswith("messages[0].content[0].")

    assert (canary.requests_total, canary.connections, player.requests_total) == (0, 0, 0)


@pytest.mark.parametrize("provider", [ANTHROPIC, COHERE], ids=lambda provider: provider.name)
async def test_pitfall_131_an_address_that_the_provider_fetches_itself_goes_on_as_it_is(
    upstream: LiteLLMUpstream, provider: Provider
) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png"}}
    asked = call(messages=[{"role": "user", "content": [{"type": "text", "text": "see"}, part]}])
    async with Player(provider.wire()) as player:
        player.script(player.wire.error(400, "That picture is not there."))
        with pytest.raises(UpstreamRejectedError):
            await upstream.send(provider.deployment(player), asked)

    assert b"https://pictures.example/cat.png" in player.last.body


def test_text_may_hold_addresses() -> None:
    content = [{"type": "text", "text": CANARY}, {"type": "tool_result", "content": f"see {CANARY}"}]
    refuse_remote_media([{"role": "user", "content": CANARY}, {"role": "user", "content": content}], lambda _: False)


def test_plain_base64_is_no_address() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}}
    refuse_remote_media([{"role": "user", "content": [part]}], lambda _: False)


async def test_a_providers_own_parameters_pass(upstream: LiteLLMUpstream) -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    async with Player(GEMINI.wire()) as player:
        await whole(upstream, GEMINI.deployment(player), call(safety_settings=safety, top_k=3))

    assert player.last.json["safetySettings"] == safety
    assert player.last.json["generationConfig"]["top_k"] == 3


async def test_a_provider_gets_its_parameters_from_openais(upstream: LiteLLMUpstream) -> None:
    async with Player(ANTHROPIC.wire()) as player:
        asked = call(temperature=0.5, top_p=0.9, stop=["END"], max_completion_tokens=9, top_k=3, user="u-1")
        await whole(upstream, ANTHROPIC.deployment(player), asked)
    assert (
        player.last.json.items()
        >= {
            "temperature": 0.5,
            "stop_sequences": ["END"],
            "max_tokens": 9,
            "top_k": 3,
            "metadata": {"user_id": "u-1"},
        }.items()
    )

    async with Player(OLLAMA.wire()) as player:
        await whole(upstream, OLLAMA.deployment(player), call(seed=7, num_ctx=4096, keep_alive="5m", user="u-1"))
    assert player.last.json["options"] == {"seed": 7, "num_ctx": 4096}
    assert player.last.json["keep_alive"] == "5m"

    async with Player(COHERE.wire()) as player:
        await whole(upstream, COHERE.deployment(player), call(tools=TOOLS, tool_choice="required", top_p=0.9))
    assert player.last.json.items() >= {"tool_choice": "REQUIRED", "p": 0.9}.items()


@every
async def test_pitfall_047_what_asks_for_nothing_is_not_sent(upstream: LiteLLMUpstream, provider: Provider) -> None:
    nothing: dict[str, Any] = {
        "n": 1,
        "logprobs": False,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "response_format": {"type": "text"},
        "logit_bias": {},
        "tools": None,
        "tool_choice": None,
        "stop": None,
        "modalities": ["text"],
        "stream_options": None,
    }
    async with Player(provider.wire()) as player:
        answer = await whole(upstream, provider.deployment(player), call(**nothing))

    assert answer["choices"][0]["message"]["content"] == "hello big wörld 🎉"
    assert b"null" not in player.last.body


def test_the_catalogs_defaults_stand_unless_the_client_says_otherwise() -> None:
    defaults = {"temperature": 0.2, "top_k": 5, "tools": [{"name": "mine"}]}
    question = read_question(call(temperature=0.9), deployment(defaults=defaults), KNOWN)

    assert question.parameters["temperature"] == 0.9
    assert question.own == {"top_k": 5}
    assert question.parameters["tools"] is not defaults["tools"], "a translation may change what it is given"


def test_an_unknown_parameter_is_named_with_what_to_do() -> None:
    with pytest.raises(UnsupportedParameterError) as caught:
        read_question(call(seed=1), deployment(), KNOWN)

    assert caught.value.param == "seed"
    assert "anthropic" in caught.value.message
    assert "drop_unsupported" in caught.value.message


@pytest.mark.parametrize("prompt", [["one", "two"], [1, 2, 3], [[1, 2]], [], None, 7])
def test_a_prompt_must_be_one_text(prompt: object) -> None:
    asked = Call("completion", "m", json.dumps({"prompt": prompt}).encode())
    with pytest.raises(InvalidRequestError) as caught:
        read_question(asked, deployment(), KNOWN)

    assert caught.value.param == "prompt"


@pytest.mark.parametrize("prompt", ["one", ["one"]])
def test_a_prompt_becomes_a_users_message(prompt: object) -> None:
    asked = Call("completion", "m", json.dumps({"prompt": prompt, "echo": False, "best_of": 1}).encode())
    assert read_question(asked, deployment(), KNOWN).messages == [{"role": "user", "content": "one"}]


def test_what_a_configuration_declares_is_allowed_unless_it_could_steer() -> None:
    class Declared:
        top_k: int
        maxTokens: int  # noqa: N815  a provider's spelling
        api_base: str
        apiKey: str  # noqa: N815  a provider's spelling
        project_id: str
        metadata: dict[str, str]
        _hidden: int

    known = known_parameters("other", ["temperature", "extra_headers", "api_key"], Declared())

    assert known == Known(openai=frozenset({"temperature"}), own=frozenset({"top_k", "maxTokens"}))


def test_messages_stay_as_they_are() -> None:
    assert read_question(call(), deployment(), KNOWN).messages == HELLO
