"""JSON by a schema, pictures, thinking and a provider's own parameters, through every provider that has them."""

import json
from typing import Any

import openai
import pydantic
import pytest

from tests.e2e.providers.conftest import Play
from tests.e2e.providers.played import EVERY, PARAMETERS, user
from tests.upstreams.answers import PNG, PNG_URI
from tests.upstreams.anthropic_wire import THOUGHT
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PARAMETERS}}


class Place(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    city: str
    days: int


@pytest.mark.parametrize("provider", EVERY)
async def test_an_answer_by_a_schema_is_parsed_by_the_sdk(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.chat.completions.parse(model="chat", messages=user("x"), response_format=Place)

    assert answer.choices[0].message.parsed == Place(city="city é😀 0", days=7)
    assert answer.choices[0].finish_reason == "stop"
    assert not answer.choices[0].message.tool_calls


@pytest.mark.parametrize("provider", EVERY)
async def test_a_streamed_answer_by_a_schema_is_its_text(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    stream = await gateway.openai.chat.completions.create(
        model="chat", messages=user("x"), response_format=FORMAT, stream=True
    )
    choices = [chunk.choices[0] async for chunk in stream if chunk.choices]

    assert json.loads("".join(choice.delta.content or "" for choice in choices)) == {"city": "city é😀 0", "days": 7}
    assert not [choice for choice in choices if choice.delta.tool_calls]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "cohere", "gemini", "ollama"])
async def test_a_parameter_that_the_provider_lacks_is_refused_by_name(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.openai.chat.completions.create(model="chat", messages=user("x"), logit_bias={"1": 5})

    assert caught.value.code == "unsupported_parameter"
    assert caught.value.param == "logit_bias"
    assert player.requests_total == 0


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "cohere", "gemini", "ollama"])
async def test_a_parameter_that_the_provider_lacks_is_dropped_where_the_catalog_says_so(
    play: Play, provider: str
) -> None:
    gateway, player = await play(provider, model={"drop_unsupported": True})
    await gateway.openai.chat.completions.create(model="chat", messages=user("x"), logit_bias={"1": 5})

    assert b"logit_bias" not in player.last.body


@pytest.mark.parametrize("provider", EVERY)
async def test_a_picture_arrives_whole(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": PNG_URI}}]
    answer = await gateway.openai.chat.completions.create(model="chat", messages=user(content))

    said = answer.choices[0].message.content or ""
    assert said.startswith("[image")
    assert said.endswith(f" {len(PNG)} bytes] what?")


@pytest.mark.parametrize("provider", EVERY)
async def test_an_address_of_a_picture_is_never_fetched_from_here(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    async with Player(OpenAIWire()) as canary:
        content = [
            {"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": f"{canary.url}/picture.png"}},
        ]
        answer = await gateway.client.post("/v1/chat/completions", json={"model": "chat", "messages": user(content)})

        assert canary.connections == 0
        assert answer.status_code in (200, 400)
        if answer.status_code == 200:
            assert canary.url.encode() in player.last.body, "the provider gets the address, to judge for itself"
        else:
            assert answer.json()["error"]["param"] == "messages[0].content[1].image_url.url"


async def test_anthropics_thinking_is_handed_on_before_the_answer(play: Play) -> None:
    gateway, player = await play("anthropic")
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    stream = await gateway.openai.chat.completions.create(
        model="chat", messages=user("hello"), max_tokens=2048, extra_body=thinking, stream=True
    )
    deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]

    assert "".join(thoughts).strip() == THOUGHT
    assert "".join(delta.content or "" for delta in deltas) == "hello"
    assert player.last.json["thinking"] == thinking["thinking"]


@pytest.mark.parametrize(
    ("provider", "field", "value", "place"),
    [
        ("anthropic", "top_k", 5, ("top_k",)),
        ("gemini", "top_k", 5, ("generationConfig", "top_k")),
        ("ollama", "keep_alive", "5m", ("keep_alive",)),
        ("openai", "a_field_of_tomorrow", {"deep": [1, None]}, ("a_field_of_tomorrow",)),
    ],
)
async def test_a_providers_own_parameter_reaches_it(
    play: Play, provider: str, field: str, value: Any, place: tuple[str, ...]
) -> None:
    gateway, player = await play(provider)
    await gateway.openai.chat.completions.create(model="chat", messages=user("x"), extra_body={field: value})

    found: Any = player.last.json
    for name in place:
        found = found[name]
    assert found == value


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "cohere", "gemini", "ollama"])
async def test_an_unknown_parameter_is_refused_by_a_translated_provider(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.openai.chat.completions.create(
            model="chat", messages=user("x"), extra_body={"a_field_of_tomorrow": 1}
        )

    assert caught.value.code == "unsupported_parameter"
    assert caught.value.param == "a_field_of_tomorrow"
    assert player.requests_total == 0
