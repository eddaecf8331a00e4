"""One deployment's health: a circuit that opens after failures, rests that providers ask for, and what is in flight.

Closed, it is asked as its strategy says. Failures open it: then it rests, a little longer each time; after its rest it
is half open, and one call is the probe that closes it or opens it again. Who comes back is given its share of calls bit
by bit. Rate limits make it rest for as long as the provider says, refused keys and empty accounts for long.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from llmgateway.routing.health.pace import Pace

Cause = Literal["failures", "rate_limit", "auth", "quota"]
State = Literal["closed", "half_open", "open"]
Change = Literal["opened", "closed"]


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When deployments rest, and how long (seconds).

    Args:
        failures_in_a_row: So many open the circuit.
        failed_share: So does this share of the last half minute's calls, when there were at least `least_calls`.
        rest_s: After the circuit opened first; twice as long after each failed probe, `longest_rest_s` at most.
        rate_limit_rest_s: After a 429 that names no time; twice as long each time, `longest_rate_limit_rest_s` at most.
        probe_s: The one call that tries a half-open deployment has so long before another one may.
        warm_s: In this time after its return a deployment's share grows from a tenth to all of it.
    """

    failures_in_a_row: int = 5
    failed_share: float = 0.5
    least_calls: int = 10
    rest_s: float = 1.0
    longest_rest_s: float = 5.0
    rate_limit_rest_s: float = 1.0
    longest_rate_limit_rest_s: float = 8.0
    longest_asked_rest_s: float = 600.0
    auth_rest_s: float = 600.0
    quota_rest_s: float = 300.0
    warm_s: float = 3.0
    probe_s: float = 10.0


_COUNTED_S = 30.0
_FIRST_SHARE = 0.1
_SAME_REST_S = 1.0


