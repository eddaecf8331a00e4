import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from llmgateway.caller import ANYONE, Budget
from llmgateway.catalog.model import Model
from llmgateway.errors import (
    BudgetSpentError,
    GatewayError,
    LedgerAwayError,
    LimitsAwayError,
    PermissionDeniedError,
    UpstreamError,
)
from llmgateway.exchange import Attempt, Call, Exchange, Usage
from llmgateway.gateway.layers.limits import Limits, used
from llmgateway.gateway.purses import NANO
from llmgateway.gateway.spending import Scope
from llmgateway.stores.base import Decision, StoreAwayError
from tests.deployments import deployment
from tests.gateway.desk import (
    BODY,
    CLIENT,
    RICH,
    desk,
    ledger_away,
    memory,
    tier,
)
from tests.gateway.scripted_store import ScriptedLimiter, ScriptedStore
from tests.stores.waiting import until
from tests.timing import relative_cost

# Settling.


def over(**fields: object) -> Exchange:
    exchange = Exchange()
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def tried(*outcomes: str | None) -> list[Attempt]:
    return [Attempt(deployment(), 0.0, outcome=outcome) for outcome in outcomes]


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (over(attempts=tried("ok"), usage=Usage(7, 3), cost_usd=0.25), (10, 250_000_000)),
        (over(attempts=tried("ok"), usage=Usage(7, 3)), (10, 999)),
        (over(usage=Usage(7, 3), cost_usd=0.25), (0, 0)),
        (over(attempts=tried("provider_unavailable", "provider_rate_limited")), (0, 0)),
        (over(attempts=tried("provider_unavailable", "cancelled")), (600, 999)),
        (over(attempts=tried("provider_timeout")), (600, 999)),
        (over(attempts=tried(None)), (600, 999)),
        (over(attempts=tried("cancelled"), usage=Usage(7, 1), cost_usd=0.1), (8, 100_000_000)),
        (over(attempts=tried("ok"), usage=Usage(7, 3), cost_usd=0.0), (10, 0)),
    ],
)
def test_what_was_used_is_what_is_known_and_else_the_estimate(exchange: Exchange, expected: tuple[int, int]) -> None:
    assert used(exchange, 600, 999) == expected


async def test_real_tokens_and_cost_are_settled_at_the_end() -> None:
    store = ScriptedStore()

    exchange = await desk(store).ask(RICH)

    assert store.limiter.settled == [(exchange.id, 30, 500_000_000)]


async def test_a_failure_gives_everything_back() -> None:
    store = ScriptedStore()
    limits = desk(store)
    limits.answers.error, limits.answers.outcome = UpstreamError("no"), "provider_unavailable"

    with pytest.raises(UpstreamError):
        await limits.ask(RICH)

    assert [settled[1:] for settled in store.limiter.settled] == [(0, 0)]


# Budgets.


async def test_a_budget_begins_with_what_was_spent_before() -> None:
    asked: list[str] = []

    async def spent(scope: Scope, owner: str, _: datetime) -> int:
        asked.append(f"{scope} {owner}")
        return round(0.9995 * NANO)

    limits = desk(memory()[0], ledger=spent)

    error, _ = await limits.refused(RICH)

    assert asked == ["key key_1"]
    assert isinstance(error, BudgetSpentError)
    assert (error.status, error.type, error.code, error.should_retry) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
        False,
    )
    assert error.details is not None
    assert (error.details["rule"], error.details["budget_usd"]) == ("key.budget", 1)
    resets = datetime.fromisoformat(str(error.details["resets_at"]))
    assert resets.day == 1
    assert error.retry_after_s is not None
    assert abs((resets - datetime.now(UTC)).total_seconds() - error.retry_after_s) < 1
    assert "The budget of $1 that this key has at this gateway" in error.message


async def test_a_total_budget_never_begins_anew() -> None:
    caller = msgspec.structs.replace(CLIENT, organization_budget=Budget(0.0001, "total"))

    error, _ = await desk(memory()[0]).refused(caller)

    assert error.details == {"rule": "organization.budget", "resets_at": None, "budget_usd": 0.0001}
    assert error.retry_after_s is None
    assert "this organization" in error.message


async def test_pitfall_028_many_at_once_do_not_pass_a_budget() -> None:
    limits = desk(memory()[0])
    limits.answers.cost_usd = 0.1
    limits.answers.held = asyncio.Event()
    # An answer of 50,000 tokens costs ten cents.
    ask: dict[str, Any] = {"body": b"", "max_tokens": 50_000}

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome(limits.ask(RICH, **ask))) for _ in range(200)]
        await until(lambda: limits.answers.calls + sum(task.done() for task in tasks) >= 200)
        limits.answers.held.set()
    codes = [task.result() for task in tasks]

    assert codes.count("ok") == 10
    assert codes.count("insufficient_quota") == 190


async def outcome(asking: object) -> str:
    try:
        await asking  # type: ignore[misc]
    except GatewayError as error:
        return error.code
    return "ok"


