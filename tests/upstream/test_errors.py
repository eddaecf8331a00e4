import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from llmgateway.catalog.model import Account
from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.upstream.errors import error_in_body, retry_after_s, upstream_error

ACCOUNT = Account(name="main", provider="openai", wire="openai", api_key="sk-own-key-00001")


def made(status: int, body: object = None, **headers: str) -> GatewayError:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return upstream_error(status, text, named, ACCOUNT)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "openai", "type": "t", "param": None, "code": None}}, "openai"),
        ({"error": "a text"}, "a text"),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "anthropic"}}, "anthropic"),
        ([{"error": {"code": 400, "message": "gemini", "status": "INVALID_ARGUMENT"}}], "gemini"),
        ({"message": "cohere"}, "cohere"),
        ({"Message": "amazon"}, "amazon"),
        ({"detail": "fastapi"}, "fastapi"),
        ({"detail": [{"loc": ["body", "n"], "msg": "too small"}, {"msg": "alone"}]}, "n: too small; alone"),
        ({"errors": [{"code": 7, "message": "cloudflare"}]}, "cloudflare"),
        ({"error_message": "other"}, "other"),
        ({"detail": {"message": "nested"}}, "nested"),
        ("a JSON text", "a JSON text"),
        (b"plain text", "plain text"),
        (b"<!DOCTYPE html><html>nginx</html>", "openai answered 400 without a message."),
        (b"", "openai answered 400 without a message."),
        ([], "[]"),
        ({}, "openai answered 400 without a message."),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_the_providers_message_is_found_in_every_shape(body: object, message: str) -> None:
    assert made(400, body).message == message


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"error": {"message": "m", "code": "bad_thing", "param": "n"}}, UpstreamRejectedError, "bad_thing"),
        (404, {"error": {"message": "m", "type": "not_found_error"}}, UpstreamRejectedError, "not_found_error"),
        (422, {"error": {"message": "m", "type": "invalid_request_error"}}, UpstreamRejectedError, "invalid_value"),
        (409, {"message": "m"}, UpstreamRejectedError, "invalid_value"),
        (401, {"error": {"message": "m"}}, UpstreamAuthError, "provider_auth_failed"),
        (403, {"error": {"message": "m"}}, UpstreamAuthError, "provider_auth_failed"),
        (403, {"error": {"message": "m", "metadata": {"reasons": ["violence"]}}}, UpstreamRejectedError, "moderation"),
        (403, {"error": {"message": "m", "code": "content_filter"}}, UpstreamRejectedError, "content_filter"),
        (400, {"error": {"message": "m", "details": [{"reason": "API_KEY_INVALID"}]}}, UpstreamAuthError, None),
        (400, {"error": "Incorrect API key provided: sk-x"}, UpstreamAuthError, None),
        (402, {"error": {"message": "m"}}, UpstreamQuotaError, "provider_quota_exhausted"),
        (429, {"error": {"message": "m", "code": "insufficient_quota"}}, UpstreamQuotaError, None),
        (400, {"error": {"message": "Your credit balance is too low to go on."}}, UpstreamQuotaError, None),
        (429, {"error": {"message": "m"}}, UpstreamRateLimitedError, "provider_rate_limited"),
        (500, {"error": {"message": "m"}}, UpstreamError, "provider_unavailable"),
        (529, {"error": {"message": "m"}}, UpstreamError, None),
        (408, {"error": {"message": "m"}}, UpstreamError, None),
        (302, b"", UpstreamError, "provider_unavailable"),
        (204, b"", UpstreamError, "provider_unavailable"),
    ],
)
def test_the_contracts_table(status: int, body: object, kind: type[GatewayError], code: str | None) -> None:
    error = made(status, body)

    assert type(error) is kind
    assert error.code == (code or kind.code)
    assert error.status == (status if kind in {UpstreamRejectedError, UpstreamRateLimitedError} else 502)


@pytest.mark.parametrize(
    ("status", "may"), [(408, True), (429, True), (500, True), (503, True), (400, False), (302, False)]
)
def test_only_what_may_pass_is_tried_again(status: int, may: bool) -> None:
    error = made(status, {"message": "m"})

    assert isinstance(error, UpstreamError)
    assert (error.may_retry, error.upstream_status) == (may, status)


def test_a_conflict_is_tried_again_only_where_the_provider_says_so() -> None:
    plain, asked = made(409, {"message": "m"}), made(409, {"message": "m"}, x_should_retry="true", retry_after="2")

    assert isinstance(plain, UpstreamError)
    assert isinstance(asked, UpstreamError)
    assert (plain.may_retry, asked.may_retry, asked.retry_after_s, asked.status) == (False, True, 2.0, 409)


