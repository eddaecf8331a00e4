from typing import Any

import msgspec
import pytest

from llmgateway.routing.failover.said import Said
from llmgateway.wire.joining import Told
from llmgateway.wire.sse import DONE

HEAD = {"id": "c", "created": 1, "model": "gpt-4o"}


def event(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + msgspec.json.encode({**HEAD, "choices": [choice], **fields}) + b"\n\n"


def told(*chunks: bytes) -> Told:
    said = Said()
    for chunk in chunks:
        said.append(chunk)
    return said.told()


def test_text_role_and_names_are_read() -> None:
    found = told(event({"role": "assistant", "content": ""}), event({"content": "a\n"}) + event({"content": 'é"'}))

    assert found == Told(['a\né"'], HEAD, has_role=True) or found.text == 'a\né"'
    assert (found.head, found.has_role, found.is_more, found.is_finished) == (HEAD, True, False, False)


def test_nothing_is_told_by_comments() -> None:
    assert told(b": hello\n\n", b"data: {\n\n") == Told()
    assert told() == Told()


@pytest.mark.parametrize(
    "plain", [event({"content": "word 🙂 "}), event({"content": "word 🙂 ", "tool_calls": None})], ids=["plain", "wide"]
)
def test_a_long_answer_is_read_as_it_passes(plain: bytes) -> None:
    found = told(event({"role": "assistant"}), *[plain] * 1000, event({"content": "end"}))

    assert found.text == "word 🙂 " * 1000 + "end"
    assert not found.is_more


def test_text_that_speaks_of_events_is_text() -> None:
    text = 'data: {"delta":{"content":"x"}} "finish_reason":"stop"'

    assert told(event({"role": "assistant"}), event({"content": text}), event({"content": "!"})).text == text + "!"


def test_thoughts_are_noted_and_are_no_text() -> None:
    found = told(event({"role": "assistant", "reasoning_content": "hm"}), event({"content": "a"}))

    assert (found.text, found.has_thoughts) == ("a", True)


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f"}},
        {"refusal": "No"},
        {"audio": {"id": "x"}},
        {"content": [{"type": "thinking"}]},
    ],
)
def test_what_is_more_than_text_is_noted(delta: dict[str, Any]) -> None:
    assert told(event({"content": "a"}), event(delta)).is_more


def test_an_end_is_noted() -> None:
    finished = told(event({"content": "a"}), event({"content": "b"}, "stop"))
    assert (finished.text, finished.is_finished, finished.is_done) == ("ab", True, False)
    usage = b"data: " + msgspec.json.encode({**HEAD, "choices": [], "usage": {"prompt_tokens": 1}}) + b"\n\n"
    assert told(event({}, "stop"), usage).has_usage
    assert told(event({}, "stop"), DONE).is_done


def test_what_is_too_long_to_be_taken_up_is_not_kept() -> None:
    found = told(*[event({"content": "x" * 10_000})] * 110)

    assert found.is_more
    assert found.parts == []
