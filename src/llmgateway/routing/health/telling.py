"""Tells operators how deployments are: a line in the log at each change, alerts, and what metrics and pages show."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from llmgateway.catalog.snapshot import Catalog
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Change, Health, State
from llmgateway.stores.base import StoreAwayError, Values
from llmgateway.telemetry.provider_health import CLOSED, Circuit, Rest

# What nobody but the operator can mend: events for his server.
_ALERTS: Mapping[str, str] = {"auth": "deployment.auth_failed", "quota": "deployment.quota_exhausted"}
_RANKS: Mapping[State, int] = {"closed": 0, "half_open": 1, "open": 2}
_OTHER = "other"
_WAITING = 1_000


class _Alert(Struct, frozen=True):
    provider: str
    model: str
    cause: str
    rest_s: float


class Telling:
    """Hears of each change in this process; tells operators' servers from a task of its own.

    Args:
        send: Sends an event away (`telemetry/webhooks`); never waits, never raises.
    """

    def __init__(
        self, book: HealthBook, logger: FilteringBoundLogger, send: Callable[[str, Mapping[str, object]], None]
    ) -> None:
        self.openings: Counter[tuple[str, str]] = Counter()  # by account and cause
        self._book = book
        self._logger = logger
        self._send = send
        # What was told last of those that rest, and until when.
        self._told: dict[str, tuple[str | None, float]] = {}
        # Likewise of alerts, by account: it is the account's key that is refused, whatever models clients name.
        self._alerted: dict[tuple[str, str], float] = {}
        self._alerts: deque[_Alert] = deque(maxlen=_WAITING)
        self._news = asyncio.Event()
        book.listeners.append(self._changed)

    async def run(self, values: Values) -> None:
        """Send alerts, each once for all processes; cancel to end."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._alerts:
                alert = self._alerts.popleft()
                try:
                    sent = await values.add(f"alert:{alert.cause}:{alert.provider}", b"1", alert.rest_s)
                except StoreAwayError:
                    sent = None  # rather twice than never
                if sent is None:
                    fields = {"provider": alert.provider, "model": alert.model, "rest_s": alert.rest_s}
                    self._send(_ALERTS[alert.cause], fields)

    def states(self, catalog: Catalog) -> dict[tuple[str, str], float]:
        """Give the worst circuit (0 closed, 1 half open, 2 open) by account and the catalog's name of the model."""
        now = self._book.clock()
        names: dict[str, str] = {}
        states: dict[tuple[str, str], float] = {}
        for model in catalog.models.values():
            for deployment in model.deployments:
                # Met here, if never before: another process may have told of it already.
                name = names.setdefault(self._book.of(deployment).id, model.name)
                states[deployment.account.name, name] = 0.0
        for health in self._book.at(catalog.accounts.values()):
            labels = health.account, names.get(health.id, _OTHER)
            states[labels] = max(states.get(labels, 0.0), _RANKS[health.state(now)])
        return states

    def circuits(self, catalog: Catalog) -> dict[str, Circuit]:
        """Say of each account which of its deployments rest."""
        now = self._book.clock()
        for model in catalog.models.values():
            for deployment in model.deployments:
                self._book.of(deployment)
        found: dict[str, list[Health]] = {name: [] for name in catalog.accounts}
        for health in self._book.at(catalog.accounts.values()):
            found[health.account].append(health)
        return {name: _circuit(healths, now) for name, healths in found.items()}

    def _changed(self, health: Health, change: Change) -> None:
        if change == "closed":
            self._told.pop(health.id, None)
            self._logger.info("circuit_closed", provider=health.account, model=health.model)
            return
        now, cause = self._book.clock(), health.cause or "failures"
        last_cause, until = self._told.get(health.id, (None, 0.0))
        self._told[health.id] = cause, health.until
        if until > now and last_cause == cause:
            return  # it rests already, and is to rest longer: calls that began before it did say so too
        rest_s = round(health.until - now, 3)
        self.openings[health.account, cause] += 1
        self._logger.warning("circuit_opened", provider=health.account, model=health.model, cause=cause, rest_s=rest_s)
        if cause in _ALERTS and self._alerted.get((health.account, cause), 0.0) <= now:
            self._alerted[health.account, cause] = health.until
            self._alerts.append(_Alert(health.account, health.model, cause, rest_s))
            self._news.set()


def _circuit(healths: list[Health], now: float) -> Circuit:
    if not healths:
        return CLOSED
    return Circuit(
        state=max((health.state(now) for health in healths), key=lambda state: _RANKS[state]),
        available=any(health.available(now) for health in healths),
        resting=tuple(
            Rest(health.model, health.cause or "failures", round(health.until - now, 3))
            for health in healths
            if health.until > now
        ),
    )
