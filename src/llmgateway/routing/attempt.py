"""One try at one deployment: its upstream, its time limits, and its line in the exchange."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from llmgateway.catalog.model import Deployment, Wire
from llmgateway.errors import GatewayError
from llmgateway.exchange import Attempt, Call, Exchange, Reply, Streamed
from llmgateway.routing.charge import Charge
from llmgateway.routing.expected import expected_usage
from llmgateway.routing.limit import TimeLimit
from llmgateway.routing.meter import MeteredChunks
from llmgateway.telemetry.traces.context import new_span_id, outgoing
from llmgateway.upstream.base import Upstream
from llmgateway.wire.texts import text_of_answer


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds: until a stream's first event, and between two of its events."""

    first_token_s: float = 300.0
    idle_s: float = 60.0


class Attempts:
    """Makes attempts; shared by retry now, failover and hedging later.

    Args:
        charge: Notes what an answer used and cost.
        propagate: Tell upstreams of OpenAI's wire which trace a call belongs to.
    """

    def __init__(
        self, upstreams: Mapping[Wire, Upstream], limits: TimeLimits, *, charge: Charge, propagate: bool = False
    ) -> None:
        self._upstreams = upstreams
        self._limits = limits
        self._charge = charge
        self._propagate = propagate

    async def send(self, exchange: Exchange, deployment: Deployment, call: Call) -> Reply:
        """Ask a deployment once. A stream counts as answered when its first event is there.

        Raises:
            ProviderTimeoutError: The first token, the account's or the request's time is over.
            UpstreamError: As the upstream says.
        """
        account = deployment.account
        attempt = _begun(exchange, deployment)
        if self._propagate:
            call = _traced(call, exchange, attempt)
        allowed_s = self._allowed_s(exchange, account.timeout_s, stream=call.stream)
        limit = TimeLimit(allowed_s, lambda: f"{account.provider} did not answer within {allowed_s:.3g} s.")
        try:
            reply = await self._upstreams[account.wire].send(deployment, call)
        except asyncio.CancelledError:
            self._cancelled(exchange, attempt, call, limit)
            raise
        except GatewayError as error:
            attempt.upstream_status = getattr(error, "upstream_status", None)
            ended(attempt, error.code)
            raise
        finally:
            limit.stop()
        if isinstance(reply, Streamed):
            self._meter(exchange, attempt, call, reply)
        else:
            ended(attempt, "ok")
            if reply.usage is None:
                reply.usage = await self._charge.counted(call, text_of_answer(reply.body), deployment)
            self._charge.add(exchange, deployment, reply.usage)
        return reply

    def _cancelled(self, exchange: Exchange, attempt: Attempt, call: Call, limit: TimeLimit) -> None:
        """Write down an attempt that was cancelled. Raises: ProviderTimeoutError: It was the time limit's doing."""
        late = limit.cancelled()
        ended(attempt, "cancelled" if late is None else late.code)
        # The provider may have answered it whole by now: a client that leaves each time must not call for nothing.
        self._charge.add(exchange, attempt.deployment, expected_usage(call, attempt.deployment))
        try:
            if late is not None:
                raise late from None
        finally:
            late = None  # its traceback holds this frame: in a circle, both would wait for the collector

    def _meter(self, exchange: Exchange, attempt: Attempt, call: Call, stream: Streamed) -> None:
        attempt.first_chunk = time.perf_counter()
        idle_s = self._limits.idle_s
        stream.chunks = MeteredChunks(stream, call, attempt, exchange, idle_s=idle_s, charge=self._charge)

    def _allowed_s(self, exchange: Exchange, account_s: float | None, *, stream: bool) -> float | None:
        allowed_s = account_s
        if stream and (allowed_s is None or self._limits.first_token_s < allowed_s):
            allowed_s = self._limits.first_token_s
        if exchange.deadline is not None:
            left_s = max(0.0, exchange.deadline - time.perf_counter())
            if allowed_s is None or left_s < allowed_s:
                allowed_s = left_s
        return allowed_s


def _begun(exchange: Exchange, deployment: Deployment) -> Attempt:
    attempt = Attempt(deployment, time.perf_counter())
    exchange.attempts.append(attempt)
    exchange.provider, exchange.upstream_model = deployment.account.name, deployment.model
    return attempt


def _traced(call: Call, exchange: Exchange, attempt: Attempt) -> Call:
    if exchange.trace is None:
        return call
    attempt.span_id = new_span_id()
    return msgspec.structs.replace(call, trace_headers=outgoing(exchange.trace, attempt.span_id))


def ended(attempt: Attempt, outcome: str) -> None:
    """Write down how an attempt ended, once."""
    if attempt.ended is None:
        attempt.ended = time.perf_counter()
        attempt.outcome = outcome
