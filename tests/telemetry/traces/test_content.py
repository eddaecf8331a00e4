"""Prompts and answers in a trace: the conventions' form, bounded, no keys."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmgateway.exchange import Call, Complete, Exchange, Operation
from llmgateway.telemetry.traces.content import MAX_CONTENT_BYTES, messages


def told(body: dict[str, Any], answer: dict[str, Any] | None = None, operation: Operation = "chat") -> dict[str, Any]:
    exchange = Exchange(operation=operation)
    exchange.call = Call(operation, "chat", json.dumps(body).encode())
    if answer is not None:
        exchange.reply = Complete(json.dumps(answer).encode())
    return {name.split(".")[1]: json.loads(str(value)) for name, value in messages(exchange).items()}


def test_a_talk_is_told_in_parts() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    given = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    answer = {"choices": [{"message": {"role": "assistant", "content": "Four."}, "finish_reason": "stop"}]}

    assert told({"messages": given}, answer) == {
        "input": [
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": "What?"}, {"type": "image_url"}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "name": "f", "arguments": "{}"}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "4"}]},
        ],
        "output": [{"role": "assistant", "parts": [{"type": "text", "content": "Four."}], "finish_reason": "stop"}],
    }


def test_texts_of_completions_and_embeddings_are_the_users() -> None:
    one = [{"role": "user", "parts": [{"type": "text", "content": "a"}]}]

    assert told({"prompt": "a"}, {"choices": [{"text": "b"}]}, "completion")["input"] == one
    assert told({"input": ["a"]}, {"data": [{"embedding": [1]}]}, "embedding") == {"input": one}


def test_a_key_is_taken_out_even_where_the_text_is_cut() -> None:
    """Pitfall 99."""
    key = "sk-planted1234567890abcdef"
    for before in (0, MAX_CONTENT_BYTES // 6 - 10, MAX_CONTENT_BYTES - 170, MAX_CONTENT_BYTES - 10):
        written = json.dumps(told({"messages": [{"role": "user", "content": "x " * (before // 2) + key}]}))
        assert "sk-pl" not in written


@given(st.lists(st.tuples(st.sampled_from(["\0", "é", '"', "a", "😀"]), st.integers(0, 70_000)), max_size=5))
def test_it_is_bounded_however_it_is_written(runs: list[tuple[str, int]]) -> None:
    texts = [char * count for char, count in runs]
    exchange = Exchange(operation="chat")
    given = [{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}] * 3
    exchange.call = Call("chat", "chat", json.dumps({"messages": given}).encode())

    assert all(len(str(value).encode()) <= MAX_CONTENT_BYTES for value in messages(exchange).values())


def test_many_small_messages_are_bounded_too() -> None:
    given = [{"role": "user", "content": [{"type": "image_url"}] * 20}] * 2000
    exchange = Exchange(operation="chat", call=Call("chat", "chat", json.dumps({"messages": given}).encode()))

    assert len(str(messages(exchange)["gen_ai.input.messages"])) <= MAX_CONTENT_BYTES


@given(st.binary(max_size=200), st.sampled_from([b'{"messages": [', b'{"choices": [', b""]))
def test_what_cannot_be_read_is_not_told(rest: bytes, begin: bytes) -> None:
    exchange = Exchange(operation="chat")
    exchange.call, exchange.reply = Call("chat", "chat", begin + rest), Complete(begin + rest)

    assert messages(exchange).keys() <= {"gen_ai.input.messages", "gen_ai.output.messages"}
