"""Pitfall 131: nothing that a client sends chooses an upstream, a key or a header. A canary must never be called."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import Serve
from tests.e2e.providers.conftest import Play
from tests.e2e.providers.hostile import STOLEN, hostile_fields
from tests.e2e.providers.played import AWS, PLAYED, tools, user
from tests.running import Running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

RELAYED = ["azure", "openai"]
TRANSLATED = ["anthropic", "bedrock", "cohere", "gemini", "ollama"]


@pytest.fixture
async def canary() -> AsyncIterator[Player]:
    async with Player(OpenAIWire(STOLEN)) as player:
        yield player


async def _post(gateway: Running, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await gateway.client.post("/v1/chat/completions", json=body, headers=named)
    return answer.status_code, answer.json()


def _assert_clean(player: Player, provider: str, field: str) -> None:
    """Whatever reached the provider was proven by our key, at the catalog's path, without a header of the client's."""
    played = PLAYED[provider]
    for request in player.requests:
        assert played.is_proven(request), field
        assert request.path == played.path, field
        assert STOLEN not in "".join(request.headers.values()) + request.target, field
        assert "x-smuggled" not in request.headers, field
        assert "eu-elsewhere-1" not in request.headers.get("authorization", ""), field
        assert "org-of-the-client" not in request.headers.values(), field


@pytest.mark.timeout(60)
@pytest.mark.parametrize("provider", RELAYED)
async def test_pitfall_131_a_relayed_field_goes_to_the_configured_provider_and_steers_nothing(
    play: Play, canary: Player, provider: str
) -> None:
    gateway, player = await play(provider)
    for field, value in hostile_fields(canary.url).items():
        status, answer = await _post(gateway, {"model": "chat", "messages": user("hello"), field: value})

        assert status == 200, field
        assert answer["choices"][0]["message"]["content"] == "hello", field
        assert player.last.json[field] == value, "an unknown field is the provider's to judge"
        _assert_clean(player, provider, field)
    assert canary.connections == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("provider", TRANSLATED)
async def test_pitfall_131_a_field_never_steers_a_translated_call(play: Play, canary: Player, provider: str) -> None:
    gateway, player = await play(provider)
    refused = []
    for field, value in hostile_fields(canary.url).items():
        status, answer = await _post(gateway, {"model": "chat", "messages": user("hello"), field: value})

        if status == 200:
            assert answer["choices"][0]["message"]["content"] == "hello", field
        else:
            assert status == 400, field
            assert answer["error"]["code"] in ("unsupported_parameter", "invalid_value"), field
            refused.append(field)
        _assert_clean(player, provider, field)
        assert not [request for request in player.requests if STOLEN.encode() in request.body], field
    assert canary.connections == 0
    must = {"api_base", "base_url", "api_key", "custom_llm_provider", "mock_response", "extra_headers", "extra_body"}
    assert must <= set(refused), "a client is told that these do nothing here"


@pytest.mark.parametrize("provider", [*RELAYED, *TRANSLATED])
async def test_pitfall_131_a_dropped_field_steers_nothing_either(play: Play, canary: Player, provider: str) -> None:
    gateway, player = await play(provider, model={"drop_unsupported": True})
    body = {"model": "chat", "messages": user("hello"), **hostile_fields(canary.url)}
    status, answer = await _post(gateway, body)

    if status == 200:
        assert answer["choices"][0]["message"]["content"] == "hello"
    else:
        assert status == 400
    _assert_clean(player, provider, "all at once")
    assert canary.connections == 0


@pytest.mark.parametrize("provider", [*RELAYED, *TRANSLATED])
async def test_pitfall_131_a_stream_is_no_way_around(play: Play, canary: Player, provider: str) -> None:
    gateway, _ = await play(provider)
    fields = {"api_base": canary.url, "base_url": canary.url, "api_key": STOLEN, "custom_llm_provider": "openai"}
    for field, value in fields.items():
        body = {"model": "chat", "messages": user("hello"), "stream": True, field: value}
        answer = await gateway.client.post("/v1/chat/completions", json=body)

        assert answer.status_code in (200, 400), field
    assert canary.connections == 0


@pytest.mark.parametrize("provider", ["openai", "gemini", "cohere", "ollama"])
async def test_pitfall_131_embeddings_are_no_way_around(play: Play, canary: Player, provider: str) -> None:
    gateway, player = await play(provider)
    for field, value in hostile_fields(canary.url).items():
        answer = await gateway.client.post("/v1/embeddings", json={"model": "embed", "input": "x", field: value})

        assert answer.status_code in (200, 400), field
        for request in player.requests:
            assert PLAYED[provider].is_proven(request), field
            assert "x-smuggled" not in request.headers, field
            assert STOLEN not in "".join(request.headers.values()) + request.target, field
    assert canary.connections == 0


@pytest.mark.parametrize("provider", [*RELAYED, *TRANSLATED])
async def test_pitfall_131_fields_hidden_deeper_steer_nothing(play: Play, canary: Player, provider: str) -> None:
    gateway, player = await play(provider)
    hidden = {"api_base": canary.url, "base_url": canary.url, "api_key": STOLEN, "extra_headers": {"x-smuggled": "1"}}
    tool = tools("weather")[0]
    bodies: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "hello", **hidden}]},
        {"messages": user([{"type": "text", "text": "hello", **hidden}])},
        {"messages": user("hello"), "stream_options": hidden},
        {"messages": user("hello"), "response_format": {"type": "text", **hidden}},
        {"messages": user("hello"), "tools": [{**tool, **hidden}], "tool_choice": "none"},
        {"messages": user("hello"), "tools": [{**tool, "function": {**tool["function"], **hidden}}]},
        {"messages": user("hello"), "metadata": {"deep": {"deeper": hidden}}},
    ]
    for number, body in enumerate(bodies):
        status, _ = await _post(gateway, {"model": "chat", **body})

        assert status in (200, 400), number
        _assert_clean(player, provider, str(number))
    assert canary.connections == 0


@pytest.mark.parametrize("provider", [*RELAYED, *TRANSLATED])
async def test_pitfall_131_no_part_of_a_message_is_fetched_from_here(play: Play, canary: Player, provider: str) -> None:
    gateway, player = await play(provider, model={"drop_unsupported": True})
    url = f"{canary.url}/picture.png"
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "image_url", "image_url": {"url": url, "detail": "high", "format": "image/png"}},
        {"type": "file", "file": {"file_id": url}},
        {"type": "file", "file": {"file_data": url, "filename": "x.pdf"}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "document", "source": {"type": "url", "url": url}},
        {"type": "image", "source": {"type": "url", "url": url}},
    ]
    for part in parts:
        status, _ = await _post(gateway, {"model": "chat", "messages": user([{"type": "text", "text": "x"}, part])})

        assert status in (200, 400), part
        _assert_clean(player, provider, str(part))
    assert canary.connections == 0


@pytest.mark.parametrize("provider", [*RELAYED, *TRANSLATED])
async def test_pitfall_131_a_header_steers_nothing(play: Play, canary: Player, provider: str) -> None:
    gateway, player = await play(provider)
    hostile = {
        "api-base": canary.url,
        "x-api-base": canary.url,
        "x-base-url": canary.url,
        "x-litellm-api-base": canary.url,
        "x-portkey-custom-host": canary.url,
        "x-portkey-provider": "openai",
        "helicone-target-url": canary.url,
        "x-target-url": canary.url,
        "x-upstream": canary.url,
        "x-forwarded-host": f"127.0.0.1:{canary.port}",
        "forwarded": f"host=127.0.0.1:{canary.port}",
        "host": f"127.0.0.1:{canary.port}",
        "x-goog-api-key": STOLEN,
        "anthropic-version": "1999-01-01",
        "anthropic-beta": "of-the-client",
        "openai-organization": "org-of-the-client",
        "x-amz-security-token": STOLEN,
        "api-key": STOLEN,
        "x-api-key": STOLEN,
        "authorization": f"Bearer {STOLEN}",
        "x-smuggled": "1",
    }
    for name, value in hostile.items():
        body = {"model": "chat", "messages": user("hello")}
        answer = await gateway.client.post("/v1/chat/completions", json=body, headers={name: value})

        assert answer.status_code == 200, name
        _assert_clean(player, provider, name)
        assert player.last.headers.get("anthropic-version") != "1999-01-01", name
        assert "of-the-client" not in player.last.headers.get("anthropic-beta", ""), name
        assert player.last.headers["host"] == f"127.0.0.1:{player.port}", name
    assert canary.connections == 0


def _everything(player: Player) -> str:
    """Every configured provider's models by their own names; all of them live at one player."""
    accounts: dict[str, Any] = {
        name: {"provider": name, "api_key": "sk-upstream", "api_base": player.base}
        for name in (
            "openai",
            "anthropic",
            "gemini",
            "cohere",
            "ollama",
            "mistral",
            "groq",
            "huggingface",
            "hosted_vllm",
        )
    }
    accounts["azure"] = {"provider": "azure", "api_key": "sk-upstream", "api_base": player.url, "api_version": "1"}
    accounts["bedrock"] = {"provider": "bedrock", "api_base": player.url, "options": AWS}
    return json.dumps({"providers": accounts, "models": [{"name": "*", "passthrough": True}]})


