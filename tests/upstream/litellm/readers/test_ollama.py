"""What is read here of Ollama's answers is what LiteLLM reads of them."""

import json
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.upstream.litellm.pieces import Piece, pieces_of
from llmgateway.upstream.litellm.readers.ollama import OllamaReader

pytestmark = pytest.mark.usefixtures("litellm")
MESSAGES = st.sampled_from(
    [
        {"role": "assistant", "content": "yes"},
        {"role": "assistant", "content": "<think>hm"},
        {"role": "assistant", "content": "more</think>"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "both", "thinking": "hm"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
    ]
)


def _iterator() -> Any:
    transformation = import_module("litellm.llms.ollama.chat.transformation")
    return transformation.OllamaChatCompletionResponseIterator(None, sync_stream=False)


def _reader() -> OllamaReader:
    return OllamaReader(_iterator(), lambda text: (None, text))


def _event(message: dict[str, Any], *, done: bool = False) -> dict[str, Any]:
    return {
        "model": "m",
        "created_at": "2026-01-01T00:00:00Z",
        "message": json.loads(json.dumps(message)),
        "done": done,
    }


def _seen(piece: Piece) -> tuple[object, ...]:
    tools = [(tool.name, tool.arguments) for tool in piece.tools or ()]
    return piece.content or None, piece.reasoning or None, tools, piece.finish


@settings(deadline=None)  # LiteLLM loads what it needs when it first needs it
@given(st.lists(MESSAGES, min_size=1, max_size=6))
def test_a_stream_is_read_as_litellm_reads_it(messages: list[dict[str, Any]]) -> None:
    ours, theirs = _reader(), _iterator()
    for message in messages:
        plain = ours.plain(json.dumps(_event(message)).encode())
        piece = Piece(content=plain[0]) if plain is not None else ours.event(_event(message))[0]
        [expected] = pieces_of(theirs.chunk_parser(_event(message)))

        assert _seen(piece) == _seen(expected)


@pytest.mark.parametrize(
    ("message", "done", "plain"),
    [
        ({"content": "é"}, False, ("é", None)),
        ({"content": "é"}, True, None),
        ({"content": ""}, False, None),
        ({"content": "</think>"}, False, None),
        ({"content": "é", "thinking": "hm"}, False, None),
        ({"content": "é", "images": None}, False, None),
    ],
)
def test_text_alone_is_told_from_all_else(message: dict[str, Any], done: bool, plain: object) -> None:
    reader = _reader()
    event = json.dumps(_event(message, done=done)).encode()

    assert reader.plain(event) is None, "the first event is the one whose model counts"
    reader.event(_event({"content": "a"}))
    assert reader.plain(event) == plain


def test_a_mark_of_thoughts_is_seen_in_escapes_too() -> None:
    reader = _reader()
    reader.event(_event({"content": "a"}))
    event = json.dumps(_event({"content": "</think>"})).encode()

    assert reader.plain(event.replace(b"<", b"\\u003c").replace(b">", b"\\u003e")) is None
