import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmgateway.wire.joining import MIN_OVERLAP_CHARS, Joined, JoinError, Overlap, Told
from llmgateway.wire.sse import DONE, payload, split_events

HEAD = {"id": "chatcmpl-first", "created": 1, "model": "gpt-4o", "system_fingerprint": "fp_1"}
STORY = "The fox ran over the hill.\nIt was late, and the moon stood above the silver lake. Nobody saw it."


def joined(said: str, *pieces: str, exact: bool = False) -> str:
    """What the client has in the end."""
    overlap = Overlap(said, exact=exact)
    return said + "".join(map(overlap.feed, pieces)) + overlap.end()


def cut(text: str, *places: int) -> list[str]:
    bounds = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(bounds)]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("at", [1, 4, 5, 12, 26, 27, 50, 60, len(STORY) - 1])
def test_pitfall_004_an_answer_begun_anew_is_not_told_twice(size: int, at: int) -> None:
    pieces = cut(STORY, *range(0, len(STORY), size))

    assert joined(STORY[:at], *pieces) == STORY
    if at > 4:  # less tells nothing of a model that was given it as a prefix
        assert joined(STORY[:at], *pieces, exact=True) == STORY


@pytest.mark.parametrize("blanks", ["", " ", "\n\n"])
def test_a_repeated_last_sentence_is_left_out_whatever_blanks_come_first(blanks: str) -> None:
    said = STORY[: STORY.index(" Nobody")]
    again = "It was late, and the moon stood above the silver lake."

    assert joined(said, blanks, again[:7], again[7:], " Nobody saw it.") == STORY


def test_a_word_begun_anew_is_told_once() -> None:
    assert joined("The capital is Par", "Par", "is.") == "The capital is Paris."
    assert joined("I know that", " that", " is so") == "I know that that is so"


@pytest.mark.parametrize(
    ("said", "rest"),
    [
        ("a ", "b"),
        ("a", " b"),
        ("one, two", ", three"),
        ("so it is", " is it so"),
        ("| a | b |\n|---|---|\n|---|---|", "\n|---|---|\n|---|---|"),
        ("0, 0, 0, 0, 0, 0, 0, 0, ", "0, 0, 0, 0, 0]"),
        ("- - - - - - - - - - - -", "- - - - - - - - - - - -|"),
    ],
)
def test_short_and_regular_texts_are_no_repetitions(said: str, rest: str) -> None:
    assert joined("Begin: " + said, rest) == "Begin: " + said + rest


def test_blanks_that_the_model_was_not_shown_come_once() -> None:
    assert joined("Hello ", " world") == "Hello world"
    assert joined("Hello ", "world") == "Hello world"
    assert joined("Hello\n\n", "\n", "\n  world") == "Hello\n\n  world"
    assert joined("Hello\n", "\n\nworld", exact=True) == "Hello\n\nworld"


def test_a_model_with_a_prefix_may_repeat_its_own_words() -> None:
    refrain = "and the sea went on. "
    said = "She sang, " + refrain

    assert joined(said, refrain, "The end.", exact=True) == said + refrain + "The end."
    assert joined(said, refrain, "The end.") == said + "The end."


@pytest.mark.parametrize("exact", [True, False])
def test_pitfall_004_another_answer_is_never_glued_to_the_first(*, exact: bool) -> None:
    overlap = Overlap(STORY[:80], exact=exact)

    assert overlap.feed(STORY[:20]) + overlap.feed(STORY[20:50]) == ""
    with pytest.raises(JoinError, match="anew"):
        overlap.feed(" Yet the owl was awake.")


def test_an_answer_begun_anew_that_ends_sooner_is_another_one() -> None:
    overlap = Overlap(STORY)

    assert overlap.feed(STORY[:40]) == ""
    with pytest.raises(JoinError):
        overlap.end()


def test_what_is_held_comes_when_it_is_no_repetition_or_at_the_end() -> None:
    overlap = Overlap(STORY)

    assert overlap.feed("It was late, and ") == ""
    assert overlap.feed("cold") == "It was late, and cold"
    assert overlap.feed(STORY) == STORY
    late = Overlap(STORY)
    assert late.feed("It was late") == ""
    assert late.end() == "It was late"
    assert Overlap("").feed("x") == "x"


def ambiguous(text: str, rest: str) -> bool:
    """Whether what comes next looks like what was, so that nobody could tell."""
    said = text.rstrip()
    rest = rest.lstrip()
    word = said[-MIN_OVERLAP_CHARS:].rpartition(" ")[2]
    return (
        not said.strip()
        or rest.startswith(said.lstrip()[:32])
        or (bool(word) and rest.startswith(word))
        or any(rest.startswith(said[at:]) for at in range(max(0, len(said) - MIN_OVERLAP_CHARS * 8), len(said) - 1))
    )


WORDS = st.lists(st.text(alphabet="abcdeé🙂,.", min_size=1, max_size=9), min_size=2, max_size=40)
TEXTS = st.tuples(WORDS, st.sampled_from([" ", "\n", "  "])).map(lambda drawn: drawn[1].join(drawn[0]))
# Every word has its number, so that nothing is said twice but by the second model.
NUMBERED = st.tuples(WORDS.filter(lambda words: len(words) > 5), st.sampled_from([" ", "\n", "  "])).map(
    lambda drawn: drawn[1].join(f"{word}{number}" for number, word in enumerate(drawn[0], 10))
)
CUTS = st.lists(st.integers(0, 400), max_size=8)


@given(TEXTS, st.integers(1, 400), CUTS, st.booleans())
def test_a_text_that_goes_on_exactly_is_whole(text: str, at: int, cuts: list[int], exact: bool) -> None:
    said = text[: at % len(text)]
    rest = text[len(said.rstrip()) :]
    assume(not ambiguous(said, rest))

    assert joined(said, *cut(rest, *cuts), exact=exact) == text


