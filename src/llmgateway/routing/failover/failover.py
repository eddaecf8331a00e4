"""Failover: one deployment of a model after the other, until one answers or nobody is left who might."""

import time
from collections.abc import Awaitable, Sequence

from llmgateway.catalog.model import Deployment
from llmgateway.errors import ContextLengthError, GatewayError, NoHealthyDeploymentError, RateLimitedError
from llmgateway.exchange import Attempt, Call, Event, Exchange, Reply
from llmgateway.routing.attempt import Attempts
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.planner import ONLY, Planned
from llmgateway.routing.failover.causes import goes_on, worth_most
from llmgateway.routing.failover.patience import Patience
from llmgateway.routing.failover.race import CallOf, Kind, Race
from llmgateway.routing.health.begun import Begun


class Failover:
    """Carries out a plan. Nothing waits here: each deployment is asked once, the next one as soon as one has failed."""

    def __init__(self, attempts: Attempts, patience: Patience) -> None:
        self._attempts = attempts
        self._patience = patience

    def only(self, exchange: Exchange, call: Call, candidate: Candidate) -> Awaitable[Reply]:
        """Ask the one whom `Planner.only` gave: there is nobody to go on to, so its error is the call's."""
        exchange.route_reason = ONLY
        begun = self._attempts.begin(exchange, candidate.deployment, candidate.health)
        return self._attempts.send(exchange, begun, call)

    async def send(
        self,
        exchange: Exchange,
        call: Call,
        plan: Planned,
        *,
        place: int | None = None,
        forced: bool = False,
        call_of: CallOf | None = None,
    ) -> Reply:
        """Give the first answer.

        Args:
            place: The first to ask, in the plan's order, where its limits have let it; `None` asks them.
            forced: Ask somebody even if all of them rest.
            call_of: Gives the call as a deployment is to get it, where that is not the call itself.

        Raises:
            GatewayError: The one of all that were met which tells the client most.
        """
        attempts, patience = self._attempts, self._patience
        walk = _Walk(exchange, call, plan, forced=forced, call_of=call_of, attempts=attempts, patience=patience)
        if place is None:
            candidate = await walk.next()
        else:
            candidate = plan.order()[place] if place else plan.first()
            if candidate.health.until != 0.0 and not candidate.health.available(time.perf_counter()):
                # Another call has become the probe since the plan was made.
                candidate = await walk.next() or candidate
        if candidate is None:
            raise _nobody_left(plan.route.model.name[:200], limited=exchange.leave is not None)
        exchange.route_reason = plan.why(candidate)
        try:
            return await walk.ask(candidate)
        except GatewayError as error:
            return await walk.go_on(candidate, [error])


class _Walk:
    """One call on its way through a plan."""

    __slots__ = ("_attempts", "_call", "_call_of", "_exchange", "_forced", "_patience", "_plan")

    def __init__(
        self,
        exchange: Exchange,
        call: Call,
        plan: Planned,
        *,
        forced: bool,
        call_of: CallOf | None,
        attempts: Attempts,
        patience: Patience,
    ) -> None:
        self._exchange = exchange
        self._call = call
        self._plan = plan
        self._forced = forced
        self._call_of = call_of
        self._attempts = attempts
        self._patience = patience

    async def go_on(self, candidate: Candidate, errors: list[GatewayError]) -> Reply:
        """Ask the others after this one's error, if need be. Raises: GatewayError."""
        try:
            while True:
                if self._is_final(errors[-1]):
                    raise errors[-1]
                following = await self.next()
                if following is None:
                    raise worth_most(errors)
                self._tell(candidate, following, errors[-1])
                self._exchange.route_reason = f"{following.name}: {candidate.name} failed with {errors[-1].code}"
                candidate = following
                try:
                    return await self.ask(candidate)
                except GatewayError as later:
                    errors.append(later)
        finally:
            errors.clear()  # their tracebacks hold this frame: in a circle, the body would wait for the collector

    async def next(self) -> Candidate | None:
        """Find who is asked next; those with limits of their own are asked for room. `None` is nobody."""
        exchange = self._exchange
        untried = self._plan.untried(time.perf_counter())
        if not untried and self._forced and not self._plan.tried:
            untried = list(self._plan.order())
        untried = _with_more_room(untried, exchange.attempts)
        if not untried or exchange.leave is None:
            return untried[0] if untried else None
        place = await exchange.leave([one.deployment for one in untried])
        return None if place is None else untried[place]

    def ask(self, candidate: Candidate) -> Awaitable[Reply]:
        """Ask one, and another beside it where it takes too long. Raises: GatewayError."""
        exchange, plan = self._exchange, self._plan
        plan.tried.append(candidate)
        begun = self._attempts.begin(exchange, candidate.deployment, candidate.health)
        if len(plan.among) == len(plan.tried):
            return self._attempts.send(exchange, begun, self._call_for(candidate.deployment))
        patience_s = self._patience.seconds(plan.route, begun, plan.among, stream=self._call.stream)
        if patience_s is None:
            return self._attempts.send(exchange, begun, self._call_for(candidate.deployment))
        return Race(self._attempts, exchange, self._call_for, self._verdict, self._other).run(begun, patience_s)

    def _call_for(self, deployment: Deployment) -> Call:
        return self._call if self._call_of is None else self._call_of(deployment)

    def _verdict(self, begun: Begun) -> "Kind | float | None":
        plan = self._plan
        return self._patience.verdict(plan.route, plan.among, begun, stream=self._call.stream)

    async def _other(self, error: GatewayError | None) -> Begun | None:
        """Begin beside the first, or after the error of whoever was asked beside it."""
        if error is not None and self._is_final(error):
            return None
        before, candidate = self._plan.tried[-1], await self.next()
        if candidate is None:
            return None
        if error is not None:
            self._tell(before, candidate, error)
        self._plan.tried.append(candidate)
        return self._attempts.begin(self._exchange, candidate.deployment, candidate.health)

    def _is_final(self, error: GatewayError) -> bool:
        """Whether nobody else is asked after this error: the request itself is wrong, or its time is over."""
        return not goes_on(error) or self._exchange.is_late

    def _tell(self, before: Candidate, after: Candidate, error: GatewayError) -> None:
        told: dict[str, str | int | float | bool] = {"from": before.name, "to": after.name, "cause": error.code}
        self._exchange.note(Event("failover", time.perf_counter(), told))


def _nobody_left(name: str, *, limited: bool) -> GatewayError:
    if not limited:
        return NoHealthyDeploymentError(f"No other deployment of `{name}` is left.")
    return RateLimitedError(
        f"Every deployment of `{name}` is at a limit that the catalog sets for it.",
        details={"rule": "deployment"},
        retry_after_s=1.0,
    )


def _with_more_room(candidates: list[Candidate], attempts: Sequence[Attempt]) -> list[Candidate]:
    """Give those with a longer window than any that was too short, or one that nobody knows."""
    short = [one.deployment.context_length or 0 for one in attempts if one.outcome == ContextLengthError.code]
    if not short:
        return candidates
    windows = ((one, one.deployment.context_length) for one in candidates)
    return [one for one, window in windows if window is None or window > max(short)]
