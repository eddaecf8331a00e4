"""A whole answer as a stream (pitfall 53), and that nothing of it gets lost on the way there and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.gateway.answers.replay import cut, replay
from llmgateway.gateway.answers.whole import whole

HEAD = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "system_fingerprint": "fp"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def answer(message: dict[str, Any], finish: str = "stop", **choice: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}], "usage": USAGE}


def events(body: dict[str, Any], *, include_usage: bool = False) -> list[dict[str, Any]]:
    replayed = replay(json.dumps(body).encode(), include_usage=include_usage)
    assert replayed is not None
    assert replayed[-1] == b"data: [DONE]\n\n"
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in replayed)
    return [json.loads(event[6:]) for event in replayed[:-1]]


def deltas(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [choice["delta"] for event in events(body) for choice in event["choices"]]


def back(body: dict[str, Any]) -> dict[str, Any]:
    replayed = replay(json.dumps(body).encode(), include_usage=True)
    merged = whole(replayed or (), None)
    assert merged is not None
    found: dict[str, Any] = json.loads(merged)
    return found


def test_pitfall_053_a_text_comes_in_pieces_of_a_few_words() -> None:
    found = deltas(answer({"role": "assistant", "content": "one two three four five six seven"}))

    assert found == [
        {"role": "assistant", "content": ""},
        {"content": "one two three"},
        {"content": " four five six"},
        {"content": " seven"},
        {},
    ]


def test_every_chunk_says_which_answer_it_is_of_and_the_last_why_it_ends() -> None:
    found = events(answer({"role": "assistant", "content": "yes"}))

    assert {(each["id"], each["object"], each["model"]) for each in found} == {
        ("chatcmpl-1", "chat.completion.chunk", "gpt-4o")
    }
    assert [each["choices"][0]["finish_reason"] for each in found] == [None, None, "stop"]
    assert all("usage" not in each for each in found)


def test_the_usage_comes_last_when_it_was_asked_for() -> None:
    *others, last = events(answer({"role": "assistant", "content": "yes"}), include_usage=True)

    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert all(each["usage"] is None for each in others)


def test_calls_of_tools_come_by_name_and_then_in_pieces() -> None:
    arguments = json.dumps({"city": "Paris", "days": 3})
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}

    first, begun, *pieces, end = deltas(
        answer({"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")
    )

    assert first == {"role": "assistant", "content": None}
    assert begun["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    ]
    assert len(pieces) > 1
    assert "".join(piece["tool_calls"][0]["function"]["arguments"] for piece in pieces) == arguments
    assert all(piece["tool_calls"][0]["index"] == 0 for piece in pieces)
    assert end == {}


def test_log_probabilities_come_with_their_words() -> None:
    tokens: list[dict[str, Any]] = [
        {"token": f"w{n} ", "logprob": -0.1, "bytes": None, "top_logprobs": []} for n in range(9)
    ]
    text = "".join(token["token"] for token in tokens)
    body = answer({"role": "assistant", "content": text}, logprobs={"content": tokens, "refusal": None})

    found = [each["choices"][0] for each in events(body)]

    said = [choice for choice in found if choice["logprobs"]]
    assert [len(choice["logprobs"]["content"]) for choice in said] == [4, 4, 1]
    for choice in said:
        assert choice["delta"]["content"] == "".join(token["token"] for token in choice["logprobs"]["content"])


def test_a_legacy_completion_is_replayed_as_one() -> None:
    choice = {"index": 0, "text": "one two three four", "logprobs": None, "finish_reason": "stop"}
    body = {**HEAD, "object": "text_completion", "choices": [choice], "usage": USAGE}

    found = events(body)

    assert {each["object"] for each in found} == {"text_completion"}
    assert "".join(each["choices"][0]["text"] for each in found) == "one two three four"
    assert back(body) == body


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"object":"list","data":[]}', b'{"object":"chat.completion"}'])
def test_what_is_no_such_answer_is_not_replayed(body: bytes) -> None:
    assert replay(body, include_usage=False) is None


def test_a_very_long_answer_comes_in_about_a_thousand_pieces() -> None:
    assert 300 < len(cut("word " * 400_000)) < 2000
    assert len(cut("x" * 100_000 + " " * 100_000)) < 5000


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(
    lambda name, arguments, more: (
        {"id": "call_" + name, "type": "function", **more} | {"function": {"name": name, "arguments": arguments}}
    ),
    texts.filter(bool),
    texts,
    st.dictionaries(st.just("extra_content"), anything.filter(lambda each: each is not None)),
)
tokens = st.builds(lambda token: {"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}, texts)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | texts},
    optional={
        "refusal": st.none() | texts,
        "reasoning_content": st.none() | texts,
        "reasoning": texts,
        "tool_calls": st.lists(calls, min_size=1, max_size=3),
        "function_call": st.just({"name": "old", "arguments": "{}"}),
        "annotations": st.lists(anything, max_size=2),
        "images": anything,
    },
)
logprobs = st.none() | st.fixed_dictionaries(
    {"content": st.none() | st.lists(tokens, max_size=9), "refusal": st.none() | st.lists(tokens, max_size=2)}
)
choices = st.builds(
    lambda message, finish, more: {"message": message, "finish_reason": finish, **more},
    messages,
    st.sampled_from(["stop", "tool_calls"]),
    st.fixed_dictionaries({}, optional={"logprobs": logprobs, "stop_reason": anything}),
)


@given(st.lists(choices, min_size=1, max_size=3), st.dictionaries(st.sampled_from(["service_tier", "x_groq"]), texts))
def test_whole_to_stream_to_whole_is_the_same(found: list[dict[str, Any]], more: dict[str, Any]) -> None:
    body = {**HEAD, **more, "choices": [{"index": n, **choice} for n, choice in enumerate(found)], "usage": USAGE}

    assert back(body) == body
