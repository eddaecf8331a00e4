"""One try at one deployment: its upstream, its time limits, and its line in the exchange."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from llmgateway.catalog.model import Deployment, Wire
from llmgateway.errors import GatewayError
from llmgateway.exchange import Attempt, Call, Exchange, Reply, Streamed
from llmgateway.routing.limit import TimeLimit
from llmgateway.routing.meter import MeteredChunks
from llmgateway.upstream.base import Upstream


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds: until a stream's first event, and between two of its events."""

    first_token_s: float = 300.0
    idle_s: float = 60.0


class Attempts:
    """Makes attempts; shared by retry now, failover and hedging later."""

    def __init__(self, upstreams: Mapping[Wire, Upstream], limits: TimeLimits) -> None:
        self._upstreams = upstreams
        self._limits = limits

    async def send(self, exchange: Exchange, deployment: Deployment, call: Call) -> Reply:
        """Ask a deployment once. A stream counts as answered when its first event is there.

        Raises:
            ProviderTimeoutError: The first token, the account's or the request's time is over.
            UpstreamError: As the upstream says.
        """
        account = deployment.account
        attempt = Attempt(account.name, deployment.model, time.perf_counter())
        exchange.attempts.append(attempt)
        exchange.provider, exchange.upstream_model = account.name, deployment.model
        allowed_s = self._allowed_s(exchange, account.timeout_s, stream=call.stream)
        limit = TimeLimit(allowed_s, lambda: f"{account.provider} did not answer within {allowed_s:.3g} s.")
        try:
            reply = await self._upstreams[account.wire].send(deployment, call)
        except asyncio.CancelledError:
            late = limit.cancelled()
            ended(attempt, "cancelled" if late is None else late.code)
            if late is not None:
                raise late from None
            raise
        except GatewayError as error:
            attempt.upstream_status = getattr(error, "upstream_status", None)
            ended(attempt, error.code)
            raise
        finally:
            limit.stop()
        if isinstance(reply, Streamed):
            attempt.first_chunk = time.perf_counter()
            reply.chunks = MeteredChunks(reply.chunks, attempt, exchange, idle_s=self._limits.idle_s)
        else:
            ended(attempt, "ok")
        return reply

    def _allowed_s(self, exchange: Exchange, account_s: float | None, *, stream: bool) -> float | None:
        allowed_s = account_s
        if stream and (allowed_s is None or self._limits.first_token_s < allowed_s):
            allowed_s = self._limits.first_token_s
        if exchange.deadline is not None:
            left_s = max(0.0, exchange.deadline - time.perf_counter())
            if allowed_s is None or left_s < allowed_s:
                allowed_s = left_s
        return allowed_s


def ended(attempt: Attempt, outcome: str) -> None:
    """Write down how an attempt ended, once."""
    if attempt.ended is None:
        attempt.ended = time.perf_counter()
        attempt.outcome = outcome
