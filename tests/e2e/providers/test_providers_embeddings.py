"""Embeddings through the providers that have them, and legacy completions."""

from typing import Any

import openai
import pytest

from tests.e2e.providers.conftest import Play
from tests.e2e.providers.played import EMBEDDING, PLAYED, tools, user
from tests.upstreams.answers import vector


@pytest.mark.parametrize("provider", EMBEDDING)
async def test_one_text_gives_one_vector(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    answer = await gateway.openai.embeddings.create(model="embed", input="one text")

    assert [row.embedding for row in answer.data] == [vector("one text")]
    assert answer.object == "list"
    assert answer.usage.total_tokens >= answer.usage.prompt_tokens > 0
    assert PLAYED[provider].is_proven(player.last)


@pytest.mark.parametrize("provider", EMBEDDING)
async def test_many_texts_give_as_many_vectors_in_order(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    answer = await gateway.openai.embeddings.create(model="embed", input=["one", "two", "three"])

    assert [row.embedding for row in answer.data] == [vector("one"), vector("two"), vector("three")]
    assert [row.index for row in answer.data] == [0, 1, 2]
    assert player.requests_total == 1


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("provider", EMBEDDING)
async def test_vectors_come_in_the_encoding_that_was_asked_for(play: Play, provider: str, encoding: str) -> None:
    gateway, _ = await play(provider)
    body = {"model": "embed", "input": "one", "encoding_format": encoding}
    answer = await gateway.client.post("/v1/embeddings", json=body)

    kind = str if encoding == "base64" else list
    assert isinstance(answer.json()["data"][0]["embedding"], kind)


@pytest.mark.parametrize("provider", EMBEDDING)
async def test_fewer_dimensions_can_be_asked_for(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.embeddings.create(model="embed", input="one", dimensions=4)

    assert answer.data[0].embedding == vector("one", 4)


async def test_token_numbers_reach_openai_as_they_are(play: Play) -> None:
    gateway, player = await play("openai")
    await gateway.openai.embeddings.create(model="embed", input=[[1, 2, 3], [4, 5]])

    assert player.last.json["input"] == [[1, 2, 3], [4, 5]]


@pytest.mark.parametrize("provider", ["cohere", "gemini", "ollama"])
async def test_token_numbers_are_refused_where_nobody_could_read_them(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.openai.embeddings.create(model="embed", input=[[1, 2, 3]])

    assert caught.value.param == "input"
    assert player.requests_total == 0


@pytest.mark.parametrize("provider", EMBEDDING)
async def test_a_refused_embedding_is_the_clients_400(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    player.always(player.wire.error(400, "This model makes no embeddings."))
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        await gateway.openai.embeddings.create(model="embed", input="one")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "embed", "input": "one"}),
        ("/v1/chat/completions", {"model": "chat", "messages": user("x")}),
        ("/v1/completions", {"model": "chat", "prompt": "x"}),
    ],
)
async def test_pitfall_047_nothing_is_sent_that_the_client_did_not_send(
    play: Play, path: str, body: dict[str, Any]
) -> None:
    gateway, player = await play("openai", strict=body.keys())
    answer = await gateway.client.post(path, json=body)

    assert answer.status_code == 200
    assert player.last.json == {**body, "model": player.last.json["model"]}


@pytest.mark.parametrize("provider", sorted(PLAYED))
async def test_pitfall_047_no_null_is_sent_to_any_provider(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    await gateway.openai.chat.completions.create(model="chat", messages=user("x"), tools=tools("weather"))

    assert b"null" not in player.last.body


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama", "gemini"])
async def test_a_legacy_completion_is_answered(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.completions.create(model="chat", prompt="once upon a time", max_tokens=64)

    assert answer.object == "text_completion"
    assert answer.choices[0].text == "once upon a time"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama", "gemini"])
async def test_a_legacy_completion_streams(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    stream = await gateway.openai.completions.create(model="chat", prompt="once upon a time", stream=True)
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "once upon a time"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert {chunk.object for chunk in chunks} == {"text_completion"}
