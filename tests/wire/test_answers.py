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


def test_numbers_as_text_or_with_a_point_are_numbers() -> None:
    answer = read_answer(b'{"usage":{"prompt_tokens":5.0,"completion_tokens":"2"}}')

    assert answer is not None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{", b"[" * 100_000])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    assert read_answer(body) is None
