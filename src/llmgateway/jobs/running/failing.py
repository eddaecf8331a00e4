"""What a failure means for a job: wait and ask again, go on with another flavor, or end with its reason."""

from collections.abc import Mapping
from typing import Any

from llmgateway.documents.question import AnswerError, Failure
from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    KeysAwayError,
    LimitsAwayError,
    ModelNotFoundError,
    OverloadedError,
    ProviderTimeoutError,
    RateLimitedError,
    UnsupportedParameterError,
    UpstreamError,
    UpstreamRateLimitedError,
)
from llmgateway.exchange import Event
from llmgateway.jobs.work import Work
from llmgateway.routing.failover.causes import is_filtered
from llmgateway.storage.jobs.rows import JobFault

# Whatever ends the run of a flavor with a reason.
AskError = GatewayError | AnswerError
INVALID_OUTPUT = "invalid_output"

# A limit or a silence of this gateway itself: time heals it, and no other flavor would do better.
_WAITED_FOR = (RateLimitedError, OverloadedError, LimitsAwayError, KeysAwayError)
_MODEL_FAILED = (UpstreamError, ContextLengthError, UnsupportedParameterError, ModelNotFoundError)
_LEAST_S, _MOST_S = 1.0, 30.0
# How often an answer is gone on with that broke off while it was shown.
_MOST_BREAKS = 3
_LONGEST_REASON = 500


def failure_of(error: AskError) -> Failure | None:
    """Name the failure by which `failover_on` decides; `None`: another flavor would fail as well."""
    if isinstance(error, AnswerError):
        return error.kind
    if isinstance(error, ProviderTimeoutError):
        return "timeout"
    if isinstance(error, UpstreamRateLimitedError):
        return "rate_limit"
    if is_filtered(error):
        return "content_filter"
    return "model_error" if isinstance(error, _MODEL_FAILED) else None


def may_fail_over(work: Work, error: AskError) -> bool:
    """Whether the flavor that runs lets another one go on after this error, and there is one."""
    failure = failure_of(error)
    if failure is None or work.at + 1 >= len(work.recipes) or work.at >= work.recipes[0].settings.max_failover_depth:
        return False
    allowed: bool = getattr(work.recipe.settings.failover_on, failure)
    return allowed


def fault_of(error: AskError) -> JobFault:
    """Say why a job failed."""
    return JobFault(error.code, error.message)


def reason_of(error: AskError) -> str:
    """Say in a line why a flavor gave up."""
    return f"{error.code}: {error.message}"[:_LONGEST_REASON]


class Patience:
    """How long one call is waited for.

    Args:
        patience_s: Seconds in all, for what this gateway's own limits hold back.
    """

    def __init__(self, patience_s: float) -> None:
        self._left_s = patience_s
        self._tries = 0
        self._breaks = 0

    @property
    def tries(self) -> int:
        """How often it was tried in vain."""
        return self._tries

    def delay_s(self, error: GatewayError, *, begun: bool) -> float | None:
        """Give the seconds to wait before it is asked again; `None`: it is not.

        Args:
            begun: The answer broke off, and its beginning is shown already.
        """
        self._tries += 1
        delay_s = min(_LEAST_S * 2.0 ** (self._tries - 1), _MOST_S)
        if isinstance(error, _WAITED_FOR):
            delay_s = max(delay_s, error.retry_after_s or 0.0)
            self._left_s -= delay_s
            return delay_s if self._left_s >= 0 else None
        if not begun or self._breaks >= _MOST_BREAKS or not isinstance(error, UpstreamError | ProviderTimeoutError):
            return None
        self._breaks += 1
        return delay_s


def retry_event(tries: int, most: int | None, delay_s: float, error: GatewayError) -> dict[str, Any]:
    """Tell that a call waits to be tried again."""
    return _event("retry", tries, most, delay_s, error.code, error.message)


def failover_event(error: AskError, flavor: str, following: str) -> dict[str, Any]:
    """Tell that another flavor goes on."""
    message = f"The flavor {flavor} gave up ({error.message}); {following} goes on."
    return _event("failover", 1, None, 0.0, error.code, message)


def event_of(event: Event, tries: int, most: int | None) -> dict[str, Any] | None:
    """Tell of what the gateway does for a call; `None`: it is of no interest to those who watch the job."""
    told: Mapping[str, Any] = event.attributes
    cause = str(told.get("cause", ""))
    if event.name == "retry":
        delay_s = float(told.get("delay_s", 0.0))
        return _event("retry", tries, most, delay_s, cause, "The provider failed; it is asked again.")
    if event.name in {"failover", "fallback"}:
        message = f"{told.get('from', 'A provider')} failed; {told.get('to', 'another one')} is asked."
        return _event("failover", tries, most, 0.0, cause, message)
    return None


def _event(  # noqa: PLR0917  the fields of one object, in its order
    name: str, tries: int, most: int | None, delay_s: float, kind: str, message: str
) -> dict[str, Any]:
    told = {
        "attempt": tries,
        "max_attempts": most,
        "delay_seconds": round(delay_s, 3),
        "error_type": kind,
        "error_message": message[:_LONGEST_REASON],
    }
    return {"event_type": name, "retry_info": told}