# Addresses where a model's name is asked for.
ADDRESSES = [
    "openai/{url}/x",
    "openai/{url}",
    "{url}",
    "{url}/v1",
    "//{host}/x",
    "openai//{host}/x",
    "huggingface/{url}",
    "huggingface/{url}/x",
    "huggingface/{host}/x",
    "oobabooga/{url}",
    "oobabooga/{host}",
    "custom_openai/{url}",
    "custom/{url}",
    "petals/{url}",
    "triton/{url}",
    "predibase/{url}",
    "sagemaker/{url}",
    "vertex_ai/{url}",
    "hosted_vllm/{url}",
    "ollama/{url}",
    "azure/{url}",
    "azure_ai/{url}",
    "anthropic/{url}",
    "gemini/{url}",
    "bedrock/{url}",
    "bedrock/arn:aws:bedrock:us-east-1:1:x/{url}",
    "litellm_proxy/{url}",
    "openai_like/{url}",
    "OPENAI/{url}",
    "openai/x?api_base={url}",
    "openai/x#{url}",
    "openai/x\r\nhost: {host}",
    "openai/\u2044\u2044{host}",
]


@pytest.mark.timeout(60)
async def test_pitfall_131_an_address_in_a_models_name_is_never_called(gateway: Serve, canary: Player) -> None:
    async with Player(OpenAIWire()) as player:
        served = await gateway(_everything(player), retry__max_retries=0)
        for name in ADDRESSES:
            model = name.format(url=canary.url, host=f"127.0.0.1:{canary.port}")
            status, answer = await _post(served, {"model": model, "messages": user("hello")})

            assert canary.connections == 0, name
            assert player.requests_total == 0, f"a name that holds an address is nobody's model: {name}"
            assert (status, answer["error"]["code"]) in [(404, "model_not_found"), (400, "invalid_value")], name


