"""What an error means for the way a call goes on: to the next deployment, to another model, or back to the client."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    ProviderTimeoutError,
    RateLimitedError,
    UnsupportedParameterError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)

Cause = Literal["any", "context", "content_filter", "rate_limit"]
_FILTERED = frozenset(
    {"content_filter", "content_policy_violation", "moderation", "moderation_blocked", "responsibleaipolicyviolation"}
)


def goes_on(error: GatewayError) -> bool:
    """Whether another deployment of the same model may do better: not where the request itself is wrong."""
    if isinstance(error, UpstreamRejectedError):
        return error.may_retry or (error.status == HTTPStatus.NOT_FOUND and not is_filtered(error))
    return isinstance(error, UpstreamError | ProviderTimeoutError | ContextLengthError | UnsupportedParameterError)


def cause_of(error: GatewayError) -> Cause | None:
    """Name the list of fallbacks that an error asks for; `None` when another model would not help either."""
    if isinstance(error, ContextLengthError):
        return "context"
    if is_filtered(error):
        return "content_filter"
    if isinstance(error, UpstreamRateLimitedError | RateLimitedError):
        return "rate_limit"
    if goes_on(error) or (error.details or {}).get("filter") == "capability":
        return "any"
    return None


def is_filtered(error: GatewayError) -> bool:
    """Whether a provider's moderation refused the text."""
    return isinstance(error, UpstreamRejectedError) and error.code.lower() in _FILTERED


def worth_most(errors: Sequence[GatewayError]) -> GatewayError:
    """Choose the error that the client is told: rather one that time heals, and soon, than one that it does not."""
    return max(errors, key=_worth)


def _worth(error: GatewayError) -> tuple[bool, bool, float]:
    may_retry = isinstance(error, UpstreamError) and error.may_retry
    return may_retry, isinstance(error, ProviderTimeoutError), -(error.retry_after_s or 0.0)
