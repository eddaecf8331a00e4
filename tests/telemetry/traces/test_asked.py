"""What is told of a question and its answer, whatever they look like."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.exchange import Call, Chunks, Complete, Streamed
from llmgateway.telemetry.traces.asked import MAX_READ_BYTES, ending, parameters

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["temperature", "top_p", "max_tokens", "seed", "stop", "n", "messages", "id", "choices", "finish_reason"]


class Said:
    """The end of a stream."""

    def __init__(self, tail: bytes) -> None:
        self._tail = tail

    def text(self) -> str:
        return "said"

    def tail(self) -> bytes:
        return self._tail


def streamed(tail: bytes, chunks: Chunks | None = None) -> Streamed:
    return Streamed(chunks, heard=Said(tail))  # type: ignore[arg-type]  # nobody reads the chunks


def asked(**fields: Any) -> dict[str, Any]:
    return dict(parameters(Call("chat", "chat", json.dumps(fields).encode())))


def test_parameters_have_the_conventions_names() -> None:
    given = asked(temperature=1, top_p=0.5, max_completion_tokens=9, seed=-3, stop="END", n=2, frequency_penalty=0.1)

    assert given == {
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": -3,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.stop_sequences": ["END"],
    }
    assert asked(n=1) == {}


def test_a_key_among_the_stop_sequences_is_not_told() -> None:
    assert "sk-planted" not in str(asked(stop=["sk-planted1234567890"]))


def test_a_body_too_large_to_read_twice_is_not() -> None:
    body = json.dumps({"temperature": 1, "messages": "x" * MAX_READ_BYTES}).encode()

    assert parameters(Call("chat", "chat", body, stream=True)) == {"gen_ai.request.stream": True}
    assert ending(Complete(body)) == {}


@pytest.mark.parametrize("body", [b"", b"no", b"[1]", b'{"temperature": ', b'{"temperature": 1e999}', b"\xff"])
def test_a_body_that_is_none_tells_nothing(body: bytes) -> None:
    assert parameters(Call("chat", "chat", body)) == {}
    assert ending(Complete(body)) == {}


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_odd_fields_cost_attributes_and_no_more(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    told = {**parameters(Call("chat", "chat", body)), **ending(Complete(body)), **ending(streamed(b"data: " + body))}

    assert all(isinstance(value, str | int | float | list) for value in told.values())


def test_an_answer_says_which_it_is_and_why_it_ended() -> None:
    body = b'{"id": "chatcmpl-1", "choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}, {}]}'

    assert ending(Complete(body)) == {
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop", "length"],
    }


def test_a_stream_says_it_at_its_end() -> None:
    tail = (
        b": ping\n\n"
        b'data: {"id": "c", "choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
        b'data: {"id": "c", "choices": [{"delta": {}, "finish_reason": "tool_calls"}]}\n\n'
        b'data: {"id": "c", "choices": [], "usage": {}}\n\ndata: [DONE]\n\n'
    )

    assert ending(streamed(tail)) == {
        "gen_ai.response.id": "c",
        "gen_ai.response.finish_reasons": ["tool_calls"],
    }
    assert ending(None) == {}
