"""An attempt that runs: how it ends is told once, to its line in the exchange and to its deployment's health."""

import math
import time

from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    ProviderTimeoutError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Attempt
from llmgateway.routing.health.health import Health


class Begun:
    """An attempt and the health of its deployment.

    Args of the state: `beaten` is set by whoever asked another deployment beside it and has its answer; `due` is when
    its time is over, in `time.perf_counter` seconds.
    """

    __slots__ = ("_probe", "attempt", "beaten", "due", "health", "silence_counts")

    def __init__(self, attempt: Attempt, health: Health) -> None:
        self.attempt = attempt
        self.health = health
        self.beaten = False
        self.due = math.inf
        # Whether it says something of its deployment that it was beaten without a word from it.
        self.silence_counts = False
        self._probe = health.begin(attempt.started)

    @property
    def is_probe(self) -> bool:
        """Whether it is the one call that a half-open circuit lets pass."""
        return self._probe != 0

    def verdict(self) -> str:
        """Say what is wrong when its time is over; as `TimeLimit` asks for it."""
        after_s = max(0.0, self.due - self.attempt.started)
        return f"{self.attempt.deployment.account.provider} did not answer within {after_s:.3g} s."

    def answered(self, *, stream: bool) -> None:
        """Note that a whole answer is there, which is the end, or a stream's first event."""
        now, attempt, health = time.perf_counter(), self.attempt, self.health
        health.answered(now, attempt.started, stream=stream, probe=self._probe and self._probed())
        if stream:
            attempt.first_chunk = now
        elif attempt.ended is None:
            attempt.ended, attempt.outcome = now, "ok"
            health.end()

    def refused(self, error: GatewayError) -> None:
        """Note the error that it ended with, before or after its first event."""
        if self.attempt.ended is not None:
            return
        attempt, health, now = self.attempt, self.health, time.perf_counter()
        attempt.upstream_status = getattr(error, "upstream_status", None)
        probe = self._probed()
        if isinstance(error, UpstreamRateLimitedError):
            health.failed(now, attempt.started, "rate_limit", rest_s=error.retry_after_s, probe=probe)
        elif isinstance(error, UpstreamAuthError):
            health.failed(now, attempt.started, "auth", probe=probe)
        elif isinstance(error, UpstreamQuotaError):
            health.failed(now, attempt.started, "quota", probe=probe)
        elif isinstance(error, UpstreamRejectedError | ContextLengthError):
            health.well(now, attempt.started, probe=probe)
        elif isinstance(error, UpstreamError | ProviderTimeoutError):
            midway, rest_s = attempt.first_chunk is not None, error.retry_after_s
            health.failed(now, attempt.started, "failures", rest_s=rest_s, probe=probe, midway=midway)
        else:  # it never went out, such as a parameter that nobody there has
            health.left(probe=probe)
        self.end(error.code)

    def late(self, error: ProviderTimeoutError, *, counts: bool) -> None:
        """Note that its time is over; it `counts` unless the client allowed too little."""
        if counts:
            self.refused(error)
        else:
            self._let_go(error.code)

    def left(self) -> None:
        """Note that it was given up: the client left, or something else went wrong here."""
        self._let_go("cancelled")

    def superseded(self) -> None:
        """Note that another deployment was faster."""
        if self.silence_counts and self.attempt.ended is None:
            self.health.silent(time.perf_counter(), self.attempt.started, probe=self._probed())
        self._let_go("superseded")

    def end(self, outcome: str) -> None:
        """Write down how it ended, once."""
        attempt = self.attempt
        if attempt.ended is None:
            attempt.ended, attempt.outcome = time.perf_counter(), outcome
            self.health.end()

    def _let_go(self, outcome: str) -> None:
        if self.attempt.ended is None:
            self.health.left(probe=self._probed())
            self.end(outcome)

    def _probed(self) -> int:
        """Give the number of the probe that it is, for its verdict, which is given once."""
        probe, self._probe = self._probe, 0
        return probe
