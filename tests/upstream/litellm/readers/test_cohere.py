import json

import pytest

from llmgateway.errors import UpstreamError
from llmgateway.upstream.litellm.pieces import Piece, Tool
from llmgateway.upstream.litellm.readers.cohere import CohereReader, cohere_answer, cohere_event, cohere_parameters


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


@pytest.mark.parametrize(
    ("content", "plain"),
    [
        ({"text": "é"}, ("é", None)),
        ({"type": "text", "text": "é"}, ("é", None)),
        ({"text": ""}, None),
        ({"thinking": "hm"}, None),
        ({"type": "thinking", "thinking": "hm"}, None),
    ],
)
def test_text_alone_is_told_from_all_else(content: dict[str, str], plain: object) -> None:
    event = {"type": "content-delta", "index": 0, "delta": {"message": {"content": content}}}
    reader = CohereReader()

    assert reader.plain(json.dumps(event).encode()) == plain
    if plain is not None:
        assert reader.event(event) == [Piece(content="é")]
    assert reader.plain(json.dumps({**event, "type": "content-start"}).encode()) is None
    assert reader.plain(json.dumps({**event, "logprobs": {}}).encode()) is None
