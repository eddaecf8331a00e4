"""What a stream says of its cost: exactly what the client asked for, and always enough for the gateway to count."""

from typing import Any

import pytest

from tests.e2e.providers.conftest import Play
from tests.e2e.providers.played import EVERY, user

TEXT = "one two three four"
# They say it in the chunk with the finish reason, asked or not: an event of theirs, so it passes as it is.
IN_LAST_CHOICE = {"mistral", "together_ai"}


async def _chunks(play: Play, provider: str, **more: Any) -> tuple[Any, Any, list[Any]]:
    gateway, player = await play(provider)
    stream = await gateway.openai.chat.completions.create(model="chat", messages=user(TEXT), stream=True, **more)
    return gateway, player, [chunk async for chunk in stream]


@pytest.mark.parametrize("provider", EVERY)
async def test_usage_comes_in_the_last_chunk_when_asked_for(play: Play, provider: str) -> None:
    *_, chunks = await _chunks(play, provider, stream_options={"include_usage": True})
    last = chunks[-1]

    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (7, 4, 11)
    assert [chunk for chunk in chunks if not chunk.choices and chunk.usage is not None] == [last]


@pytest.mark.parametrize("provider", sorted({*EVERY} - IN_LAST_CHOICE))
async def test_no_other_chunk_says_the_usage(play: Play, provider: str) -> None:
    *_, chunks = await _chunks(play, provider, stream_options={"include_usage": True})

    assert not [chunk for chunk in chunks[:-1] if chunk.usage is not None]


@pytest.mark.parametrize("more", [{}, {"stream_options": {"include_usage": False}}], ids=["unsaid", "refused"])
@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_018_usage_nobody_asked_for_is_counted_but_not_handed_on(
    play: Play, provider: str, more: dict[str, Any]
) -> None:
    gateway, _, chunks = await _chunks(play, provider, **more)
    line = await gateway.logged("llm_request_complete")

    assert not [chunk for chunk in chunks if not chunk.choices and chunk.usage is not None]
    if provider not in IN_LAST_CHOICE:
        assert not [chunk for chunk in chunks if chunk.usage is not None]
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 4)


@pytest.mark.parametrize("provider", ["azure", "groq", "openai", "xai"])
async def test_the_provider_is_always_asked_for_usage_where_it_can_say_it(play: Play, provider: str) -> None:
    _, player, _ = await _chunks(play, provider)

    assert player.last.json["stream_options"] == {"include_usage": True}


async def test_mistral_is_not_asked_for_what_it_refuses(play: Play) -> None:
    _, player, _ = await _chunks(play, "mistral", stream_options={"include_usage": True})

    assert "stream_options" not in player.last.json


async def test_azures_filter_results_stay_in_the_stream(play: Play) -> None:
    *_, chunks = await _chunks(play, "azure")

    assert chunks[0].choices == []
    assert chunks[0].model_extra["prompt_filter_results"]


@pytest.mark.parametrize("provider", EVERY)
async def test_a_whole_answer_says_its_usage_and_the_log_says_the_same(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.chat.completions.create(model="chat", messages=user(TEXT))
    line = await gateway.logged("llm_request_complete")

    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 4)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 4)
