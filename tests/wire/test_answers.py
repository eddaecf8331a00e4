import pytest

from llmgateway.wire.answers import read_answer


def test_usage_and_model_are_read() -> None:
    answer = read_answer(
        b'{"model":"m","usage":{"prompt_tokens":5,"completion_tokens":2,'
        b'"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":1}}}'
    )

    assert answer is not None
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.completion_tokens_details is not None
    assert (answer.model, answer.usage.prompt_tokens_details.cached_tokens) == ("m", 3)
    assert answer.usage.completion_tokens_details.reasoning_tokens == 1


def test_one_strange_field_costs_only_itself() -> None:
    answer = read_answer(b'{"model":7,"usage":{"prompt_tokens":"many"},"choices":[1],"error":{"a":1}}')

    assert answer is not None
    assert answer.usage is None
    assert answer.error == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"finish_reason":"\xff"}],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"finish_reason":"\xff"},{"finish_reason":"stop"}],"model":"\xff","usage":{"prompt_tokens":1}}',
    ],
)
def test_a_text_that_is_no_utf8_costs_only_itself(body: bytes) -> None:
    answer = read_answer(body)

    assert answer is not None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.model) == (1, None)
    assert answer.is_answer
    assert not answer.is_whole


def test_numbers_as_text_or_with_a_point_are_numbers() -> None:
    answer = read_answer(b'{"usage":{"prompt_tokens":5.0,"completion_tokens":"2"}}')

    assert answer is not None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{", b"[" * 100_000])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    assert read_answer(body) is None


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        (b'{"choices":[]}', True),
        (b'{"data":[{"embedding":[1]}]}', True),
        (b'{"choices":[],"model":3}', True),
        (b'{"hello":"world"}', False),
        (b'{"choices":null}', False),
        (b'{"choices":"none","usage":{"prompt_tokens":"x"}}', False),
    ],
)
def test_an_answer_is_told_from_other_json(body: bytes, answers: bool) -> None:
    answer = read_answer(body)

    assert answer is not None
    assert answer.is_answer is answers


@pytest.mark.parametrize("body", [b'{"object":"error","message":"x"}', b'{"error":"x"}', b'{"error":1,"model":1}'])
def test_a_failure_says_so_in_one_of_two_ways(body: bytes) -> None:
    answer = read_answer(body)

    assert answer is not None
    assert answer.is_failure


def test_a_tier_that_is_no_text_costs_the_tier_only() -> None:
    answer = read_answer(
        b'{"choices": [], "model": "m", "service_tier": {"type": "flex"}, "usage": {"prompt_tokens": 3}}'
    )

    assert answer is not None
    assert answer.usage is not None
    assert (answer.service_tier, answer.usage.prompt_tokens, answer.model) == (None, 3, "m")


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (b'{"choices":[{"finish_reason":"stop"},{"finish_reason":"tool_calls"}]}', True),
        (b'{"model":7,"choices":[{"finish_reason":"stop"}]}', True),
        (b'{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}', False),
        (b'{"choices":[{"finish_reason":null}]}', False),
        (b'{"choices":[{"finish_reason":7}]}', False),
        (b'{"choices":[]}', False),
        (b'{"data":[]}', False),
    ],
)
def test_an_answer_is_whole_that_came_to_its_end_in_every_choice(body: bytes, whole: bool) -> None:
    answer = read_answer(body)

    assert answer is not None
    assert answer.is_whole is whole


@pytest.mark.parametrize(
    "detail",
    [
        b'"completion_tokens_details":{"reasoning_tokens":-1}',
        b'"completion_tokens_details":[]',
        b'"prompt_tokens_details":{"cached_tokens":"some"}',
        b'"prompt_cache_hit_tokens":-3',
        b'"total_tokens":"7"',
        b'"total_tokens":{}',
        b'"service_tier":{"type":"flex"}',
        b'"service_tier":"\xff"',
    ],
)
def test_a_detail_that_cannot_be_read_costs_only_itself(detail: bytes) -> None:
    answer = read_answer(
        b'{"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3},%b}}' % detail
    )

    assert answer is not None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)
    details = answer.usage.prompt_tokens_details
    assert b"prompt_tokens_details" in detail or (details is not None and details.cached_tokens == 3)


@pytest.mark.parametrize("usage", [b'{"prompt_tokens":-5}', b'{"completion_tokens":"x"}', b"7", b"[]", b'"none"'])
def test_a_usage_whose_counts_cannot_be_read_is_none(usage: bytes) -> None:
    answer = read_answer(b'{"model":7,"usage":%b}' % usage)

    assert answer is not None
    assert answer.usage is None
