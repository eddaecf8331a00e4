"""How budgets stand: what the counters say, else what the ledger says."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Literal, Protocol

from llmgateway.api.admin.shown import Spent
from llmgateway.api.ledger.asking import answer_in_time
from llmgateway.api.ledger.shown import usd
from llmgateway.caller import Budget
from llmgateway.errors import LedgerAwayError
from llmgateway.gateway.purses import purse_of
from llmgateway.stores.base import Limiter, Purse, Rules, StoreAwayError

Scope = Literal["key", "organization"]
# Whose budget: a key's or an organization's, and its id.
Owned = tuple[Scope, str, Budget]
Spending = Callable[[Sequence[Owned]], Awaitable[Sequence[Spent]]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT_S = 2.0  # a list is worth more than the sums in it


class Ledger(Protocol):
    """Sums up what was spent."""

    async def spent_nusd(self, scope: Scope, owner: str, start: datetime) -> int: ...


def _now() -> datetime:
    return datetime.now(UTC)


class Standings:
    """Tells how budgets stand, each in its period; a sum that cannot be had now is not known.

    Args:
        limiter: Knows those that were used lately.
        ledger: Knows the others.
    """

    def __init__(self, limiter: Limiter, ledger: Ledger, *, now: Callable[[], datetime] = _now) -> None:
        self._limiter = limiter
        self._ledger = ledger
        self._now = now

    async def __call__(self, budgets: Sequence[Owned]) -> Sequence[Spent]:
        """Look at many at once."""
        if not budgets:
            return ()
        now = self._now()
        purses = tuple(purse_of(scope, owner, budget, now) for scope, owner, budget in budgets)
        counted = await self._counted(purses)
        found = []
        for purse, spent_nusd in zip(purses, counted, strict=True):
            known_nusd = spent_nusd if spent_nusd is not None else await self._summed(purse)
            ends = None if purse.ends_at is None else datetime.fromtimestamp(purse.ends_at, UTC)
            found.append(Spent(usd(known_nusd), ends))
        return found

    async def _counted(self, purses: tuple[Purse, ...]) -> Sequence[int | None]:
        try:
            return (await self._limiter.look(Rules(purses=purses))).spent_nusd
        except StoreAwayError:
            return (None,) * len(purses)

    async def _summed(self, purse: Purse) -> int | None:
        start = datetime.fromtimestamp(purse.starts_at, UTC) if purse.starts_at else _EPOCH
        try:
            return await answer_in_time(partial(self._ledger.spent_nusd, purse.scope, purse.owner, start), _LIMIT_S)
        except LedgerAwayError:
            return None
