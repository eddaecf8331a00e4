"""How budgets stand: what the counters say, else what the ledger says."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, Protocol

import anyio

from llmgateway.api.admin.shown import Spent
from llmgateway.api.ledger.shown import usd
from llmgateway.caller import Budget
from llmgateway.gateway.purses import purse_of
from llmgateway.storage.admin.rows import KeyRow, OrganizationRow
from llmgateway.stores.base import Limiter, Purse, Rules, StoreAwayError

Scope = Literal["key", "organization"]
# Whose budget: a key's or an organization's, and its id.
Owned = tuple[Scope, str, Budget]
Spending = Callable[[Sequence[Owned]], Awaitable[Sequence[Spent]]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT_S = 2.0  # a list is worth more than the sums in it


class Ledger(Protocol):
    """Sums up what was spent; raises an `OSError` when it is away."""

    async def spent_nusd(self, scope: Scope, owner: str, start: datetime) -> int: ...


def _now() -> datetime:
    return datetime.now(UTC)


class Standings:
    """Tells how budgets stand, each in its period; a sum that cannot be had now is not known.

    Args:
        limiter: Knows those that were used lately.
        ledger: Knows the others.
        limit_s: How long it is asked for all of them together.
    """

    def __init__(
        self, limiter: Limiter, ledger: Ledger, *, now: Callable[[], datetime] = _now, limit_s: float = _LIMIT_S
    ) -> None:
        self._limiter = limiter
        self._ledger = ledger
        self._now = now
        self._limit_s = limit_s

    async def __call__(self, budgets: Sequence[Owned]) -> Sequence[Spent]:
        """Look at many at once."""
        if not budgets:
            return ()
        now = self._now()
        purses = tuple(purse_of(scope, owner, budget, now) for scope, owner, budget in budgets)
        known = list(await self._counted(purses))
        with anyio.move_on_after(self._limit_s), suppress(OSError):
            for at, purse in enumerate(purses):
                if known[at] is None:
                    known[at] = await self._summed(purse)
        return [Spent(usd(spent_nusd), _end_of(purse)) for purse, spent_nusd in zip(purses, known, strict=True)]

    async def _counted(self, purses: tuple[Purse, ...]) -> Sequence[int | None]:
        try:
            return (await self._limiter.look(Rules(purses=purses))).spent_nusd
        except StoreAwayError:
            return (None,) * len(purses)

    async def _summed(self, purse: Purse) -> int:
        start = datetime.fromtimestamp(purse.starts_at, UTC) if purse.starts_at else _EPOCH
        return await self._ledger.spent_nusd(purse.scope, purse.owner, start)


def _end_of(purse: Purse) -> datetime | None:
    return None if purse.ends_at is None else datetime.fromtimestamp(purse.ends_at, UTC)


async def spent_of(
    spending: Spending, scope: Scope, rows: Sequence[KeyRow] | Sequence[OrganizationRow]
) -> Mapping[str, Spent]:
    """Tell how the budgets of rows stand, by their ids; those that have none are left out."""
    budgets = [(scope, row.id, row.budget) for row in rows if row.budget is not None]
    return dict(zip((owner for _, owner, _ in budgets), await spending(budgets), strict=True))
