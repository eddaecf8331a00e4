import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.errors import (
    GatewayError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProviderTimeoutError,
    ShuttingDownError,
    UpstreamError,
    UpstreamRateLimitedError,
)
from llmgateway.wire.errors import envelope, error_event, retry_headers


def test_the_envelope_is_openais() -> None:
    error = InvalidRequestError("`n`: too large.", param="n")

    assert json.loads(envelope(error, "req_1")) == {
        "error": {
            "message": "`n`: too large.",
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_value",
            "request_id": "req_1",
        }
    }


def test_what_is_not_known_is_null_and_details_are_left_out() -> None:
    error = json.loads(envelope(GatewayError("no"), "req_1"))["error"]

    assert error["param"] is None
    assert "details" not in error


def test_details_are_for_programs() -> None:
    near: list[object] = ["gpt-4o", {"a": (1, object)}]

    error = json.loads(envelope(ModelNotFoundError("no", details={"available_models": near}), "req_1"))["error"]

    assert error["details"]["available_models"] == ["gpt-4o", {"a": [1, "<class 'object'>"]}]


@given(st.text(), st.none() | st.text(), st.text())
def test_any_text_makes_one_event(message: str, param: str | None, code: str) -> None:
    event = error_event(UpstreamError(message, param=param, code=code), "req_1")

    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert len(event.splitlines()) == 2
    told = json.loads(event.removeprefix(b"data: "))["error"]
    assert (told["message"], told["param"], told["code"], told["type"]) == (message, param, code, "provider_error")


def test_an_error_event_is_no_end_of_an_answer() -> None:
    assert b"[DONE]" not in error_event(UpstreamError("lost"), "req_1")


@pytest.mark.parametrize(
    ("wait_s", "seconds", "milliseconds"),
    [(0, b"0", b"0"), (0.0001, b"1", b"1"), (1, b"1", b"1000"), (1.2, b"2", b"1200"), (59.9995, b"60", b"60000")],
)
def test_a_wait_is_rounded_up(wait_s: float, seconds: bytes, milliseconds: bytes) -> None:
    headers = dict(retry_headers(UpstreamRateLimitedError("slow down", retry_after_s=wait_s)))

    assert headers == {b"retry-after": seconds, b"retry-after-ms": milliseconds}


@given(st.floats(0, allow_nan=False, allow_infinity=False))
def test_nobody_is_told_to_come_too_early(wait_s: float) -> None:
    headers = dict(retry_headers(UpstreamRateLimitedError("slow down", retry_after_s=wait_s)))

    year_s = 365 * 24 * 3600
    assert min(wait_s, year_s) <= int(headers[b"retry-after"]) <= min(wait_s, year_s) + 1
    assert int(headers[b"retry-after-ms"]) <= 1000 * int(headers[b"retry-after"])
    assert math.isclose(int(headers[b"retry-after-ms"]), 1000 * min(wait_s, year_s), abs_tol=1)


@pytest.mark.parametrize("error", [UpstreamRateLimitedError("x"), OverloadedError("x"), ShuttingDownError("x")])
def test_pitfall_034_who_is_turned_away_for_now_is_always_told_when_to_come_again(error: GatewayError) -> None:
    headers = dict(retry_headers(error))

    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"1", b"1000")


@pytest.mark.parametrize("error", [InvalidRequestError("x"), UpstreamError("x"), ProviderTimeoutError("x")])
def test_nothing_is_said_where_nothing_is_known(error: GatewayError) -> None:
    assert retry_headers(error) == []


def test_the_sdks_are_told_what_their_own_rule_would_get_wrong() -> None:
    error = OverloadedError("full")
    assert (b"x-should-retry", b"true") in retry_headers(error)

    error.should_retry = False

    assert (b"x-should-retry", b"false") in retry_headers(error)
