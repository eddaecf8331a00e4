"""Retry: the same deployment again, after a failure that time may heal.

The first attempt runs outside tenacity, which costs more than the rest of this room together and is entered only after
a failure. Delays are exponential with full jitter (Marc Brooker, "Exponential Backoff And Jitter", 2015), never shorter
than the provider's Retry-After; a delay that would pass the deadline is not waited for.
"""

import random
import time
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from llmgateway.catalog.model import Deployment
from llmgateway.errors import GatewayError, UpstreamError
from llmgateway.exchange import Call, Event, Exchange, Reply
from llmgateway.routing.attempt import Attempts

# A call without a deadline of its own must not sleep for as long as a provider likes.
_LONGEST_WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often after the first try, and how long in between (seconds); each delay is `factor` times the one before."""

    max_retries: int = 2
    min_delay_s: float = 0.5
    max_delay_s: float = 30.0
    factor: float = 2.0
    jitter: bool = True


class Retry:
    """Asks a deployment until it answers, refuses for good, or the policy or the deadline says stop."""

    def __init__(self, attempts: Attempts, policy: RetryPolicy) -> None:
        self._attempts = attempts
        self._policy = policy

    async def send(self, exchange: Exchange, deployment: Deployment, call: Call) -> Reply:
        """Ask, again where that may help. Raises: the last attempt's error."""
        try:
            return await self._attempts.send(exchange, deployment, call)
        except UpstreamError as error:
            if not error.may_retry or self._policy.max_retries < 1:
                raise
            return await self._again(exchange, deployment, call, error)

    async def _again(self, exchange: Exchange, deployment: Deployment, call: Call, first: UpstreamError) -> Reply:
        failures: list[GatewayError] = [first]

        async def ask() -> Reply:
            if failures:
                raise failures.pop()
            return await self._attempts.send(exchange, deployment, call)

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            cause = error.code if isinstance(error, GatewayError) else "unknown"
            told: dict[str, str | int | float | bool] = {"cause": cause, "delay_s": state.upcoming_sleep}
            exchange.events.append(Event("retry", time.perf_counter(), told))

        def over(state: RetryCallState) -> bool:
            late = exchange.deadline is not None and time.perf_counter() + state.upcoming_sleep >= exchange.deadline
            return late or stop_after_attempt(self._policy.max_retries + 1)(state)

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, UpstreamError) and error.may_retry),
            wait=self.delay_s,
            stop=over,
            before_sleep=tell,
            reraise=True,
        )
        return await retrying(ask)

    def delay_s(self, state: RetryCallState) -> float:
        """Seconds to wait before the next attempt."""
        error = state.outcome.exception() if state.outcome else None
        asked_s = (error.retry_after_s if isinstance(error, GatewayError) else None) or 0.0
        asked_s = min(asked_s, _LONGEST_WAIT_S)
        policy = self._policy
        delay_s = min(policy.max_delay_s, policy.min_delay_s * policy.factor ** (state.attempt_number - 1))
        return max(asked_s, random.uniform(0.0, delay_s) if policy.jitter else delay_s)
