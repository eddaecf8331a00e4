import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.errors import ProviderTimeoutError
from llmgateway.sensitivity.restoring import RestoredChunks, Restorer

VALUES = {"[EMAIL_1]": "maria@example.org", "[PASSWORD_1]": 'a"b\\c\n9!é', "[EMAIL_12]": "li@example.org"}
RESTORER = Restorer(VALUES)
DONE = b"data: [DONE]\n\n"


class Pieces:
    """A stream that is there already, and may break off."""

    def __init__(self, events: Iterable[bytes], error: Exception | None = None) -> None:
        self._events = iter(events)
        self._error = error
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for event in self._events:
            return event
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


def event(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c1", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def said(*texts: str, finish: str | None = "stop") -> list[bytes]:
    end = [event({}, finish)] if finish else []
    return [*(event({"content": text}) for text in texts), *end, DONE]


async def read(events: Iterable[bytes], restorer: Restorer = RESTORER) -> list[bytes]:
    return [chunk async for chunk in RestoredChunks(Pieces(events), restorer)]


def deltas(chunks: Iterable[bytes]) -> list[dict[str, Any]]:
    found = []
    for line in b"".join(chunks).split(b"\n\n"):
        if line.startswith(b"data: {"):
            found += [choice["delta"] for choice in json.loads(line[6:])["choices"]]
    return found


def content(chunks: Iterable[bytes], name: str = "content") -> list[str]:
    return [delta[name] for delta in deltas(chunks) if name in delta]


def arguments(chunks: Iterable[bytes]) -> str:
    calls = [call for delta in deltas(chunks) for call in delta.get("tool_calls", [])]
    return "".join(call["function"].get("arguments", "") for call in calls)


def test_whole_answer_has_its_values_back_and_all_other_bytes_as_they_were() -> None:
    body = b'{"id": 1.50, "choices":[{"message":{"content": "to [EMAIL_1], \\"[PASSWORD_1]\\" [EMAIL_9]"}}]}'

    new = RESTORER.body(body)

    assert json.loads(new)["choices"][0]["message"]["content"] == 'to maria@example.org, "a"b\\c\n9!é" [EMAIL_9]'
    assert new.startswith(b'{"id": 1.50, "choices":[')


def test_arguments_of_a_tool_call_stay_json() -> None:
    call = {"function": {"name": "f", "arguments": json.dumps({"password": "[PASSWORD_1]"})}}
    body = json.dumps({"choices": [{"message": {"tool_calls": [call]}}]}).encode()

    new = json.loads(RESTORER.body(body))

    written = new["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(written) == {"password": VALUES["[PASSWORD_1]"]}


def test_content_that_is_to_be_json_stays_json() -> None:
    body = json.dumps({"choices": [{"message": {"content": '{"p": "[PASSWORD_1]"}'}}]}).encode()

    new = json.loads(Restorer(VALUES, json_content=True).body(body))

    assert json.loads(new["choices"][0]["message"]["content"]) == {"p": VALUES["[PASSWORD_1]"]}


def test_answer_without_a_placeholder_is_the_same_object() -> None:
    body = b'{"choices":[{"message":{"content":"[1] and [EMAIL_3]"}}]}'

    assert RESTORER.body(body) is body


async def test_stream_has_its_values_back() -> None:
    chunks = await read(said("to [EMAIL_1] and", " [EMAIL_12]"))

    assert "".join(content(chunks)) == "to maria@example.org and li@example.org"
    assert chunks[-1] == DONE


@given(
    st.lists(st.sampled_from([*VALUES, "[", "]", "[EMAIL", "a", " é🔑", "[EMAIL_2]", '"', "\\", "[["]), max_size=8),
    # Drawn before the test begins: a draw within it ends through the event loop's runner, which cannot take that.
    st.sets(st.integers(1, 80)),
)
@settings(max_examples=200, deadline=None)
async def test_a_placeholder_may_be_cut_anywhere(words: list[str], places: set[int]) -> None:
    text = "".join(words)
    cuts = sorted(place for place in places if place < len(text))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    chunks = await read(said(*pieces))

    assert "".join(content(chunks)) == RESTORER.text(text)


async def test_one_character_at_a_time_in_a_tool_call() -> None:
    text = json.dumps({"to": "[EMAIL_1]", "password": "[PASSWORD_1]", "list": ["[", "x"]})
    events = [event({"tool_calls": [{"index": 1, "function": {"arguments": char}}]}) for char in text]

    chunks = await read([*events, event({}, "tool_calls"), DONE])

    assert json.loads(arguments(chunks)) == {
        "to": "maria@example.org",
        "password": VALUES["[PASSWORD_1]"],
        "list": ["[", "x"],
    }


async def test_nothing_is_held_back_longer_than_it_may_be_a_placeholder() -> None:
    chunks = await read(said("a[", "EM", "x", "[EMAIL_1", "]", "[1]", finish=None))

    assert content(chunks) == ["a", "", "[EMx", "", "maria@example.org", "[1]"]


async def test_what_is_held_back_comes_with_the_end_however_it_ends() -> None:
    finished = await read(said("see [EMAIL"))
    unsaid = await read(said("see [EMAIL", finish=None))
    cut = await read([event({"content": "see [EMAIL"})])

    assert "".join(content(finished)) == "".join(content(unsaid)) == "".join(content(cut)) == "see [EMAIL"
    assert unsaid[-1].endswith(DONE)
    assert b'"id":"c1"' in unsaid[-1]


async def test_what_may_begin_a_placeholder_in_the_last_event_stands_behind_the_rest_of_it() -> None:
    call = {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": ["'}}]}

    whole = await read([event({"content": "see [EMAIL"}, "length"), DONE])
    second = await read([event({"content": "see ["}), event({"content": "EMAIL_1] ["}, "length"), DONE])
    called = await read([event(call, "length"), DONE], Restorer({'["': "never"}))

    assert "".join(content(whole)) == "see [EMAIL"
    assert "".join(content(second)) == "see maria@example.org ["
    assert arguments(called) == '{"a": ["'


async def test_what_is_held_back_comes_before_an_error() -> None:
    error = ProviderTimeoutError("too slow")
    chunks = RestoredChunks(Pieces([event({"content": "see [EMAIL"})], error), RESTORER)

    assert b"see " in await chunks.__anext__()
    assert content([await chunks.__anext__()]) == ["[EMAIL"]
    with pytest.raises(ProviderTimeoutError):
        await chunks.__anext__()


async def test_choices_and_fields_do_not_mix() -> None:
    events = [
        event({"content": "[EMA"}, index=0),
        event({"content": "[PASS"}, index=1),
        event({"content": "IL_1]"}, index=0),
        event({"content": "x"}, index=1),
        event({"reasoning_content": "[EM"}, index=0),
        event({"content": "AIL_1]"}, index=0),
        DONE,
    ]

    chunks = await read(events)

    assert "".join(content(chunks)) == "maria@example.org[PASSxAIL_1]"
    assert "".join(content(chunks, "reasoning_content")) == "[EM"


async def test_what_is_held_back_of_one_field_comes_when_another_goes_on() -> None:
    chunks = await read([event({"reasoning_content": "[EM"}), event({"content": "so:"})])

    assert deltas(chunks) == [{"reasoning_content": ""}, {"content": "so:", "reasoning_content": "[EM"}]


async def test_json_stays_json_in_every_stream_that_is_some() -> None:
    text = json.dumps({"password": "[PASSWORD_1]", "list": ["["]})
    called = [event({"function_call": {"arguments": char}}) for char in text]

    said_json = await read(said(*text), Restorer(VALUES, json_content=True))
    function = deltas(await read([*called, DONE]))
    cut = deltas(await read([event({"function_call": {"arguments": '{"a": "[EM'}}), event({}, "length")]))

    expected = {"password": VALUES["[PASSWORD_1]"], "list": ["["]}
    assert json.loads("".join(content(said_json))) == expected
    assert json.loads("".join(delta["function_call"]["arguments"] for delta in function)) == expected
    assert "".join(delta["function_call"]["arguments"] for delta in cut) == '{"a": "[EM'


async def test_completions_have_their_values_back_too() -> None:
    def completion(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "text": text, "finish_reason": finish}
        return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"

    chunks = await read([completion("to [EMAIL"), completion("_1]["), completion("", "stop"), DONE])

    texts = [json.loads(one[6:])["choices"][0]["text"] for one in chunks[:-1]]
    assert texts == ["to ", "maria@example.org", "["]


async def test_events_without_a_placeholder_pass_as_they_are() -> None:
    odd = [b": keep-alive\n\n", b'data: {"choices": [],  "usage": {"a": 1.50}}\n\n', *said("a [1] b"), b"data: x[E\n\n"]

    assert await read(odd) == odd


async def test_several_events_in_one_chunk_are_all_restored() -> None:
    chunks = await read([b"".join(said("to [EM", "AIL_1]", "!"))])

    assert "".join(content(chunks)) == "to maria@example.org!"


async def test_closing_closes_what_is_behind() -> None:
    pieces = Pieces(said("[EM"))
    chunks = RestoredChunks(pieces, RESTORER)
    await chunks.__anext__()

    await chunks.aclose()

    assert pieces.closed
    with pytest.raises(StopAsyncIteration):
        await chunks.__anext__()
