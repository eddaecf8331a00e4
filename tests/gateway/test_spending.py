import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import pytest

from llmgateway.caller import Budget
from llmgateway.errors import LedgerAwayError
from llmgateway.gateway.purses import purse_of
from llmgateway.gateway.spending import LedgerSilentError, Scope, Spending
from llmgateway.stores.base import Ask, Purse, Rules, StoreAwayError
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.store import MemoryStore
from tests.gateway.scripted_store import ScriptedLimiter, ScriptedStore
from tests.telemetry.exchanges import until

NOW = datetime.now(UTC)
PURSE = purse_of("key", "key_1", Budget(5), NOW)


@dataclass
class Ledger:
    """Says what was spent; `held` keeps it from answering."""

    spent_nusd: int = 0
    fails: bool = False
    asked: list[tuple[Scope, str, datetime]] = field(default_factory=list)
    held: asyncio.Event | None = None

    async def __call__(self, scope: Scope, owner: str, start: datetime) -> int:
        self.asked.append((scope, owner, start))
        if self.held is not None:
            await self.held.wait()
        if self.fails:
            raise LedgerAwayError("The ledger is away.")
        return self.spent_nusd


async def test_a_purse_begins_with_what_the_ledger_knows_of_its_period() -> None:
    store, ledger = ScriptedStore(), Ledger(700)

    await Spending(store, ledger).seed([PURSE])

    assert store.limiter.knows == {PURSE.key: 700}
    assert ledger.asked == [("key", "key_1", datetime.fromtimestamp(PURSE.starts_at, UTC))]


async def test_of_many_that_ask_at_once_the_first_asks_the_ledger() -> None:
    store, ledger = ScriptedStore(), Ledger(700, held=asyncio.Event())
    spending = Spending(store, ledger)

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(spending.seed([PURSE]))
        await until(lambda: len(ledger.asked) == 1)
        assert ledger.held is not None
        ledger.held.set()

    assert len(ledger.asked) == 1


async def test_when_the_first_leaves_the_others_do_not_wait_for_it() -> None:
    ledger = Ledger(700, held=asyncio.Event())
    spending = Spending(ScriptedStore(), ledger)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(spending.seed([PURSE]))
        await until(lambda: len(ledger.asked) == 1)
        second = group.create_task(spending.seed([PURSE]))
        await asyncio.sleep(0)
        first.cancel()
        with anyio.fail_after(2):
            await second


async def test_a_ledger_that_is_away_is_said_to_be_and_left_alone_for_a_moment() -> None:
    store, ledger = ScriptedStore(), Ledger(fails=True)
    spending = Spending(store, ledger)

    for _ in range(20):
        with pytest.raises(LedgerSilentError):
            await spending.seed([PURSE])

    assert len(ledger.asked) == 1
    assert store.limiter.knows == {}


async def test_a_ledger_that_never_answers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.gateway.spending._WITHIN_S", 0.02)

    with pytest.raises(LedgerSilentError):
        await Spending(ScriptedStore(), Ledger(held=asyncio.Event())).seed([PURSE])


@pytest.fixture
def limiter() -> ScriptedLimiter:
    return ScriptedLimiter(knows={PURSE.key: 100})


async def reread(
    limiter: ScriptedLimiter,
    ledger: Ledger,
    done: Callable[[], bool],
    *,
    purses: tuple[Purse, ...] = (PURSE,),
    needed: bool = True,
) -> None:
    spending = Spending(ScriptedStore(limiter), ledger)
    async with anyio.create_task_group() as group:
        group.start_soon(spending.reread, lambda: needed, 0.01)
        await asyncio.sleep(0)
        while not done():
            spending.asked(purses)
            await asyncio.sleep(0.005)
        group.cancel_scope.cancel()


async def test_what_other_processes_spent_is_counted_here_too(limiter: ScriptedLimiter) -> None:
    ledger = Ledger(900)

    await reread(limiter, ledger, lambda: len(ledger.asked) > 3)

    assert limiter.knows == {PURSE.key: 900}
    assert len(limiter.settled) == 1


async def test_what_others_spent_beyond_a_budget_is_counted_and_holds_back_the_next() -> None:
    counted = asyncio.Event()
    limiter = MemoryLimiter(spent=lambda *_: counted.set())
    await limiter.seed(PURSE, 100)
    spending = Spending(MemoryStore(limiter), Ledger(PURSE.hard_nusd + 7))
    rules = Rules(purses=(PURSE,))
    async with anyio.create_task_group() as group:
        group.start_soon(spending.reread, lambda: True, 0.01)
        await asyncio.sleep(0)
        spending.asked([PURSE])
        await asyncio.wait_for(counted.wait(), 3)
        group.cancel_scope.cancel()
    assert (await limiter.look(rules)).spent_nusd == [PURSE.hard_nusd + 7]

    decision, _ = await limiter.reserve(Ask("req_1", rules, 0, 1, 60.0))

    assert (decision.allowed, decision.refused_by) == (False, "key.budget")


async def test_the_ledger_is_never_believed_when_it_knows_less(limiter: ScriptedLimiter) -> None:
    ledger = Ledger(50)

    await reread(limiter, ledger, lambda: len(ledger.asked) > 3)

    assert limiter.knows == {PURSE.key: 100}


async def test_alone_or_with_a_shared_store_nothing_is_read_again(limiter: ScriptedLimiter) -> None:
    ledger, rounds = Ledger(900), iter(range(10))

    await reread(limiter, ledger, lambda: next(rounds, None) is None, needed=False)

    assert ledger.asked == []


async def test_a_ledger_or_a_store_that_is_away_ends_no_reading(limiter: ScriptedLimiter) -> None:
    ledger = Ledger(900, fails=True)
    store, spending = ScriptedStore(limiter), Spending(ScriptedStore(limiter), ledger)
    async with anyio.create_task_group() as group:
        group.start_soon(spending.reread, lambda: True, 0.01)
        await asyncio.sleep(0)
        spending.asked([PURSE])
        await until(lambda: len(ledger.asked) == 1)
        ledger.fails, store.limiter.away = False, True
        # After the moment that a silent ledger is left alone.
        await until(lambda: len(ledger.asked) > 2)
        store.limiter.away = False
        await until(lambda: limiter.knows == {PURSE.key: 900})
        group.cancel_scope.cancel()


async def test_nothing_is_noted_while_nobody_reads_again() -> None:
    spending = Spending(ScriptedStore(), Ledger())

    spending.asked([PURSE])


async def test_a_store_that_does_not_listen_is_said_to_be_away() -> None:
    with pytest.raises(StoreAwayError):
        await Spending(ScriptedStore(ScriptedLimiter(away=True)), Ledger()).seed([PURSE])
