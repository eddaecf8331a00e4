"""Watches how much of each budget is spent, and tells once when it comes near its end."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from llmgateway.gateway.purses import BOUNDLESS, NANO
from llmgateway.stores.base import Purse, StoreAwayError, Values

# Hundredths of the hard limit.
THRESHOLDS = (50, 80, 100)
_SPENT = 100
# A budget with less left than this refuses calls although it is not spent to the last cent.
_NEARLY = 80
_KEPT = 10_000
_WAITING = 1_000
_DAY_S = 86_400.0
_WITHOUT_END_S = 400 * _DAY_S


class Alert(Struct, frozen=True):
    """A budget has come to a threshold: `soft`, or hundredths of the hard limit."""

    purse: Purse
    threshold: str
    used_nusd: int


class _Known(Struct):
    purse: Purse
    used_nusd: int
    steps: list[tuple[int, str]]  # those not told yet, the lowest first


class BudgetWatch:
    """Takes what the store says after each settlement; tells from a task of its own.

    Args:
        send: Sends an event away (`telemetry/webhooks`); never waits, never raises.
    """

    def __init__(self, logger: FilteringBoundLogger, send: Callable[[str, Mapping[str, object]], None]) -> None:
        self.told: Counter[str] = Counter()  # alerts so far, by threshold
        self._logger = logger
        self._send = send
        self._known: dict[str, _Known] = {}
        self._alerts: deque[Alert] = deque(maxlen=_WAITING)
        self._news = asyncio.Event()

    def spent(self, purse: Purse, used_nusd: int) -> None:
        """Note what of a purse is used or reserved now. Never waits, never raises."""
        known = self._known.get(purse.key)
        if known is None or (known.purse is not purse and known.purse != purse):
            if purse.hard_nusd == BOUNDLESS:
                return
            known = self._met(purse)
        known.used_nusd = used_nusd
        if known.steps and used_nusd >= known.steps[0][0]:
            self._reached(known, used_nusd)

    def refused(self, name: str, purses: tuple[Purse, ...]) -> None:
        """Note that a purse of this name refused a call: one that is nearly spent counts as spent."""
        for purse in purses:
            known = self._known.get(purse.key)
            if purse.name == name and known is not None and known.used_nusd * 100 >= purse.hard_nusd * _NEARLY:
                self._reached(known, max(known.used_nusd, purse.hard_nusd))

    def highest(self) -> float:
        """Give the part that is used of the budget of which most is."""
        now = datetime.now(UTC).timestamp()
        self._known = {key: known for key, known in self._known.items() if (known.purse.ends_at or now) >= now}
        return max(
            (one.used_nusd / one.purse.hard_nusd for one in self._known.values() if one.purse.hard_nusd), default=0
        )

    async def run(self, values: Values) -> None:
        """Tell of thresholds, each once for all processes; cancel to end."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._alerts:
                await self._tell(self._alerts.popleft(), values)

    def _met(self, purse: Purse) -> _Known:
        hard = purse.hard_nusd
        steps = [(hard * part // 100, str(part)) for part in THRESHOLDS] if hard > 0 else []
        if purse.soft_nusd is not None:
            steps = sorted([*steps, (purse.soft_nusd, "soft")])
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        known = self._known[purse.key] = _Known(purse, 0, steps)
        return known

    def _reached(self, known: _Known, used_nusd: int) -> None:
        # Of several passed at once, as after a restart, the highest says it all; the soft one is somebody's own.
        passed = [name for least_nusd, name in known.steps if used_nusd >= least_nusd]
        known.steps = [step for step in known.steps if used_nusd < step[0]]
        parts = [name for name in passed if name != "soft"]
        for name in [*parts[-1:], *({"soft"} & set(passed))]:
            self._alerts.append(Alert(known.purse, name, known.used_nusd))
        self._news.set()

    async def _tell(self, alert: Alert, values: Values) -> None:
        purse = alert.purse
        now = datetime.now(UTC).timestamp()
        ttl_s = _WITHOUT_END_S if purse.ends_at is None else max(0.0, purse.ends_at - now) + _DAY_S
        try:
            told = await values.add(f"alert:{purse.key}:{purse.hard_nusd}:{alert.threshold}", b"1", ttl_s)
        except StoreAwayError:
            told = None  # rather twice than never
        if told is not None:
            return
        fields = _told(alert)
        self.told[alert.threshold] += 1
        self._logger.warning("budget_alert", **fields)
        self._send("budget.alert", fields)


def _told(alert: Alert) -> dict[str, object]:
    purse = alert.purse
    resets_at = None if purse.ends_at is None else datetime.fromtimestamp(purse.ends_at, UTC).isoformat()
    return {
        "scope": purse.scope,
        "owner": purse.owner,
        "threshold": alert.threshold if alert.threshold == "soft" else f"{alert.threshold} %",
        "used_usd": alert.used_nusd / NANO,
        "budget_usd": purse.hard_nusd / NANO,
        "soft_usd": None if purse.soft_nusd is None else purse.soft_nusd / NANO,
        "resets_at": resets_at,
    }
