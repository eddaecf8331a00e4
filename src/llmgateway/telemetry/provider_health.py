"""How each account at a provider answered last: learned from the requests that pass, nobody is asked for it."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from llmgateway.exchange import Attempt, Exchange

# An attempt with another outcome says nothing of the provider: the client left, or asked for what is refused.
_FAULTS = frozenset(
    {
        "provider_unavailable",
        "provider_timeout",
        "provider_rate_limited",
        "provider_auth_failed",
        "provider_quota_exhausted",
    }
)
_NEWEST = 0.2  # the share of the newest latency in the moving average


class Rest(Struct, frozen=True):
    """A deployment that is left alone: the provider's name of its model, why, and for how many seconds more."""

    model: str
    cause: str
    until_s: float


class Circuit(Struct, frozen=True):
    """How an account's deployments are.

    Args:
        state: `closed`, `half_open` or `open`, of the worst of them.
        available: Whether one of them may be asked.
    """

    state: str = "closed"
    available: bool = True
    resting: tuple[Rest, ...] = ()


CLOSED = Circuit()


class ProviderState(Struct):
    """What is known of one account.

    Args:
        available: Whether one of its deployments may be asked.
        status: By the last attempt; `unknown` before the first.
        error: The code of that attempt's error.
        last_checked: When it ended, ISO 8601 in UTC.
        latency_ms: Moving average of the time to the answer, for a stream to its first chunk; of the good ones.
    """

    available: bool = True
    status: Literal["healthy", "unhealthy", "unknown"] = "unknown"
    error: str | None = None
    last_checked: str | None = None
    latency_ms: float | None = None
    circuit: str = CLOSED.state
    resting: tuple[Rest, ...] = ()


class _Account:
    """How it answered last; no `Struct`, whose fields take longer to set."""

    __slots__ = ("ended", "error", "latency_s")

    def __init__(self, ended: float, error: str | None, latency_s: float | None) -> None:
        self.ended = ended
        self.error = error
        self.latency_s = latency_s


class ProviderHealth:
    """Notes how attempts end, per account, in this process.

    Args:
        request_s: What a request may take unless its client allows less: then a timeout is no fault of the provider.
    """

    def __init__(self, request_s: float) -> None:
        self._request_s = request_s
        self._accounts: dict[str, _Account] = {}

    def record(self, exchange: Exchange) -> None:
        """Note the attempts of an exchange that is over."""
        for attempt in exchange.attempts:
            outcome = attempt.outcome
            if outcome == "ok":
                self._answered(attempt)
            elif outcome in _FAULTS and not (outcome == "provider_timeout" and self._hurried(exchange, attempt)):
                self._failed(attempt)

    def states(self, circuits: Mapping[str, Circuit]) -> dict[str, ProviderState]:
        """Say what is known of the accounts with these names, and these circuits."""
        return {name: self._state(name, circuit) for name, circuit in circuits.items()}

    def _answered(self, attempt: Attempt) -> None:
        ended = attempt.ended or attempt.started
        first = attempt.first_chunk
        latency_s = (ended if first is None else first) - attempt.started
        name = attempt.deployment.account.name
        account = self._accounts.get(name)
        if account is None:
            self._accounts[name] = _Account(ended, None, latency_s)
            return
        known_s = account.latency_s
        account.latency_s = latency_s if known_s is None else known_s + _NEWEST * (latency_s - known_s)
        account.ended, account.error = ended, None

    def _failed(self, attempt: Attempt) -> None:
        account = self._accounts.setdefault(attempt.provider, _Account(0.0, None, None))
        account.ended, account.error = attempt.ended or attempt.started, attempt.outcome

    def _hurried(self, exchange: Exchange, attempt: Attempt) -> bool:
        """Whether the client allowed less time than the gateway does, and that time was over."""
        deadline, ended = exchange.deadline, attempt.ended
        if deadline is None or ended is None:
            return False
        return ended >= deadline and deadline - exchange.started < self._request_s

    def _state(self, name: str, circuit: Circuit) -> ProviderState:
        account = self._accounts.get(name)
        if account is None:
            return ProviderState(circuit.available, circuit=circuit.state, resting=circuit.resting)
        ended_at = datetime.now(UTC) - timedelta(seconds=time.perf_counter() - account.ended)
        return ProviderState(
            available=circuit.available,
            status="healthy" if account.error is None else "unhealthy",
            error=account.error,
            last_checked=f"{ended_at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z",
            latency_ms=None if account.latency_s is None else round(account.latency_s * 1e3, 3),
            circuit=circuit.state,
            resting=circuit.resting,
        )
