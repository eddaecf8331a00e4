"""Eleven providers, each played in its own wire format, behind one front door: the openai SDK, unchanged."""

import openai
import pytest

from tests.e2e.providers.conftest import Play
from tests.e2e.providers.played import EVERY, PLAYED, user

TEXT = "wörld 😀 of echo"


@pytest.mark.parametrize("provider", EVERY)
async def test_a_chat_reaches_the_provider_in_its_own_wire(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    answer = await gateway.openai.chat.completions.with_raw_response.create(
        model="chat", messages=[{"role": "system", "content": "Echo."}, *user(TEXT)], temperature=0.5, max_tokens=64
    )
    chat = answer.parse()

    assert chat.choices[0].message.content == TEXT
    assert chat.choices[0].message.role == "assistant"
    assert chat.choices[0].finish_reason == "stop"
    assert chat.object == "chat.completion"
    assert chat.usage is not None
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
    assert chat.usage.completion_tokens == 4
    assert answer.headers["x-provider"] == provider
    assert player.last.path == PLAYED[provider].path
    assert player.requests_total == 1


@pytest.mark.parametrize("provider", EVERY)
async def test_the_provider_sees_our_key_and_nothing_of_the_clients(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    await gateway.openai.chat.completions.create(
        model="chat", messages=user(TEXT), extra_headers={"x-client-only": "yes", "x-api-key": "client-key"}
    )
    request = player.last

    assert PLAYED[provider].is_proven(request)
    assert "client-key" not in "".join(request.headers.values()) + request.target
    assert b"client-key" not in request.body
    assert "x-client-only" not in request.headers
    assert not any(name.startswith("x-stainless") for name in request.headers)


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_135_no_key_stands_in_an_address_or_a_log(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    await gateway.openai.chat.completions.create(model="chat", messages=user(TEXT))

    secrets = [secret for secret in (PLAYED[provider].key, "bedrock-secret-upstream", "client-key") if secret]
    assert not [secret for secret in secrets if secret in player.last.target]
    assert not [secret for secret in secrets if secret in str(gateway.logs())]
    assert TEXT not in str(gateway.logs())


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_014_a_stream_begins_with_the_role_and_ends_with_one_finish_reason(
    play: Play, provider: str
) -> None:
    gateway, player = await play(provider)
    stream = await gateway.openai.chat.completions.create(model="chat", messages=user(TEXT), stream=True)
    chunks = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]

    assert "".join(choice.delta.content or "" for choice in choices) == TEXT
    assert choices[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert choices[-1].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks if chunk.choices}) == 1
    assert len(chunks) >= 4, "the words came one by one"
    assert player.last.path == (PLAYED[provider].stream_path or PLAYED[provider].path)


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_013_a_stream_ends_with_exactly_one_done(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    body = {"model": "chat", "messages": user(TEXT), "stream": True}
    answer = await gateway.client.post("/v1/chat/completions", json=body)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content.endswith(b"\n\ndata: [DONE]\n\n")
    assert answer.content.count(b"[DONE]") == 1


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_015_a_stream_cut_at_every_byte_reads_the_same(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    player.always(lambda step: step.split(1))
    stream = await gateway.openai.chat.completions.create(model="chat", messages=user(TEXT), stream=True)
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]

    assert "".join(texts) == TEXT


@pytest.mark.parametrize("provider", EVERY)
async def test_a_limit_on_tokens_ends_the_answer_with_length(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.chat.completions.create(model="chat", messages=user("a b c d e f"), max_tokens=3)

    assert answer.choices[0].message.content == "a b c"
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("provider", EVERY)
async def test_max_completion_tokens_is_understood_everywhere(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.chat.completions.create(
        model="chat", messages=user("a b c d e f"), max_completion_tokens=3
    )

    assert answer.choices[0].message.content == "a b c"


@pytest.mark.parametrize("provider", EVERY)
async def test_a_conversation_keeps_its_turns(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    turns = [*user("first"), {"role": "assistant", "content": "answered before"}, *user("second")]
    answer = await gateway.openai.chat.completions.create(model="chat", messages=turns)

    assert answer.choices[0].message.content == "second"
    assert b"first" in player.last.body
    assert b"answered before" in player.last.body


@pytest.mark.parametrize("provider", EVERY)
async def test_a_refused_key_of_ours_is_never_the_clients_401(play: Play, provider: str) -> None:
    gateway, player = await play(provider, key="wrong-key-of-ours")
    if PLAYED[provider].key is None:
        player.always(player.wire.error(403 if provider == "bedrock" else 401, "unauthorized"))
    with pytest.raises(openai.InternalServerError) as caught:
        await gateway.openai.chat.completions.create(model="chat", messages=user(TEXT))

    assert caught.value.status_code == 502
    assert caught.value.code == "provider_auth_failed"
    assert "wrong-key-of-ours" not in caught.value.response.text
    assert "127.0.0.1" not in caught.value.response.text
    assert player.requests_total == 1, "a refused key is not tried again"
