import pytest

from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    InvalidRequestError,
    MaxCostError,
    NoHealthyDeploymentError,
    PermissionDeniedError,
    ProviderTimeoutError,
    UnsupportedParameterError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.routing.failover.causes import cause_of, goes_on, worth_most

CASES = [
    (UpstreamError("down"), True, "any"),
    (ProviderTimeoutError("late"), True, "any"),
    (UpstreamAuthError("no"), True, "any"),
    (UpstreamQuotaError("empty"), True, "any"),
    (NoHealthyDeploymentError("all rest"), True, "any"),
    (UnsupportedParameterError("no such parameter"), True, "any"),
    (UpstreamRateLimitedError("slow down"), True, "rate_limit"),
    (ContextLengthError("long"), True, "context"),
    (UpstreamRejectedError("no model", upstream_status=404), True, "any"),
    (UpstreamRejectedError("filtered", upstream_status=400, code="content_filter"), False, "content_filter"),
    (UpstreamRejectedError("", upstream_status=400, code="ResponsibleAIPolicyViolation"), False, "content_filter"),
    (UpstreamRejectedError("bad", upstream_status=400), False, None),
    (UpstreamRejectedError("odd", upstream_status=422), False, None),
    (InvalidRequestError("no images", details={"filter": "capability"}), False, "any"),
    (InvalidRequestError("bad"), False, None),
    (PermissionDeniedError("sensitive"), False, None),
    (MaxCostError("dear"), False, None),
]


@pytest.mark.parametrize(("error", "on", "cause"), CASES)
def test_what_an_error_means(error: GatewayError, on: bool, cause: str | None) -> None:
    assert goes_on(error) is on
    assert cause_of(error) == cause


def test_of_several_errors_the_one_is_told_that_time_heals_soonest() -> None:
    never = UpstreamAuthError("no")
    late = ProviderTimeoutError("late")
    soon = UpstreamError("down", may_retry=True)
    in_a_minute = UpstreamRateLimitedError("slow down", may_retry=True, retry_after_s=60)

    assert worth_most([soon, in_a_minute, late, never]) is soon
    assert worth_most([in_a_minute, late, never]) is in_a_minute
    assert worth_most([never, late]) is late
    assert worth_most([never]) is never
