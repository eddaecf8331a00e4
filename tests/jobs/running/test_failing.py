"""What a failure means for a job."""

import pytest

from llmgateway.documents.question import AnswerError, Failure
from llmgateway.errors import (
    BudgetSpentError,
    ContextLengthError,
    LimitsAwayError,
    MaxCostError,
    ModelNotFoundError,
    OverloadedError,
    ProviderTimeoutError,
    RateLimitedError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Event
from llmgateway.jobs.running.failing import AskError, Patience, event_of, failure_of, fault_of, reason_of


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ProviderTimeoutError("slow"), "timeout"),
        (UpstreamRateLimitedError("busy"), "rate_limit"),
        (UpstreamRejectedError("no", upstream_status=400, code="content_filter"), "content_filter"),
        (UpstreamRejectedError("no", upstream_status=400), "model_error"),
        (UpstreamError("down"), "model_error"),
        (ContextLengthError("long"), "model_error"),
        (ModelNotFoundError("gone"), "model_error"),
        (AnswerError("content_filter", "refused", "No."), "content_filter"),
        (AnswerError("model_error", "empty_answer", "Nothing."), "model_error"),
        (BudgetSpentError("spent"), None),
        (MaxCostError("dear"), None),
        (RateLimitedError("ours"), None),
    ],
)
def test_each_failure_has_the_name_that_a_flavor_decides_by(error: AskError, failure: Failure | None) -> None:
    assert failure_of(error) == failure


def test_the_reason_is_that_of_the_error() -> None:
    error = AnswerError("model_error", "empty_answer", "The model answered with nothing.")

    assert (fault_of(error).code, fault_of(error).message) == ("empty_answer", "The model answered with nothing.")
    assert reason_of(UpstreamError("x" * 9000)).startswith("provider_unavailable: xxx")
    assert len(reason_of(UpstreamError("x" * 9000))) == 500


def test_a_limit_of_this_gateway_is_waited_for_as_long_as_it_says_up_to_fifteen_minutes() -> None:
    patience = Patience(900)

    assert patience.delay_s(RateLimitedError("full", retry_after_s=400), begun=False) == 400
    assert patience.delay_s(RateLimitedError("full", retry_after_s=400), begun=False) == 400
    assert patience.delay_s(RateLimitedError("full", retry_after_s=400), begun=False) is None
    assert patience.tries == 3


def test_without_a_time_it_waits_longer_each_time() -> None:
    patience = Patience(900)
    errors = [OverloadedError("full"), LimitsAwayError("away")] * 4

    assert [patience.delay_s(error, begun=False) for error in errors] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_failure_of_the_provider_was_waited_for_already_unless_it_broke_off() -> None:
    patience, broken = Patience(900), UpstreamError("broken")

    assert Patience(900).delay_s(broken, begun=False) is None
    assert [patience.delay_s(broken, begun=True) for _ in range(4)] == [1, 2, 4, None]
    assert Patience(900).delay_s(BudgetSpentError("spent"), begun=True) is None


def test_what_the_gateway_does_for_a_call_is_told() -> None:
    retry = event_of(Event("retry", 0.0, {"cause": "provider_timeout", "delay_s": 1.23456}), 2, 7)
    fallback = event_of(Event("fallback", 0.0, {"from": "a", "to": "b", "cause": "x"}), 1, None)

    assert retry == {
        "event_type": "retry",
        "retry_info": {
            "attempt": 2,
            "max_attempts": 7,
            "delay_seconds": 1.235,
            "error_type": "provider_timeout",
            "error_message": "The provider failed; it is asked again.",
        },
    }
    assert fallback is not None
    assert (fallback["event_type"], fallback["retry_info"]["error_message"]) == ("failover", "a failed; b is asked.")
    assert event_of(Event("cache_hit", 0.0), 1, None) is None