@pytest.mark.parametrize("name", ["openai/@{host}/x", "openai/x@{host}", "openai/HTTP:{host}"])
async def test_pitfall_131_a_name_that_only_looks_like_an_address_stays_a_name(
    gateway: Serve, canary: Player, name: str
) -> None:
    async with Player(OpenAIWire()) as player:
        served = await gateway(_everything(player))
        model = name.format(host=f"127.0.0.1:{canary.port}")
        await _post(served, {"model": model, "messages": user("hello")})

        assert canary.connections == 0
        assert [request.json["model"] for request in player.requests] == [model.removeprefix("openai/")]
        assert player.last.path == "/v1/chat/completions"


@pytest.mark.parametrize(
    "name",
    [
        "gemini/../../admin",
        "gemini/x:batchEmbedContents",
        "gemini/x?key=1",
        "gemini/%2e%2e/admin",
        "azure/../../admin",
        "azure/..%2f..%2fadmin",
        "azure/x/../../y",
        "bedrock/../admin",
        "bedrock/..%2fadmin",
        "azure/x?api-version=2",
        "azure/x#y",
    ],
)
async def test_pitfall_131_a_models_name_never_leaves_its_place_in_the_path(gateway: Serve, name: str) -> None:
    async with Player(OpenAIWire()) as player:
        served = await gateway(_everything(player), retry__max_retries=0)
        status, _ = await _post(served, {"model": name, "messages": user("hello")})

        assert status >= 400
        for request in player.requests:
            raw = request.target
            assert "/admin" not in raw
            assert "/.." not in raw
            assert not raw.endswith(":batchEmbedContents")
            assert "key=1" not in raw
            assert "api-version=2" not in raw
            assert "/deployments/y/" not in raw
