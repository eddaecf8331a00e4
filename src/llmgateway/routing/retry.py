"""Retry: the same again, after a failure that time may heal, when nobody is left who could be asked at once.

The first round runs outside tenacity, which costs more than the rest of this room together and is entered only after
a failure. Delays are exponential with full jitter (Marc Brooker, "Exponential Backoff And Jitter", 2015), never shorter
than the provider's Retry-After; a delay that would pass the deadline is not waited for.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from llmgateway.errors import GatewayError, UpstreamError
from llmgateway.exchange import Event, Exchange, Reply

# A call without a deadline of its own must not sleep for as long as a provider likes.
_LONGEST_WAIT_S = 600.0
# Asks whoever may be asked, once more.
Round = Callable[[], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often after the first try, and how long in between (seconds); each delay is `factor` times the one before."""

    max_retries: int = 2
    min_delay_s: float = 0.5
    max_delay_s: float = 30.0
    factor: float = 2.0
    jitter: bool = True


class Retry:
    """Asks again until somebody answers, all refuse for good, or the policy or the deadline says stop.

    Args:
        for_jobs: For calls that nobody holds a line for; `None` is the same.
    """

    def __init__(self, policy: RetryPolicy, for_jobs: RetryPolicy | None = None) -> None:
        self._policy = policy
        self._for_jobs = for_jobs or policy

    async def after(self, exchange: Exchange, error: GatewayError, ask: Round) -> Reply:
        """Ask again after an error, where that may help. Raises: the last round's error."""
        try:
            policy = self._for_jobs if exchange.for_job else self._policy
            if not isinstance(error, UpstreamError) or not error.may_retry or policy.max_retries < 1:
                raise error
            return await self._again(exchange, ask, error, policy)
        finally:
            del error  # its traceback holds this frame: in a circle, the body would wait for the collector

    async def _again(self, exchange: Exchange, ask: Round, first: UpstreamError, policy: RetryPolicy) -> Reply:
        failures = [first]

        async def again() -> Reply:
            if failures:
                raise failures.pop()
            return await ask()

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            cause = error.code if isinstance(error, GatewayError) else "unknown"
            told: dict[str, str | int | float | bool] = {"cause": cause, "delay_s": state.upcoming_sleep}
            told |= {"attempt": state.attempt_number, "max_attempts": policy.max_retries + 1}
            exchange.note(Event("retry", time.perf_counter(), told))

        def over(state: RetryCallState) -> bool:
            late = exchange.deadline is not None and time.perf_counter() + state.upcoming_sleep >= exchange.deadline
            return late or stop_after_attempt(policy.max_retries + 1)(state)

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, UpstreamError) and error.may_retry),
            wait=partial(delay_s, policy),
            stop=over,
            before_sleep=tell,
            reraise=True,
        )
        try:
            return await retrying(again)
        except GatewayError as error:
            raise error.with_traceback(None) from error.__cause__
        finally:
            # Tenacity holds the errors, their tracebacks hold its frames, and those what is left to do: in a circle,
            # the body would wait for the collector.
            first.__traceback__ = None
            retrying.iter_state.reset()
            del first


def delay_s(policy: RetryPolicy, state: RetryCallState) -> float:
    """Seconds to wait before the next attempt."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = (error.retry_after_s if isinstance(error, GatewayError) else None) or 0.0
    asked_s = min(asked_s, _LONGEST_WAIT_S)
    wait_s = min(policy.max_delay_s, policy.min_delay_s * policy.factor ** (state.attempt_number - 1))
    # All who were told the same time would come back at once, so that is spread as well.
    return asked_s + random.uniform(0.0, wait_s) if policy.jitter else max(asked_s, wait_s)
