import pytest

from llmgateway.upstream.fault import Fault, as_number, decoded, fault_of, read_fault


def test_a_fault_is_read_whole() -> None:
    detail = {"reason": "RATE_LIMIT", "retryDelay": "1.5s"}
    error = {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "param": "n", "details": [detail, "other"]}

    assert fault_of({"error": error}) == Fault(
        message="m",
        kinds=("RESOURCE_EXHAUSTED", "RATE_LIMIT"),
        code="RESOURCE_EXHAUSTED",
        param="n",
        status=429,
        retry_after_s=1.5,
    )


def test_a_field_at_fault_is_named_by_its_path() -> None:
    body = b'{"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "unknown"}]}'
    assert read_fault(body, {}).param == "messages.0.role"


def test_amazons_names_come_in_a_header_or_with_a_namespace() -> None:
    assert read_fault(b"{}", {"x-amzn-errortype": "ThrottlingException:http://x/"}).kinds == ("ThrottlingException",)
    assert fault_of({"__type": "com.amazon.coral#ValidationException"}).code == "ValidationException"


@pytest.mark.parametrize("code", [99, 399, 600, True, None, "4x4", "40404", [429]])
def test_what_is_no_error_status_is_none(code: object) -> None:
    assert fault_of({"error": {"message": "m", "code": code}}).status is None


def test_kinds_and_words_are_found_in_any_case() -> None:
    fault = Fault(message="Too Many Tokens", kinds=("Some_Kind",))

    assert fault.is_one_of(frozenset({"some_kind"}))
    assert fault.says(("many tokens",))
    assert not fault.says(("few",))


def test_numbers_are_finite_and_not_negative() -> None:
    assert [as_number(text) for text in ("1.5", "-1", "nan", "x", "", None)] == [1.5, 0.0, None, None, None, None]


def test_json_of_any_size_and_depth_is_decoded_or_left() -> None:
    assert decoded(b'{"a": 1}') == {"a": 1}
    assert decoded(b"{") is None
    assert decoded(b"[" * 500_000) is None
    assert decoded(b"1" * 2_000_000) is None
