import json
from typing import Any

import pytest

from llmgateway.errors import InvalidRequestError
from llmgateway.exchange import Usage
from llmgateway.providers import Chunk, CompletionRequest
from llmgateway.providers.request import call_of, chunks_of


def body_of(request: CompletionRequest) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(call_of(request).body)
    return body


def test_a_prompt_is_the_one_message_of_the_user() -> None:
    call = call_of(CompletionRequest(model="gpt-4o", prompt="Hi", stream=False))

    assert json.loads(call.body) == {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    assert (call.operation, call.model, call.stream, call.include_usage) == ("chat", "gpt-4o", False, False)


def test_pitfall_047_a_field_that_is_not_set_is_not_sent() -> None:
    body = body_of(CompletionRequest(model="m", prompt="Hi"))

    assert set(body) == {"model", "messages", "stream", "stream_options"}
    assert body["stream_options"] == {"include_usage": True}


def test_every_field_is_sent_by_openais_name() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    request = CompletionRequest(
        model="m",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        temperature=0.0,
        max_tokens=5,
        stop=["a"],
        tools=[tool],
        response_format={"type": "json_object"},
        user="u1",
        extra={"seed": 7, "model": "another"},
    )

    body = body_of(request)

    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["max_tokens"], body["stop"], body["user"]) == (0.0, 5, ["a"], "u1")
    assert (body["tools"], body["response_format"]) == ([tool], {"type": "json_object"})
    assert (body["seed"], body["model"]) == (7, "m")


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (CompletionRequest(model="m"), "messages"),
        (CompletionRequest(model="m", prompt="Hi", messages=[{"role": "user", "content": "Hi"}]), "messages"),
        (CompletionRequest(model="m", messages=[]), "messages"),
        (CompletionRequest(model="m", messages=[{"role": "usr", "content": "Hi"}]), "messages[0].role"),
        (CompletionRequest(model="", prompt="Hi"), "model"),
        (CompletionRequest(model="m", prompt="Hi", extra={"x": object()}), None),
        (CompletionRequest(model="m", prompt="lone \ud800"), None),
    ],
)
def test_a_wrong_request_is_refused_with_its_path(request_: CompletionRequest, param: str | None) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        call_of(request_)

    assert refused.value.param == param


def test_chunks_carry_text_usage_reason_and_model() -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    first = {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}
    second = {"index": 1, "message": {"content": None, "tool_calls": [{"id": "call_1"}]}, "finish_reason": "tool_calls"}

    chunks = list(chunks_of(json.dumps({"model": "gpt-4o", "choices": [first, second], "usage": usage}).encode()))

    assert chunks == [
        Chunk("a", finish_reason="stop", model="gpt-4o"),
        Chunk(
            "",
            usage=Usage(5, 7, cached_tokens=2, reasoning_tokens=3),
            finish_reason="tool_calls",
            model="gpt-4o",
            tool_calls=({"id": "call_1"},),
            index=1,
        ),
    ]


def test_a_chunk_of_usage_alone_is_given_and_an_empty_one_is_not() -> None:
    alone = list(chunks_of(b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": null}, "model": "m"}'))
    empty = list(chunks_of(b'{"choices": [], "prompt_filter_results": []}'))

    assert alone == [Chunk("", usage=Usage(5, 0), model="m")]
    assert empty == []