@given(NUMBERED, st.integers(0, 400), st.integers(0, 400), CUTS)
def test_a_text_that_repeats_its_end_is_whole(text: str, at: int, more: int, cuts: list[int]) -> None:
    said = text[: MIN_OVERLAP_CHARS + 4 + at % (len(text) - MIN_OVERLAP_CHARS - 4)]
    shown = said.rstrip()
    repeated = shown[-(MIN_OVERLAP_CHARS + 2 + more) :].lstrip()
    rest = text[len(shown) :]

    assert joined(said, *cut(repeated + rest, *cuts)) == text


@given(TEXTS, st.integers(1, 400), CUTS, st.booleans())
def test_a_text_that_begins_anew_is_whole(text: str, at: int, cuts: list[int], exact: bool) -> None:
    said = text[: at % len(text)]
    assume(len(said.strip()) >= (4 if exact else 1))

    whole = joined(said, *cut(text, *cuts), exact=exact)

    assert whole == text


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    fields = {"id": "second", "object": "chat.completion.chunk", "created": 2, "model": "claude", "choices": [choice]}
    return b"data: " + msgspec.json.encode({**fields, **more}) + b"\n\n"


def told(text: str = "Hello", **fields: Any) -> Told:
    return Told([text] if text else [], dict(HEAD), has_role=True, prompt_tokens=7, completion_tokens=2, **fields)


def read(events: bytes) -> list[dict[str, Any]]:
    return [json.loads(payload(event)) for event in split_events(events) if payload(event) not in {b"", b"[DONE]"}]


def test_pitfall_011_all_chunks_carry_the_first_streams_names_and_no_second_role() -> None:
    stream = Joined(told(), exact=False, is_json=False)

    given_to_client = stream.feed(
        chunk({"role": "assistant", "content": ""}) + chunk({"content": " world"}) + chunk({}, "stop") + DONE
    )

    chunks = read(given_to_client)
    assert given_to_client.endswith(DONE)
    assert {(one["id"], one["created"], one["model"], one["system_fingerprint"]) for one in chunks} == {
        ("chatcmpl-first", 1, "gpt-4o", "fp_1")
    }
    assert [one["choices"][0]["delta"] for one in chunks] == [{"content": " world"}, {}]
    assert [one["choices"][0]["finish_reason"] for one in chunks] == [None, "stop"]


def test_a_stream_of_which_nothing_was_told_keeps_its_own_names_and_role() -> None:
    what = Told()
    stream = Joined(what, exact=False, is_json=False)

    chunks = read(stream.feed(chunk({"role": "assistant", "content": ""}) + chunk({"reasoning_content": "hm"})))

    assert [one["choices"][0]["delta"] for one in chunks] == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
    ]
    assert what.head == {"id": "second", "created": 2, "model": "claude"}


def test_the_second_models_thoughts_on_what_was_said_are_left_out() -> None:
    stream = Joined(told(), exact=False, is_json=False)

    chunks = read(stream.feed(chunk({"reasoning_content": "Let me see"}) + chunk({"content": "!", "reasoning": "x"})))

    assert [one["choices"][0]["delta"] for one in chunks] == [{"content": "!"}]


def test_held_text_comes_with_the_finish_reason_or_before_done() -> None:
    for end in (chunk({}, "stop") + DONE, DONE):
        stream = Joined(told(STORY), exact=False, is_json=False)

        assert stream.feed(chunk({"content": "It was late"})) == b""
        chunks = read(stream.feed(end))

        assert chunks[0]["choices"][0]["delta"]["content"] == "It was late"


def test_the_usage_is_the_first_prompt_and_what_both_said() -> None:
    what = told()
    stream = Joined(what, exact=False, is_json=False)
    usage = {"prompt_tokens": 50, "completion_tokens": 3, "total_tokens": 53, "prompt_tokens_details": {}}

    (seen,) = read(stream.feed(b"data: " + msgspec.json.encode({"id": "x", "choices": [], "usage": usage}) + b"\n\n"))

    assert seen["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert seen["id"] == "chatcmpl-first"
    assert what.has_usage


def test_tool_calls_of_the_second_model_pass_and_end_what_can_be_taken_up_again() -> None:
    what = told()
    stream = Joined(what, exact=False, is_json=False)
    calls = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]

    (seen,) = read(stream.feed(chunk({"tool_calls": calls})))

    assert seen["choices"][0]["delta"] == {"tool_calls": calls}
    assert what.is_more


def test_json_that_does_not_become_whole_is_an_error() -> None:
    good = Joined(told('{"a": [1,'), exact=False, is_json=True)
    assert read(good.feed(chunk({"content": " 2]}"}) + chunk({}, "stop")))[-1]["choices"][0]["finish_reason"] == "stop"
    what = told('{"a": [1,')
    bad = Joined(what, exact=False, is_json=True)

    with pytest.raises(JoinError) as caught:
        bad.feed(chunk({"content": '{"a": 2}'}) + chunk({}, "stop"))

    assert caught.value.hopeless
    assert what.text == '{"a": [1,'


def test_comments_and_what_is_no_json_pass_as_they_are() -> None:
    stream = Joined(told(), exact=False, is_json=False)

    assert stream.feed(b": keep-alive\n\n" + b"data: {\n\n") == b": keep-alive\n\ndata: {\n\n"


def test_an_answer_that_lacks_its_end_alone_is_given_it() -> None:
    assert told().ending(include_usage=False) == DONE
    assert told(has_usage=True).ending(include_usage=True) == DONE
    (usage,) = read(told().ending(include_usage=True))
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert usage["id"] == "chatcmpl-first"
