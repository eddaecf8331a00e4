"""Tool calls through every provider: two at once, whole and in pieces, and the results on their way back."""

import json
from typing import Any

import pytest
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from tests.e2e.providers.conftest import Play
from tests.e2e.providers.played import EVERY, tools, user

TOOLS = tools("weather", "traffic")
ARGUMENTS = [{"city": "city é😀 0", "days": 7}, {"city": "city é😀 1", "days": 7}]
# Gemini and Ollama send a call in one piece; so do those who speak through them.
IN_PIECES = sorted({*EVERY} - {"gemini", "ollama"})


@pytest.mark.parametrize("provider", EVERY)
async def test_two_parallel_calls_arrive_whole(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.chat.completions.create(model="chat", messages=user("x"), tools=TOOLS)
    calls: list[Any] = answer.choices[0].message.tool_calls or []

    assert answer.choices[0].finish_reason == "tool_calls"
    assert [call.function.name for call in calls] == ["weather", "traffic"]
    assert [json.loads(call.function.arguments) for call in calls] == ARGUMENTS
    assert [call.type for call in calls] == ["function", "function"]
    assert len({call.id for call in calls}) == 2
    assert all(call.id for call in calls)


async def _pieces(play: Play, provider: str) -> tuple[list[ChoiceDeltaToolCall], list[str]]:
    gateway, _ = await play(provider)
    stream = await gateway.openai.chat.completions.create(model="chat", messages=user("x"), tools=TOOLS, stream=True)
    choices = [chunk.choices[0] async for chunk in stream if chunk.choices]
    pieces = [piece for choice in choices for piece in choice.delta.tool_calls or []]
    return pieces, [choice.finish_reason for choice in choices if choice.finish_reason]


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_044_streamed_calls_have_index_id_name_and_valid_arguments(play: Play, provider: str) -> None:
    pieces, finish_reasons = await _pieces(play, provider)
    by_index = {index: [piece for piece in pieces if piece.index == index] for index in (0, 1)}

    assert {piece.index for piece in pieces} == {0, 1}
    assert finish_reasons == ["tool_calls"]
    joined = ["".join((piece.function and piece.function.arguments) or "" for piece in of) for of in by_index.values()]
    assert [json.loads(arguments) for arguments in joined] == ARGUMENTS
    firsts = [of[0] for of in by_index.values()]
    assert [first.function.name for first in firsts if first.function] == ["weather", "traffic"]
    assert [first.type for first in firsts] == ["function", "function"]
    assert len({first.id for first in firsts if first.id}) == 2


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_013_a_call_keeps_its_index_and_says_its_id_once(play: Play, provider: str) -> None:
    pieces, _ = await _pieces(play, provider)

    assert [piece.index for piece in pieces] == sorted(piece.index for piece in pieces)
    for index in (0, 1):
        of = [piece for piece in pieces if piece.index == index]
        assert len({piece.id for piece in of if piece.id}) == 1
        names = [piece.function.name for piece in of if piece.function and piece.function.name]
        assert len(names) == 1, "the SDK would join a name that is said twice"


@pytest.mark.parametrize("provider", IN_PIECES)
async def test_arguments_are_handed_on_in_pieces_as_they_come(play: Play, provider: str) -> None:
    pieces, _ = await _pieces(play, provider)

    assert len(pieces) > 10


@pytest.mark.parametrize("provider", EVERY)
async def test_the_sdks_own_accumulator_understands_the_stream(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    strict: list[Any] = [{**tool, "function": {**tool["function"], "strict": True}} for tool in TOOLS]
    async with gateway.openai.chat.completions.stream(model="chat", messages=user("x"), tools=strict) as stream:
        final = await stream.get_final_completion()
    calls: list[Any] = final.choices[0].message.tool_calls or []

    assert [call.function.name for call in calls] == ["weather", "traffic"]
    assert [json.loads(call.function.arguments) for call in calls] == ARGUMENTS


@pytest.mark.parametrize("provider", EVERY)
async def test_a_tools_result_reaches_the_provider(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    asked = await gateway.openai.chat.completions.create(model="chat", messages=user("x"), tools=TOOLS)
    message = asked.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"sky": f"sunny {number}"})}
        for number, call in enumerate(message.tool_calls or [])
    ]
    turns: list[Any] = [*user("x"), message.model_dump(exclude_none=True), *results]
    answer = await gateway.openai.chat.completions.create(model="chat", messages=turns, tools=TOOLS)

    assert answer.choices[0].finish_reason == "stop"
    assert "sunny 1" in (answer.choices[0].message.content or "")
    assert b"sunny 0" in player.last.body
    assert "city é😀 1" in json.dumps(player.last.json, ensure_ascii=False).replace('\\"', '"')


@pytest.mark.parametrize("provider", ["anthropic", "azure", "gemini", "groq", "openai", "together_ai", "xai"])
async def test_a_forced_tool_is_the_only_one_called(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.chat.completions.create(
        model="chat",
        messages=user("x"),
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "traffic"}},
    )
    calls: list[Any] = answer.choices[0].message.tool_calls or []

    assert [call.function.name for call in calls] == ["traffic"]


@pytest.mark.parametrize("provider", ["anthropic", "azure", "mistral", "openai"])
async def test_parallel_calls_can_be_switched_off(play: Play, provider: str) -> None:
    gateway, _ = await play(provider)
    answer = await gateway.openai.chat.completions.create(
        model="chat", messages=user("x"), tools=TOOLS, parallel_tool_calls=False
    )

    assert len(answer.choices[0].message.tool_calls or []) == 1
