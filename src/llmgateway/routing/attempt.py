"""One try at one deployment: its upstream, its time limits, and its line in the exchange."""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from llmgateway.catalog.model import Deployment, Wire
from llmgateway.errors import GatewayError, ProviderTimeoutError
from llmgateway.exchange import Attempt, Call, Exchange, Reply, Streamed, Usage
from llmgateway.routing.charge import Charge
from llmgateway.routing.expected import expected_usage
from llmgateway.routing.failover.opening import check_whole, opened
from llmgateway.routing.health.begun import Begun
from llmgateway.routing.health.health import Health
from llmgateway.routing.heard import Heard
from llmgateway.routing.limit import TimeLimit
from llmgateway.routing.meter import MeteredChunks
from llmgateway.telemetry.traces.context import new_span_id, outgoing
from llmgateway.upstream.base import Upstream
from llmgateway.wire.sse import WholeStream
from llmgateway.wire.texts import text_of_answer


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds: until a stream's first event, between two of its events, and for a request that names no time."""

    first_token_s: float = 300.0
    idle_s: float = 60.0
    request_s: float = 590.0


class Attempts:
    """Makes attempts; shared by retry, failover and hedging.

    Args:
        charge: Notes what an answer used and cost.
        propagate: Tell upstreams of OpenAI's wire which trace a call belongs to.
    """

    def __init__(
        self,
        upstreams: Mapping[Wire, Upstream],
        limits: TimeLimits,
        *,
        charge: Charge,
        propagate: bool = False,
    ) -> None:
        self._upstreams = upstreams
        self._limits = limits
        self._charge = charge
        self._propagate = propagate
        self._resting: list[TimeLimit] = []

    def begin(self, exchange: Exchange, deployment: Deployment, health: Health) -> Begun:
        """Write down that a deployment is asked; `send` asks it."""
        attempt = Attempt(deployment, time.perf_counter())
        exchange.attempts.append(attempt)
        exchange.provider, exchange.upstream_model = deployment.account.name, deployment.model
        return Begun(attempt, health)

    async def send(self, exchange: Exchange, begun: Begun, call: Call) -> Reply:
        """Ask a deployment once. A stream counts as answered when its first word is there.

        Raises:
            ProviderTimeoutError: The first token, the account's or the request's time is over.
            UpstreamError: As the upstream says.
        """
        deployment = begun.attempt.deployment
        account = deployment.account
        if self._propagate:
            call = _traced(call, exchange, begun.attempt)
        limit = self._limit(exchange, begun, call)
        try:
            reply = await self._upstreams[account.wire].send(deployment, call)
            if isinstance(reply, Streamed):
                chunks, usage = reply.chunks, reply.usage
                if isinstance(chunks, WholeStream) and usage is not None:
                    check_whole(chunks.events, account.provider)
                    return self._ended(exchange, begun, reply, chunks.events, usage)
                reply.chunks = await opened(chunks, account.provider)
                return self._metered(exchange, begun, call, reply)
        except asyncio.CancelledError:
            self._cancelled(exchange, begun, call, limit.cancelled())
            raise
        except GatewayError as error:
            begun.refused(error)
            raise
        except BaseException:
            begun.left()
            raise
        finally:
            limit.rest(self._resting)
        begun.answered(stream=False)
        if reply.usage is None:
            reply.usage = await self._charge.counted(call, text_of_answer(reply.body), deployment)
        self._charge.add(exchange, deployment, reply.usage)
        return reply

    def _metered(self, exchange: Exchange, begun: Begun, call: Call, reply: Streamed) -> Streamed:
        begun.answered(stream=True)
        idle_s = self._limits.idle_s
        reply.chunks = MeteredChunks(reply, call, begun, exchange, idle_s=idle_s, charge=self._charge)
        return reply

    def _ended(self, exchange: Exchange, begun: Begun, reply: Streamed, events: bytes, usage: Usage) -> Streamed:
        """Note a stream that has come whole; one whose usage must be counted takes its time, and is metered."""
        begun.answered(stream=True)
        begun.end("ok")
        reply.heard = heard = Heard()
        heard.append(events)
        self._charge.add(exchange, begun.attempt.deployment, usage)
        return reply

    def _cancelled(self, exchange: Exchange, begun: Begun, call: Call, late: ProviderTimeoutError | None) -> None:
        """Write down an attempt that was cancelled. Raises: ProviderTimeoutError: It was the time limit's doing."""
        usage = expected_usage(call, begun.attempt.deployment)
        if begun.beaten:
            begun.superseded()
            # Its answer was cut off at once: what it had read is paid for, of what it would have said next to nothing.
            usage.completion_tokens = 0
        elif late is None:
            begun.left()
        else:
            begun.late(late, counts=self._is_own(begun, call))
        # The provider may have answered it whole by now: a client that leaves each time must not call for nothing.
        self._charge.add(exchange, begun.attempt.deployment, usage)
        try:
            if late is not None:
                raise late from None
        finally:
            late = None  # its traceback holds this frame: in a circle, both would wait for the collector

    def _limit(self, exchange: Exchange, begun: Begun, call: Call) -> TimeLimit:
        """Begin the limit of an attempt: its own, or the end of the request's time if that comes first."""
        attempt = begun.attempt
        due = math.inf if exchange.deadline is None else exchange.deadline
        own_s = attempt.deployment.account.timeout_s
        if call.stream:
            own_s = self._first_s(own_s)
        if own_s is not None and attempt.started + own_s < due:
            due = attempt.started + own_s
        begun.due = due
        if not self._resting:
            return TimeLimit(due - time.perf_counter(), begun.verdict)
        limit = self._resting.pop()
        limit.set(due, begun.verdict)
        return limit

    def _first_s(self, own_s: float | None) -> float:
        """Give the seconds until a stream's first event."""
        first_s = self._limits.first_token_s
        return first_s if own_s is None or first_s < own_s else own_s

    def _is_own(self, begun: Begun, call: Call) -> bool:
        """Whether it says something of a deployment that it was late: not where the client is in haste."""
        attempt = begun.attempt
        own_s = attempt.deployment.account.timeout_s
        if call.stream:
            own_s = self._first_s(own_s)
        if own_s is not None and begun.due >= attempt.started + own_s:
            return True
        return begun.due - attempt.started >= self._limits.request_s / 2


def _traced(call: Call, exchange: Exchange, attempt: Attempt) -> Call:
    if exchange.trace is None:
        return call
    attempt.span_id = new_span_id()
    return msgspec.structs.replace(call, trace_headers=outgoing(exchange.trace, attempt.span_id))
