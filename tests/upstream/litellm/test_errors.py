"""LiteLLM's exceptions, as our own errors."""

from typing import Any

import httpx
import pytest

from llmgateway.catalog.model import Account
from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    InvalidRequestError,
    ProviderTimeoutError,
    UnsupportedParameterError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.upstream.http.failures import LostError
from llmgateway.upstream.litellm.errors import Reading, calling, library_error, translating
from llmgateway.upstream.litellm.library import load_litellm

ACCOUNT = Account(name="main", provider="bedrock", wire="litellm", api_key="key-0042-plain")


@pytest.fixture
def litellm() -> Any:
    return load_litellm()


def _made(litellm: Any, name: str, message: str = "words", **fields: Any) -> Exception:
    kind = getattr(litellm.exceptions, name)
    error: Exception = kind(message=message, llm_provider="bedrock", model="m", **fields)
    return error


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("AuthenticationError", UpstreamAuthError, 502),
        ("RateLimitError", UpstreamRateLimitedError, 429),
        ("ContextWindowExceededError", ContextLengthError, 400),
        ("ContentPolicyViolationError", UpstreamRejectedError, 400),
        ("BadRequestError", UpstreamRejectedError, 400),
        ("NotFoundError", UpstreamRejectedError, 404),
        ("InternalServerError", UpstreamError, 502),
        ("ServiceUnavailableError", UpstreamError, 502),
        ("Timeout", UpstreamError, 502),
        ("UnsupportedParamsError", UnsupportedParameterError, 400),
    ],
)
def test_each_class_becomes_ours(litellm: Any, name: str, kind: type[GatewayError], status: int) -> None:
    error = library_error(_made(litellm, name), ACCOUNT)

    assert type(error) is kind
    assert error.status == status


def test_pitfall_056_the_providers_own_status_counts_not_the_class_that_was_guessed(litellm: Any) -> None:
    request = httpx.Request("POST", "http://10.0.0.1/x")
    response = httpx.Response(503, request=request, headers={"retry-after": "2"}, text='{"message": "busy, see 429"}')
    own = httpx.HTTPStatusError("503", request=request, response=response)
    guessed = _made(
        litellm, "RateLimitError", 'litellm.RateLimitError: BedrockException - {"message": "busy, see 429"}'
    )
    guessed.__cause__ = own

    error = library_error(guessed, ACCOUNT)

    assert type(error) is UpstreamError
    assert (error.upstream_status, error.message, error.retry_after_s) == (503, "busy, see 429", 2.0)


def test_what_an_attempt_before_ended_with_says_nothing_of_this_one(litellm: Any) -> None:
    """Python hangs it on what is raised while another deployment is asked, for want of the first."""

    def ask(name: str) -> None:
        with calling(ACCOUNT):
            raise _made(litellm, name)

    def ask_two() -> None:
        try:
            ask("AuthenticationError")
        except UpstreamAuthError:
            ask("RateLimitError")

    with pytest.raises(UpstreamRateLimitedError) as caught:
        ask_two()

    assert caught.value.upstream_status == 429


def test_a_message_is_the_providers_without_prefixes_secrets_and_the_prompt(litellm: Any) -> None:
    text = (
        "litellm.BadRequestError: BedrockException - no key-0042-plain at http://10.0.0.1/x\nReceived Messages=[secret]"
    )
    error = library_error(_made(litellm, "BadRequestError", text), ACCOUNT)

    assert error.message == "no [key removed] at [address removed]"


def test_advice_for_programmers_is_left_out(litellm: Any) -> None:
    text = "bedrock does not support parameters: ['seed'], for model=m. To drop these, set `litellm.drop_params=True`"
    error = library_error(_made(litellm, "UnsupportedParamsError", text), ACCOUNT)

    assert error.message == "bedrock does not support parameters: ['seed'], for model=m."


def test_a_fault_of_litellms_own_in_a_stream_shows_no_stack_trace(litellm: Any) -> None:
    text = "litellm.APIConnectionError: no attribute\nTraceback (most recent call last):\n  File x\n"
    error = _made(litellm, "MidStreamFallbackError", text)
    error.__cause__ = _made(litellm, "APIConnectionError", text)
    message = library_error(error, ACCOUNT).message

    assert message == "bedrock: the connection failed or the answer could not be read."


def test_our_own_errors_pass_through_every_translation() -> None:
    for place in (translating, Reading, calling):
        with pytest.raises(ProviderTimeoutError), place(ACCOUNT):
            raise ProviderTimeoutError("late")


def test_a_fault_in_the_translation_is_the_requests() -> None:
    with pytest.raises(InvalidRequestError, match="KeyError in its translation") as caught, translating(ACCOUNT):
        raise KeyError("secret prompt")

    assert "secret" not in caught.value.message


def test_a_fault_while_reading_is_a_broken_answer() -> None:
    with pytest.raises(UpstreamError, match="not in its own format") as caught, Reading(ACCOUNT):
        raise TypeError("whatever")
    assert caught.value.may_retry

    with pytest.raises(UpstreamError, match="the connection was lost"), Reading(ACCOUNT):
        raise LostError("cut")


def test_a_call_without_any_status_lost_its_connection() -> None:
    with pytest.raises(UpstreamError, match="connection failed") as caught, calling(ACCOUNT):
        raise httpx.ReadError("cut")

    assert caught.value.may_retry
