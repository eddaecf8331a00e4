import json
from typing import Any

import pytest

from llmgateway.exchange import Usage
from llmgateway.gateway.answers.whole import whole

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    return b"data: " + json.dumps({**HEAD, "choices": [choice]}).encode() + b"\n\n"


def merged(*events: bytes, usage: Usage | None = None) -> dict[str, Any]:
    body = whole((*events, DONE), usage)
    assert body is not None
    found: dict[str, Any] = json.loads(body)
    return found


def test_pieces_become_one_message() -> None:
    found = merged(
        event({"role": "assistant", "content": "", "refusal": None}),
        event({"content": "Pa"}) + event({"content": "ris", "role": "assistant"}),
        b": a comment\n\n",
        event({}, "stop"),
    )

    assert found == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris", "refusal": None},
                "finish_reason": "stop",
            }
        ],
    }


def test_calls_of_tools_are_put_together_by_index() -> None:
    def piece(index: int, **more: Any) -> bytes:
        return event({"tool_calls": [{"index": index, **more}]})

    found = merged(
        event({"role": "assistant", "content": None, "tool_calls": None}),
        piece(1, id="b", type="function", function={"name": "second", "arguments": ""}),
        piece(0, id="a", type="function", function={"name": "first", "arguments": "{"}),
        piece(1, function={"arguments": "[]"}),
        piece(0, id="a", function={"name": "", "arguments": "}"}),
        event({"tool_calls": []}, "tool_calls"),
    )

    assert found["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "first", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "second", "arguments": "[]"}},
    ]


def test_all_choices_are_there_however_they_are_mixed() -> None:
    found = merged(
        event({"content": "b"}, index=1),
        event({"content": "a"}),
        event({}, "stop", 1),
        event({}, "stop"),
    )

    assert [choice["message"]["content"] for choice in found["choices"]] == ["a", "b"]


def test_the_usage_is_the_streams_own_or_else_what_was_counted() -> None:
    told = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    own = b"data: " + json.dumps({**HEAD, "choices": [], "usage": told}).encode() + b"\n\n"

    assert merged(event({"content": "a"}, "stop"), own, usage=Usage(9, 9))["usage"] == told
    counted = merged(event({"content": "a"}, "stop"), usage=Usage(prompt_tokens=4, completion_tokens=5))["usage"]
    assert (counted["prompt_tokens"], counted["completion_tokens"], counted["total_tokens"]) == (4, 5, 9)


def test_a_legacy_stream_becomes_a_legacy_answer() -> None:
    head = {**HEAD, "object": "text_completion"}
    pieces = [
        b"data: " + json.dumps({**head, "choices": [{"index": 0, "text": text, "finish_reason": why}]}).encode()
        for text, why in (("a", None), ("b", "stop"))
    ]

    found = merged(b"\n\n".join(pieces) + b"\n\n")

    assert found["object"] == "text_completion"
    assert found["choices"] == [{"index": 0, "text": "ab", "finish_reason": "stop"}]


@pytest.mark.parametrize(
    "pieces",
    [
        [{"thinking_blocks": [{"thinking": "a"}]}, {"thinking_blocks": [{"thinking": "b"}]}],
        [{"audio": {"data": "YQ=="}}, {"audio": {"data": "Yg=="}}],
        [
            {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "id": "b", "function": {"name": "y", "arguments": ""}}]},
        ],
    ],
)
def test_pieces_that_nobody_knows_how_to_join_are_not_guessed_at(pieces: list[dict[str, Any]]) -> None:
    assert whole((*map(event, pieces), event({}, "stop"), DONE), None) is None


@pytest.mark.parametrize("events", [b"", DONE, b"data: {\n\n", b"data: [1]\n\n", b'data: {"choices":[1]}\n\n'])
def test_what_is_no_stream_is_no_answer(events: bytes) -> None:
    assert whole((events,), None) is None
