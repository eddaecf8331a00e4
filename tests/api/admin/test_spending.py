from datetime import UTC, datetime

import anyio
from typing_extensions import override

from llmgateway.api.admin.shown import Spent
from llmgateway.api.admin.spending import Scope, Standings
from llmgateway.caller import Budget
from llmgateway.gateway.purses import purse_of
from llmgateway.stores.base import Rules, Standing, StoreAwayError
from llmgateway.stores.memory.limiter import MemoryLimiter

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
MONTH, NEXT_MONTH = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


class Books:
    """A ledger in which everybody spent 2 dollars, unless it is away."""

    def __init__(self, *, away: bool = False) -> None:
        self._away = away
        self.asked: list[tuple[str, str, datetime]] = []

    async def spent_nusd(self, scope: Scope, owner: str, start: datetime) -> int:
        self.asked.append((scope, owner, start))
        if self._away:
            raise OSError("db.internal refused")
        return 2_000_000_000


class AwayLimiter(MemoryLimiter):
    @override
    async def look(self, rules: Rules) -> Standing:
        raise StoreAwayError("redis.internal refused")


async def test_counters_know_best_and_the_ledger_knows_the_rest() -> None:
    limiter, books = MemoryLimiter(), Books()
    budget = Budget(9)
    await limiter.seed(purse_of("key", "key_1", budget, datetime.now(UTC)), 1_250_000_000)
    standings = Standings(limiter, books)

    known, summed = await standings([("key", "key_1", budget), ("organization", "acme", budget)])

    assert (known.usd, summed.usd) == (1.25, 2.0)
    assert known.resets_at == summed.resets_at
    assert [(scope, owner) for scope, owner, _ in books.asked] == [("organization", "acme")]


async def test_each_budget_is_asked_for_its_own_period() -> None:
    books = Books()
    standings = Standings(AwayLimiter(), books, now=lambda: NOW)

    found = await standings([("key", "a", Budget(9)), ("key", "b", Budget(9, "total"))])

    assert found == [Spent(2.0, NEXT_MONTH), Spent(2.0, None)]
    assert [start for _, _, start in books.asked] == [MONTH, datetime(1970, 1, 1, tzinfo=UTC)]


class SlowBooks(Books):
    """Sums up for as long as it is let, but for the first."""

    @override
    async def spent_nusd(self, scope: Scope, owner: str, start: datetime) -> int:
        found = await super().spent_nusd(scope, owner, start)
        if len(self.asked) > 1:
            await anyio.sleep_forever()
        return found


async def test_all_sums_of_a_list_together_are_waited_for_no_longer_than_one() -> None:
    standings = Standings(AwayLimiter(), SlowBooks(), now=lambda: NOW, limit_s=0.1)

    with anyio.fail_after(0.9):
        found = await standings([("key", str(at), Budget(9)) for at in range(10)])

    assert found == [Spent(2.0, NEXT_MONTH), *[Spent(None, NEXT_MONTH)] * 9]


async def test_a_sum_that_cannot_be_had_now_is_not_known() -> None:
    standings = Standings(AwayLimiter(), Books(away=True), now=lambda: NOW)

    with anyio.fail_after(5):
        assert await standings([("key", "a", Budget(9))]) == [Spent(None, NEXT_MONTH)]
        assert await standings([]) == ()