def test_a_provider_that_says_no_is_not_asked_again() -> None:
    error = made(500, {"message": "m"}, x_should_retry="false")

    assert isinstance(error, UpstreamError)
    assert not error.may_retry


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "prompt is too long: 210001 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
        "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
        "Input is too long for requested model.",
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292.",
        "the request exceeds the available context size. try increasing the context size",
        "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        "input length exceeds the context length",
    ],
)
def test_a_prompt_that_does_not_fit_is_known_by_its_words(status: int, message: str) -> None:
    assert type(made(status, {"error": {"message": message}})) is ContextLengthError
    assert type(made(500, {"error": {"message": message}})) is UpstreamError


def test_a_prompt_that_does_not_fit_is_known_by_its_code() -> None:
    error = made(400, {"error": {"message": "m", "code": "context_length_exceeded", "param": "messages"}})

    assert type(error) is ContextLengthError
    assert error.param == "messages"


_DIGITS = st.lists(st.sampled_from(["400", "401", "402", "403", "404", "408", "413", "429", "500", "503", "529"]))


@given(st.sampled_from([400, 401, 404, 409, 422, 429, 500, 502, 503, 529]), _DIGITS, st.booleans())
def test_pitfall_056_digits_in_a_text_decide_nothing(status: int, digits: list[str], as_json: bool) -> None:
    text = f"Error code {' '.join(digits)}: quota rate limit (401) retryDelay 403s"
    error = made(status, {"error": {"message": text}} if as_json else text.encode())

    assert type(error) is type(made(status, {"error": {"message": "nothing"}}))
    assert isinstance(error, UpstreamError)
    assert error.upstream_status == status


def test_pitfall_057_throttling_by_its_own_name_is_a_429_whatever_the_status() -> None:
    named = made(500, {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}, retry_after="3")
    amazon = made(400, {"message": "m"}, x_amzn_errortype="ThrottlingException:http://internal.amazon.com/")
    numbered = made(500, {"error": {"code": 429, "message": "429 Too Many Requests"}})

    assert type(named) is type(amazon) is UpstreamRateLimitedError
    assert named.retry_after_s == 3
    assert type(numbered) is UpstreamError


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_pitfall_058_the_providers_wait_is_kept(status: int) -> None:
    assert made(status, {"message": "m"}, retry_after="2").retry_after_s == 2


def test_googles_wait_is_in_its_body() -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    error = made(429, {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [detail]}})

    assert error.retry_after_s == 34.5


def test_a_message_holds_neither_key_nor_address() -> None:
    body = {
        "error": {"message": "sk-own-key-00001 at http://10.0.0.1/", "code": "sk-own-key-00001", "param": "10.0.0.1"}
    }
    error = made(400, body)

    assert error.message == "[key removed] at [address removed]"
    assert (error.code, error.param) == ("[key removed]", "[address removed]")


NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"RETRY-AFTER": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"Retry-After": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:01:00 -0000"}, 60.0),
        ({"Retry-After": "9", "retry-after-ms": "1500"}, 1.5),
    ],
)
def test_every_form_of_retry_after_is_read(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(CIMultiDict(headers), NOW) == wait_s


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "m", "type": "server_error"}}, UpstreamError),
        ({"error": "m"}, UpstreamError),
        ({"error": {"message": "m", "code": 404}}, UpstreamRejectedError),
        ({"error": {"message": "m", "code": "404"}}, UpstreamRejectedError),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, UpstreamError),
        ({"type": "error", "error": {"type": "authentication_error", "message": "m"}}, UpstreamAuthError),
        ([{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}], UpstreamRateLimitedError),
        (
            {"error": {"message": "m", "code": "context_length_exceeded", "type": "invalid_request_error"}},
            ContextLengthError,
        ),
    ],
)
def test_pitfall_019_an_error_in_a_200_is_found(body: object, kind: type[GatewayError]) -> None:
    found = error_in_body(json.dumps(body).encode(), CIMultiDict(), ACCOUNT)

    assert type(found) is kind
    assert type(made(200, body)) is kind


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [], "error": {"message": "m"}}',
        b'{"choices": [{"message": {"content": "an \\"error\\" in words"}}]}',
        b'{"error": null, "id": 1}',
        b'{"content": "error"}',
        b'["error"]',
        b'"error"',
        b'{"error": ',
        b"",
    ],
)
def test_an_answer_is_not_taken_for_an_error(body: bytes) -> None:
    assert error_in_body(body, CIMultiDict(), ACCOUNT) is None


@given(st.integers(300, 599), st.binary(max_size=200))
def test_pitfall_141_any_status_and_any_bytes_make_an_error(status: int, body: bytes) -> None:
    assert isinstance(made(status, body), GatewayError)


def test_a_giant_or_deep_body_is_cheap() -> None:
    started = time.perf_counter()
    made(500, b"[" * 5_000_000)
    made(500, b"[" * 900_000)
    made(500, b"a.b@c:1 " * 600_000)

    assert time.perf_counter() - started < 2
