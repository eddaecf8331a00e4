"""What is read here of Anthropic's answers is what LiteLLM reads of them."""

import json
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.upstream.litellm.pieces import Piece, Tool, pieces_of
from llmgateway.upstream.litellm.readers.anthropic import AnthropicReader, Asked, anthropic_answer, anthropic_usage

pytestmark = pytest.mark.usefixtures("litellm")
NAMES = {"my_tool": "my/tool"}
OPENINGS: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "tool_use": {"id": "toolu_1", "name": "my_tool", "input": {}},
    "thinking": {"thinking": "", "signature": ""},
    "redacted_thinking": {"data": "x"},
    "server_tool_use": {"id": "srvtoolu_1", "name": "web_search", "input": {}},
    "web_search_tool_result": {"tool_use_id": "srvtoolu_1", "content": []},
    "bash_code_execution_tool_result": {"tool_use_id": "srvtoolu_2", "content": {}},
    "compaction": {"content": "so far"},
}
DELTAS: dict[str, list[dict[str, Any]]] = {
    "text": [
        {"type": "text_delta", "text": "é 🎉"},
        {"type": "text_delta", "text": ""},
        {"type": "citations_delta", "citation": {"cited_text": "a"}},
    ],
    "tool_use": [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"a":', "1}")],
    "thinking": [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "thinking_delta", "thinking": ""},
        {"type": "signature_delta", "signature": "s"},
    ],
    "server_tool_use": [{"type": "input_json_delta", "partial_json": '{"query":"x"}'}],
    "web_search_tool_result": [{"type": "input_json_delta", "partial_json": "{}"}],
}
USAGE = {"input_tokens": 7, "output_tokens": 1}


def _iterator() -> Any:
    handler = import_module("litellm.llms.anthropic.chat.handler")
    return partial(handler.ModelResponseIterator, None, False, False, None, NAMES)


def reader() -> AnthropicReader:
    config: Any = None  # what reads whole answers by LiteLLM
    stop = import_module("litellm.litellm_core_utils.core_helpers").map_finish_reason
    return AnthropicReader(config, Asked({}, _iterator(), NAMES, stop, json_mode=False))


@st.composite
def _block(draw: st.DrawFn, index: int) -> list[dict[str, Any]]:
    kind = draw(st.sampled_from(sorted(OPENINGS)))
    deltas = draw(st.lists(st.sampled_from(DELTAS.get(kind) or DELTAS["text"][:1]), max_size=4))
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": kind, **OPENINGS[kind]}},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


@st.composite
def _stream(draw: st.DrawFn) -> list[dict[str, Any]]:
    blocks = [draw(_block(index)) for index in range(draw(st.integers(0, 4)))]
    reason = draw(st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal", "stop_sequence", None]))
    container = draw(st.sampled_from([{}, {"container": {"id": "c"}}]))
    return [
        {"type": "message_start", "message": {"model": "claude", "content": [], "usage": USAGE}},
        {"type": "ping"},
        *(event for block in blocks for event in block),
        {"type": "message_delta", "delta": {"stop_reason": reason, **container}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
        {"type": "something_new"},
    ]


def _seen(piece: Piece) -> tuple[object, ...]:
    """What of a piece reaches a client."""
    return piece.content or None, piece.reasoning or None, piece.tools or None, piece.more, piece.finish


@settings(deadline=None)  # LiteLLM loads what it needs when it first needs it
@given(_stream())
def test_a_stream_is_read_as_litellm_reads_it(events: list[dict[str, Any]]) -> None:
    ours, theirs = reader(), _iterator()()
    for event in events:
        again = json.loads(json.dumps(event))

        assert [_seen(piece) for piece in ours.event(event)] == [
            _seen(piece) for piece in pieces_of(theirs.chunk_parser(again))
        ]


def test_the_model_and_the_usage_so_far_come_with_the_events_that_tell_them() -> None:
    ours = reader()
    [start] = ours.event({"type": "message_start", "message": {"model": "claude", "usage": USAGE}})
    [delta] = ours.event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}})

    assert (start.model, start.usage) == ("claude", anthropic_usage(USAGE))
    assert delta.usage == anthropic_usage({"input_tokens": 7, "output_tokens": 5})


@pytest.mark.parametrize(
    ("event", "plain"),
    [
        ({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "é"}}, ("é", None)),
        ({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}}, None),
        ({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '"text_delta"'}}, None),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": 1}}, None),
        ({"type": "something", "of": "text_delta"}, None),
        ({"type": "ping"}, None),
    ],
)
def test_text_alone_is_told_from_all_else(event: dict[str, object], plain: object) -> None:
    assert reader().plain(json.dumps(event).encode()) == plain


def test_half_an_event_is_not_plain() -> None:
    assert reader().plain(b'{"delta":{"type":"text_delta","text":"x"}') is None


def test_anthropics_plain_blocks_are_read() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    root = {
        "model": "claude",
        "content": [
            thought,
            hidden,
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
            {"type": "tool_use", "id": "t", "name": "my_tool", "input": {"city": "Ulm é"}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    [piece] = anthropic_answer(root, {"my_tool": "my/tool"}, str.upper) or []

    assert (piece.content, piece.reasoning, piece.finish, piece.model) == ("ab", "hm", "TOOL_USE", "claude")
    assert piece.tools == [Tool(None, "t", "my/tool", '{"city":"Ulm é"}')]
    assert piece.more == {"thinking_blocks": [thought, hidden]}


@pytest.mark.parametrize(
    "block", [{"type": "web_search_tool_result"}, {"type": "text", "text": "a", "citations": [{"url": "x"}]}]
)
def test_what_more_anthropic_sends_is_left_to_litellm(block: dict[str, object]) -> None:
    assert anthropic_answer({"content": [block]}, {}, str) is None


def test_anthropics_cached_tokens_are_part_of_the_prompts() -> None:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
    }

    assert anthropic_usage(usage) == {
        "prompt_tokens": 123,
        "completion_tokens": 7,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_creation_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }


def test_anthropics_turns_are_summed() -> None:
    turns = [{"input_tokens": 3, "output_tokens": 1}, {"input_tokens": 5, "output_tokens": None}]
    fields = anthropic_usage({"input_tokens": 5, "output_tokens": 1, "iterations": turns})

    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (8, 1)