async def test_pitfall_043_a_model_without_a_price_is_refused_to_who_has_a_budget() -> None:
    model = Model("chat", (deployment(),))

    error, _ = await desk(memory()[0], model=model).refused(RICH)

    assert isinstance(error, PermissionDeniedError)
    assert (error.status, error.code, error.param) == (403, "price_unknown", "model")
    assert "`chat`" in error.message
    assert "prices_per_million" in error.message
    assert "LLMGATEWAY_LIMITS__UNPRICED=allow" in error.message
    await desk(memory()[0], model=model).ask(CLIENT)


async def test_pitfall_043_or_it_passes_and_is_counted() -> None:
    limits = desk(memory()[0], model=Model("chat", (deployment(),)), unpriced="allow")
    limits.answers.cost_usd = None

    await limits.ask(RICH)

    assert limits.layer.unpriced == 1


async def test_without_the_ledger_a_budget_is_not_guessed() -> None:
    error, _ = await desk(memory()[0], ledger=ledger_away, fail_open=False).refused(RICH)

    assert isinstance(error, LimitsAwayError)


async def test_with_fail_open_calls_pass_without_the_ledger_and_are_counted_when_it_is_back() -> None:
    away = [True]

    async def ledger(*_: object) -> int:
        if away[0]:
            raise LedgerAwayError("The ledger is away.")
        return NANO

    limits = desk(memory()[0], tier(requests_per_minute=600), ledger=ledger)
    exchange = await limits.ask(RICH)
    assert limits.layer.unseeded == 1
    assert exchange.requests_left is not None

    away[0] = False
    limits.layer._spending._silent_until = 0  # noqa: SLF001  the moment of rest is over

    assert (await limits.refused(RICH))[0].code == "insufficient_quota"


async def test_with_fail_open_a_budget_that_is_known_holds_though_another_is_not() -> None:
    async def ledger(scope: Scope, *_: object) -> int:
        if scope == "organization":
            raise LedgerAwayError("The ledger is away.")
        return NANO

    caller = msgspec.structs.replace(RICH, organization_budget=Budget(1))

    error, _ = await desk(memory()[0], ledger=ledger).refused(caller)

    assert error.details is not None
    assert error.details["rule"] == "key.budget"


@pytest.mark.parametrize("scripted", [False, True])
async def test_who_is_charged_is_noted_for_what_other_processes_spend(scripted: bool) -> None:
    limits = desk(ScriptedStore() if scripted else memory()[0])
    noted: list[str] = []
    limits.layer._spending.asked = lambda purses: noted.extend(purse.owner for purse in purses)  # type: ignore[method-assign]  # noqa: SLF001

    await limits.ask(RICH)
    await limits.ask(RICH)

    assert noted[-2:] == ["key_1", "key_1"]


async def test_a_refusal_for_money_is_told_to_who_watches_the_budgets() -> None:
    told: list[str] = []
    limits = desk(ScriptedStore(ScriptedLimiter([Decision(allowed=False, refused_by="key.budget", unit="money")])))
    limits.watch.refused = lambda name, purses: told.append(f"{name} {purses[0].owner}")  # type: ignore[method-assign]

    await limits.refused(RICH)

    assert told == ["key.budget key_1"]


async def test_a_purse_that_stays_unknown_is_not_asked_for_ever() -> None:
    store = ScriptedStore(ScriptedLimiter(asks_for_seeds=True))
    limits = desk(store)

    async def deaf(purse: object, spent_nusd: int) -> None:
        """Hear nothing."""

    store.limiter.seed = deaf  # type: ignore[method-assign]

    assert isinstance((await limits.refused(RICH))[0], LimitsAwayError)
    assert len(store.limiter.asks) == 4


async def test_a_store_that_goes_away_between_two_questions_is_away() -> None:
    store = ScriptedStore(ScriptedLimiter([StoreAwayError()]))

    assert isinstance((await desk(store).refused(RICH))[0], LimitsAwayError)


# What it costs.


def cost(layer: Limits, make: object, number: int = 3_000) -> float:
    """Give what one call costs that never waits, ends included, in units of `relative_cost`."""
    call = Call("chat", "chat", BODY)

    def once() -> None:
        exchange = make()  # type: ignore[operator]
        running = layer.send(exchange, call)
        try:
            running.send(None)
        except StopIteration:
            for end in exchange.at_end:
                end()
            exchange.at_end.clear()

    def nothing() -> None:
        make()  # type: ignore[operator]

    return relative_cost(once, number=number) - relative_cost(nothing, number=number)


@pytest.mark.alone
def test_with_everything_on_it_costs_a_few_microseconds() -> None:
    store, _ = memory()
    many = tier(
        requests_per_minute=10**9,
        requests_per_hour=10**9,
        tokens_per_minute=10**9,
        concurrent=10**6,
        cooldown_seconds=1,
    )
    caller = msgspec.structs.replace(CLIENT, budget=Budget(10**6))
    limits = desk(store, many)
    asyncio.run(limits.ask(caller))

    assert cost(limits.layer, lambda: limits.exchange(caller)) < 10


@pytest.mark.alone
def test_with_nothing_on_it_costs_next_to_nothing() -> None:
    limits = desk(ScriptedStore(), enabled=False)
    asyncio.run(limits.ask(ANYONE))

    assert cost(limits.layer, lambda: limits.exchange(ANYONE)) < 2
