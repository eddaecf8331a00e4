from typing import Any

import pytest

from llmgateway.exchange import Usage
from llmgateway.upstream.litellm.pieces import Piece, Tool, pieces_of, usage_fields, usage_of


def test_the_older_dict_is_read() -> None:
    tool = {"id": "a", "type": "function", "function": {"name": "one", "arguments": "{}"}, "index": 2}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    ended = {"text": "", "is_finished": True, "finish_reason": "stop", "usage": usage, "tool_use": None}

    assert pieces_of({"text": "x", "is_finished": False, "finish_reason": "", "tool_use": tool, "usage": None}) == [
        Piece(content="x", tools=[Tool(2, "a", "one", "{}")])
    ]
    assert pieces_of(ended) == [Piece(finish="stop", usage=usage)]


def test_an_event_of_usage_alone_is_read(litellm: Any) -> None:
    usage = litellm.Usage(prompt_tokens=3, completion_tokens=1, total_tokens=4)
    chunk = litellm.types.utils.ModelResponseStream(choices=[], usage=usage, model="m")

    [piece] = pieces_of(chunk)
    assert piece.usage is not None
    assert piece.usage.items() >= {"prompt_tokens": 3, "total_tokens": 4}.items()


def test_citations_are_kept_and_litellms_own_fields_are_not(litellm: Any) -> None:
    types = litellm.types.utils
    delta = types.Delta(content="x", provider_specific_fields={"citation": {"text": "y"}, "private": 1})
    chunk = types.ModelResponseStream(choices=[types.StreamingChoices(delta=delta)])

    [piece] = pieces_of(chunk)
    assert piece.more == {"citations": [{"text": "y"}]}


def test_usage_details_are_openais(litellm: Any) -> None:
    usage = litellm.Usage(
        prompt_tokens=10,
        completion_tokens=5,
        total_tokens=15,
        prompt_tokens_details={"cached_tokens": 4},
        completion_tokens_details={"reasoning_tokens": 2},
        cache_read_input_tokens=4,
    )
    fields = usage_fields(usage)

    assert fields is not None
    assert set(fields) <= {
        "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
    }  # fmt: skip
    assert usage_of(fields) == Usage(10, 5, cached_tokens=4, reasoning_tokens=2)
    assert usage_of(None) is None


@pytest.mark.parametrize("number", [0, -1, 10**10])
def test_a_usage_that_no_answer_has_is_none(number: int) -> None:
    assert usage_of({"prompt_tokens": number}) is None