class Health:
    """What this process knows of a deployment. Every `now` is `time.perf_counter` seconds.

    Args:
        id: The same in every process: the account, the model, and a digest of address and key.
        changed: Told when it opens (again) or closes.

    Args of the state: `failed_share` is how many of the recent calls failed, 0 to 1; few calls say little.
    """

    __slots__ = (
        *("_calls", "_changed", "_counted_at", "_failures", "_policy", "_probes", "_probing_until", "_rests"),
        *("account", "cause", "changed_at", "failed_share", "heard_at", "id", "in_a_row", "inflight", "model"),
        *("probing", "streamed", "until", "warm_from", "whole"),
    )

    def __init__(
        self,
        id: str,  # noqa: A002  its name wherever it is told
        account: str,
        model: str,
        policy: HealthPolicy,
        changed: Callable[["Health", Change], None],
    ) -> None:
        self.id = id
        self.account = account
        self.model = model
        self.inflight = 0
        # 0: closed. Later than now: open. Passed: half open, or closed again after a rate limit.
        self.until = 0.0
        self.cause: Cause | None = None
        self.probing = 0  # the number of the call that tries it
        self.in_a_row = 0
        self.failed_share = 0.0
        self.heard_at = -math.inf
        self.changed_at = -math.inf
        self.warm_from = -math.inf
        self.streamed = Pace()
        self.whole = Pace()
        self._policy = policy
        self._changed = changed
        self._calls = 0.0
        self._failures = 0.0
        self._counted_at = 0.0
        self._rests = 0
        self._probes = 0
        self._probing_until = 0.0

    def state(self, now: float) -> State:
        """The circuit's state; a rest that a rate limit asked for shows as open."""
        if self.until == 0.0:
            return "closed"
        if self.until > now:
            return "open"
        return "closed" if self.cause == "rate_limit" else "half_open"

    def available(self, now: float) -> bool:
        """Whether it may be asked: closed, or half open and nobody is probing it."""
        if self.until == 0.0:
            return True
        return self.until <= now and (self.cause == "rate_limit" or self._may_probe(now))

    def is_due(self, now: float) -> bool:
        """Whether the next call would be the probe."""
        return self.until != 0.0 and self.until <= now and self.cause != "rate_limit" and self._may_probe(now)

    def share(self, now: float) -> float:
        """What part of its usual calls it is to get: less than 1 for some seconds after its return."""
        # After a rate limit nobody probes: its share grows from the end of the rest.
        since_s = now - (self.until or self.warm_from)
        warm_s = self._policy.warm_s
        return 1.0 if since_s >= warm_s else _FIRST_SHARE + (1.0 - _FIRST_SHARE) * max(0.0, since_s) / warm_s

    @property
    def rests(self) -> int:
        """How often it has rested since it was last well."""
        return self._rests

    def pace(self, *, stream: bool) -> Pace:
        """How fast it answers calls of this kind."""
        return self.streamed if stream else self.whole

    def begin(self, now: float) -> int:
        """Note that a call begins. Gives the number of the probe that it is; 0 is none."""
        self.inflight += 1
        return 0 if self.until == 0.0 else self._tried(now)

    def _tried(self, now: float) -> int:
        if not self.is_due(now):
            return 0
        self._probes += 1
        self.probing, self._probing_until = self._probes, now + self._policy.probe_s
        return self.probing

    def end(self) -> None:
        """Note that a call is over, once for each that began."""
        self.inflight -= 1

    def answered(self, now: float, began: float, *, stream: bool, probe: int = 0) -> None:
        """Note that an answer came, or a stream's first event."""
        if began >= self.changed_at:
            (self.streamed if stream else self.whole).add(now, now - began)
            if self._failures:
                self._count(now, 0.0)
            else:
                self._calls = self._calls * math.exp((self._counted_at - now) / _COUNTED_S) + 1.0
                self._counted_at = now
            if self.until == 0.0 and probe == 0:  # as usual
                self.heard_at, self.in_a_row = now, 0
                return
        self.well(now, began, probe=probe)

    def well(self, now: float, began: float, *, probe: int = 0) -> None:
        """Note that it works, though it may have refused: what the client asked was wrong, not the deployment."""
        self.heard_at = now
        if not self._is_current(probe) and began < self.changed_at:
            return
        if self.until == 0.0:
            self.in_a_row = 0
        elif self.until <= now or self.cause != "rate_limit":
            self._close(now)

    def failed(
        self,
        now: float,
        began: float,
        cause: Cause,
        *,
        rest_s: float | None = None,
        probe: int = 0,
        midway: bool = False,
    ) -> None:
        """Note a failure that was the deployment's.

        Args:
            began: When the call began: what began before the circuit last changed says nothing about it now.
            rest_s: How long the provider asks to be left alone.
            midway: Whether it had answered before, and so was counted as a call.
        """
        self._is_current(probe)
        if rest_s is not None and rest_s <= 0.0:
            rest_s = None  # who is asked again at once says nothing of when it is well
        is_news = began >= self.changed_at
        if is_news and cause == "failures":
            self._failed(now, rest_s, midway=midway)
        elif cause != "failures" and (is_news or cause != self.cause):
            self._rest(now, cause, self._rest_s(cause, rest_s))
        elif rest_s is not None and cause == self.cause:
            self._rest_on(now, rest_s)

    def left(self, *, probe: int) -> None:
        """Note that a call was given up, which says nothing: its client left, or another was faster."""
        self._is_current(probe)

    def silent(self, now: float, began: float, *, probe: int = 0) -> None:
        """Note that a call was given up because nothing at all had come from here since it began."""
        if self.heard_at < began:
            self.failed(now, began, "failures", probe=probe)
        else:
            self.left(probe=probe)

    def rest_until(self, now: float, until: float, cause: Cause) -> None:
        """Rest as another process says that shares this deployment; nobody is told again."""
        if until > max(now, self.until):
            self.until, self.cause, self.changed_at, self.probing = until, cause, now, 0

    def close_too(self, now: float) -> None:
        """Close as another process says that shares this deployment; nobody is told again."""
        if self.until != 0.0:
            self._closed(now)

    def due_now(self, now: float) -> None:
        """End its rest, so that the next call tries it: it was found to live. Rests that providers ask for go on."""
        if self.until > now and self.cause in {"failures", "auth"}:
            self.until = now

    def _may_probe(self, now: float) -> bool:
        """Whether nobody is trying it; a call that has been at it for long does not keep others from it."""
        return self.probing == 0 or self._probing_until <= now

    def _is_current(self, probe: int) -> bool:
        """Whether a call is the probe that counts; from here on it is over."""
        if probe == 0 or probe != self.probing:
            return False
        self.probing = 0
        return True

    def _failed(self, now: float, rest_s: float | None, *, midway: bool) -> None:
        self._count(now, 1.0, calls=0.0 if midway else 1.0)
        self.in_a_row += 1
        if self.until > now and self.cause != "rate_limit" and rest_s is None:
            return  # somebody asked all the same: it rests as long as it does
        if rest_s is not None:
            self._rest(now, "failures", min(rest_s, self._policy.longest_asked_rest_s))
        elif (self.until != 0.0 and self.cause != "rate_limit") or self._is_too_much():
            self._rest(now, "failures", self._next_rest_s())

    def _close(self, now: float) -> None:
        self._closed(now)
        self._changed(self, "closed")

    def _closed(self, now: float) -> None:
        warm_from = now
        if self.cause == "failures":
            self.streamed.forget()
            self.whole.forget()
        elif self.cause == "rate_limit":
            warm_from = min(self.until, now)
        self.until, self.cause, self.probing = 0.0, None, 0
        self.in_a_row = self._rests = 0
        self._calls = self._failures = self.failed_share = 0.0
        self.changed_at, self.warm_from = now, warm_from

    def _rest(self, now: float, cause: Cause, rest_s: float) -> None:
        until = now + rest_s
        if until <= self.until:
            return  # it rests longer already
        self._rests += 1
        self.until, self.cause, self.changed_at = until, cause, now
        self._changed(self, "opened")

    def _rest_on(self, now: float, asked_s: float) -> None:
        """Rest on when a call says so that began before: it is the same rest, not one more, however many say it."""
        until, before = now + min(asked_s, self._policy.longest_asked_rest_s), self.until
        if until > before:
            self.until = until
            if until - before > _SAME_REST_S:
                self._changed(self, "opened")

    def _rest_s(self, cause: Cause, asked_s: float | None) -> float:
        policy = self._policy
        if cause == "auth":
            return policy.auth_rest_s
        if cause == "quota":
            return policy.quota_rest_s
        if asked_s is not None:
            return min(asked_s, policy.longest_asked_rest_s)
        return min(policy.longest_rate_limit_rest_s, policy.rate_limit_rest_s * 2.0 ** min(self._rests, 10))

    def _next_rest_s(self) -> float:
        rest_s = min(self._policy.longest_rest_s, self._policy.rest_s * 2.0 ** min(self._rests, 10))
        return rest_s * random.uniform(0.9, 1.0)  # so that many who share it do not come back at once

    def _count(self, now: float, failed: float, calls: float = 1.0) -> None:
        kept = math.exp((self._counted_at - now) / _COUNTED_S)
        self._calls = self._calls * kept + calls
        self._counted_at = now
        self._failures = self._failures * kept + failed
        self.failed_share = self._failures / max(self._calls, self._policy.least_calls)

    def _is_too_much(self) -> bool:
        policy = self._policy
        if self.in_a_row >= policy.failures_in_a_row:
            return True
        return self._calls >= policy.least_calls and self._failures >= self._calls * policy.failed_share
