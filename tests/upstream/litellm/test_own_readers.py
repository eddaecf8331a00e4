import pytest

from llmgateway.errors import UpstreamError
from llmgateway.upstream.litellm.own_readers import (
    anthropic_answer,
    anthropic_usage,
    cohere_answer,
    cohere_event,
    cohere_parameters,
)
from llmgateway.upstream.litellm.pieces import Piece, Tool


def test_an_answer_with_thoughts_citations_and_cached_tokens() -> None:
    root = {
        "finish_reason": "STOP_SEQUENCE",
        "message": {
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}],
            "citations": [{"start": 0, "end": 3, "text": "yes"}],
        },
        "usage": {"tokens": {"input_tokens": 5.0, "output_tokens": 2.0}, "cached_tokens": 4},
    }

    assert cohere_answer(root) == [
        Piece(
            content="yes",
            reasoning="hm",
            more={"citations": [{"start": 0, "end": 3, "text": "yes"}]},
            finish="stop",
            usage={
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "total_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
        )
    ]


@pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
def test_pitfall_001_a_failed_answer_is_never_whole(reason: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        cohere_answer({"finish_reason": reason, "message": {}})
    assert caught.value.may_retry


@pytest.mark.parametrize(
    ("event", "piece"),
    [
        ({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will"}}}, Piece(reasoning="I will")),
        (
            {"type": "content-delta", "delta": {"message": {"content": {"type": "thinking", "thinking": "hm"}}}},
            Piece(reasoning="hm"),
        ),
        (
            {"type": "citation-start", "delta": {"message": {"citations": {"start": 0}}}},
            Piece(more={"citations": [{"start": 0}]}),
        ),
        (
            {
                "type": "tool-call-delta",
                "index": 1,
                "delta": {"message": {"tool_calls": {"function": {"arguments": "{"}}}},
            },
            Piece(tools=[Tool(1, None, None, "{")]),
        ),
        ({"type": "content-end", "index": 0}, Piece()),
        ({"type": "message-end", "delta": {"finish_reason": "ERROR_TOXIC"}}, Piece(finish="content_filter")),
        ({"type": "something-new"}, Piece()),
    ],
)
def test_an_event_is_read(event: dict[str, object], piece: Piece) -> None:
    assert cohere_event(event) == [piece]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
            {"response_format": {"type": "json_object", "json_schema": {"type": "object"}}},
        ),
        ({"tool_choice": "required"}, {"tool_choice": "REQUIRED"}),
        ({"tool_choice": "none"}, {"tool_choice": "NONE"}),
        ({"tool_choice": "auto"}, {}),
    ],
)
def test_openais_parameters_that_litellm_leaves_out(asked: dict[str, object], sent: dict[str, object]) -> None:
    assert cohere_parameters(asked) == sent


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
