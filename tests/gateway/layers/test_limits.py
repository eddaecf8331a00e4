import asyncio
from collections.abc import Mapping

import pytest

from llmgateway.caller import ANYONE, CacheAsk
from llmgateway.catalog.model import NO_LIMITS, Account, Deployment, Model, Prices
from llmgateway.catalog.model import Limits as Numbers
from llmgateway.errors import (
    BudgetSpentError,
    LimitsAwayError,
    RateLimitedError,
)
from llmgateway.exchange import Call, Exchange, Usage
from llmgateway.gateway.target import Answer
from llmgateway.stores.base import Decision, Rate, RateState
from tests.deployments import deployment
from tests.gateway.desk import (
    PRICES,
    RICH,
    desk,
    memory,
    tier,
)
from tests.gateway.scripted_store import ScriptedLimiter, ScriptedStore, ScriptedValues

# What it asks for.


async def test_with_nothing_configured_the_store_is_not_asked() -> None:
    store = ScriptedStore()

    exchange = await desk(store, enabled=False).ask()

    assert store.limiter.asks == []
    assert exchange.at_end == []


@pytest.mark.parametrize("away", [False, True])
async def test_with_only_a_cache_key_the_kept_answer_is_read_and_may_be_missing(away: bool) -> None:
    store = ScriptedStore(values=ScriptedValues({"answer:1": b"kept"}, away=away))

    exchange = await desk(store, enabled=False).ask(cache_key="answer:1")

    assert exchange.cached == (None if away else b"kept")
    assert store.limiter.asks == []


async def test_one_round_trip_asks_and_reads() -> None:
    store = ScriptedStore(ScriptedLimiter(value=b"kept"))

    exchange = await desk(store, tier(requests_per_minute=6)).ask(cache_key="answer:1")

    assert store.limiter.reads == ["answer:1"]
    assert exchange.cached == b"kept"


async def test_the_ask_names_tokens_cost_and_how_long_it_may_take() -> None:
    store = ScriptedStore()

    exchange = await desk(store).ask(RICH, max_tokens=50)

    (ask,) = store.limiter.asks
    assert (ask.id, ask.tokens, ask.cost_nusd, ask.lease_s) == (exchange.id, 150, 200_000, 160)


async def test_a_call_holds_its_place_as_long_as_its_deadline_lets_it_run() -> None:
    store = ScriptedStore()
    limits = desk(store, tier(concurrent=1))
    exchange = limits.exchange()
    exchange.deadline = exchange.started + 5

    await limits.layer.send(exchange, Call("chat", "chat", b"{}"))

    assert 60 < store.limiter.asks[0].lease_s <= 65


async def test_no_estimate_is_larger_than_a_store_can_count() -> None:
    store = ScriptedStore()

    await desk(store, model=Model("chat", (deployment(prices=Prices(1.0, 1.0)),))).ask(RICH, max_tokens=10**12)

    assert store.limiter.asks[0].cost_nusd == 10**15 < 2**53


async def test_dearer_prices_of_long_prompts_are_in_the_estimate() -> None:
    prices = Prices(0.000_001, 0.0, above=((50, Prices(0.000_010, 0.0)),))
    store = ScriptedStore()

    await desk(store, model=Model("chat", (deployment(prices=prices),))).ask(RICH)

    assert store.limiter.asks[0].cost_nusd == 1_000_000


# Refusals.


async def test_pitfall_035_a_refusal_names_the_rule_its_number_and_whose_it_is() -> None:
    store, clock = memory()
    limits = desk(store, tier(requests_per_minute=6, burst=2))
    await limits.ask()
    await limits.ask()

    error, exchange = await limits.refused()

    assert isinstance(error, RateLimitedError)
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.details == {"rule": "key.requests_per_minute", "limit": 6}
    assert error.message == (
        "A limit of this gateway, not of the provider, is reached: "
        "key.requests_per_minute (6 requests a minute for this key). Try again in 10 s."
    )
    assert error.retry_after_s == 10
    left = exchange.requests_left
    assert left is not None
    assert (left.limit, left.remaining, left.reset_s) == (6, 0, 20)
    assert [(event.name, event.attributes) for event in exchange.events] == [
        ("limit", {"rule": "key.requests_per_minute", "retry_after_s": 10})
    ]
    clock[0] += 9.9
    await limits.refused()
    clock[0] += 0.1
    await limits.ask()


async def test_what_is_left_is_that_of_the_tightest_rule_of_its_kind() -> None:
    store, _ = memory()
    limits = desk(store, tier(requests_per_minute=600, requests_per_hour=12, tokens_per_minute=10_000))

    exchange = await limits.ask(max_tokens=100)

    assert exchange.requests_left is not None
    assert exchange.tokens_left is not None
    assert (exchange.requests_left.limit, exchange.requests_left.remaining) == (12, 1)
    assert (exchange.tokens_left.limit, exchange.tokens_left.remaining) == (10_000, 9_800)


@pytest.mark.parametrize(
    ("numbers", "rule", "says"),
    [
        ({"tokens_per_minute": 601}, "key.tokens_per_minute", "601 tokens a minute for this key"),
        ({"requests_per_day": 1}, "key.requests_per_day", "1 requests a day for this key"),
    ],
)
async def test_each_rule_is_named_with_its_unit(numbers: Mapping[str, int], rule: str, says: str) -> None:
    limits = desk(memory()[0], tier(**numbers))
    limits.answers.usage = Usage(prompt_tokens=600)
    await limits.ask()

    error, _ = await limits.refused()

    assert error.details is not None
    assert error.details["rule"] == rule
    assert says in error.message


async def test_calls_at_once_are_refused_until_one_ends() -> None:
    limits = desk(memory()[0], tier(concurrent=1))
    limits.answers.held = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(limits.ask())
        while not limits.answers.calls:  # noqa: ASYNC110  a turn of the loop, no time
            await asyncio.sleep(0)
        error, _ = await limits.refused()
        limits.answers.held.set()
        await first
    await limits.ask()

    assert error.details == {"rule": "key.concurrent", "limit": 1}
    assert "1 calls at once for this key" in error.message
    assert error.retry_after_s


async def test_who_is_refused_too_often_rests() -> None:
    store, clock = memory()
    limits = desk(store, tier(requests_per_minute=60, burst=1, cooldown_seconds=30))
    await limits.ask()
    errors = [(await limits.refused())[0] for _ in range(10)]

    error = errors[-1]
    assert error.details == {"rule": "key.cooldown"}
    assert "after 10 refusals within 60 s nothing passes for 30 s" in error.message
    clock[0] += 29
    assert (await limits.refused())[0].retry_after_s == 1
    clock[0] += 1
    await limits.ask()


async def test_a_rule_that_nobody_knows_is_still_named() -> None:
    store = ScriptedStore(ScriptedLimiter([Decision(allowed=False, refused_by="key.other", retry_after_s=3)]))

    error, _ = await desk(store, tier(requests_per_minute=6)).refused()

    assert error.details == {"rule": "key.other"}
    assert error.retry_after_s == 3


async def test_a_store_that_is_away_is_a_503_that_may_be_repeated() -> None:
    store = ScriptedStore(ScriptedLimiter(away=True))

    error, _ = await desk(store, tier(requests_per_minute=6)).refused()

    assert isinstance(error, LimitsAwayError)
    assert (error.status, error.should_retry, error.retry_after_s) == (503, True, 1)


# The choice of who answers.


def two(first: Numbers, second: Numbers = NO_LIMITS) -> Model:
    return Model(
        "chat",
        tuple(
            Deployment(Account(name, "openai", "openai", limits=limits), "gpt-4o", prices=PRICES)
            for name, limits in (("a", first), ("b", second))
        ),
    )


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_provider_at_its_limit_makes_another_answer(enabled: bool) -> None:
    limits = desk(memory()[0], model=two(Numbers(requests_per_minute=6, burst=2)), enabled=enabled)

    for _ in range(4):
        await limits.ask(ANYONE)

    assert limits.answers.chosen == [0, 0, 1, 1]


async def test_when_all_are_at_their_limits_the_refusal_says_whose_limit_it_is() -> None:
    model = two(Numbers(requests_per_minute=6, burst=1), Numbers(requests_per_minute=12, burst=1))
    limits = desk(memory()[0], model=model, enabled=False)
    await limits.ask(ANYONE)
    await limits.ask(ANYONE)

    error, _ = await limits.refused(ANYONE)

    assert isinstance(error, RateLimitedError)
    assert error.details is not None
    assert error.details["rule"] == "provider.requests_per_minute"
    assert error.retry_after_s == 5
    assert "A limit of this gateway, not of the provider" in error.message
    assert "the account that answers for this model" in error.message


async def test_a_slot_of_an_account_comes_back() -> None:
    limits = desk(memory()[0], model=two(Numbers(concurrent=1)), enabled=False)
    await limits.ask(ANYONE)
    await limits.ask(ANYONE)

    assert limits.answers.chosen == [0, 0]


async def test_a_slot_of_another_account_comes_back_as_well() -> None:
    limits = desk(memory()[0], model=two(Numbers(concurrent=1), Numbers(concurrent=1)), enabled=False)
    held = limits.exchange(ANYONE)
    await limits.layer.send(held, Call("chat", "chat", b"{}"))

    await limits.ask(ANYONE)
    await limits.ask(ANYONE)

    assert limits.answers.chosen == [0, 1, 1]


# Kept answers.


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_kept_answer_of_this_process_is_read_where_one_is_wanted(wanted: bool) -> None:
    store, _ = memory()
    store.values.put("answer:1", b"kept", 60)
    limits = desk(store, tier(requests_per_minute=6))
    exchange = limits.exchange(cache_key="answer:1")
    exchange.cache_ask = CacheAsk(no_cache=not wanted)

    await limits.layer.send(exchange, Call("chat", "chat", b"{}"))

    assert exchange.cached == (b"kept" if wanted else None)


@pytest.mark.parametrize(
    "refusal",
    [
        Decision(allowed=False, refused_by="key.tokens_per_minute", unit="tokens"),
        Decision(allowed=False, refused_by="key.budget", unit="money"),
        Decision(allowed=False, refused_by="provider.requests_per_minute", of_choice=True),
    ],
)
async def test_a_kept_answer_passes_where_only_tokens_money_or_providers_are_short(refusal: Decision) -> None:
    store = ScriptedStore(ScriptedLimiter([refusal], value=b"kept"))
    limits = desk(store, tier(requests_per_minute=6, tokens_per_minute=5, concurrent=4, cooldown_seconds=9))

    exchange = await limits.ask(RICH, cache_key="answer:1")

    assert exchange.cached == b"kept"
    first, second = store.limiter.asks
    assert (second.rules.slots, second.rules.cooldowns) == (first.rules.slots, first.rules.cooldowns) != ((), ())
    assert [rate.name for rate in second.rules.rates] == ["key.requests_per_minute"]
    assert (second.tokens, second.cost_nusd, second.rules.purses, second.choices) == (0, 0, (), ())
    assert [event.name for event in exchange.events] == []


async def test_who_passed_for_a_kept_answer_alone_may_ask_nobody_for_another() -> None:
    refusal = Decision(allowed=False, refused_by="key.budget", unit="money")
    limits = desk(ScriptedStore(ScriptedLimiter([refusal], value=b"damaged")))
    passed = await limits.ask(RICH, cache_key="answer:1")

    with pytest.raises(BudgetSpentError):
        await Answer(limits.answers).send(passed, Call("chat", "chat", b"{}"))


async def test_a_kept_answer_does_not_pass_where_requests_are_counted() -> None:
    refusal = Decision(allowed=False, refused_by="key.requests_per_minute", retry_after_s=2)
    store = ScriptedStore(ScriptedLimiter([refusal], value=b"kept"))

    error, _ = await desk(store, tier(requests_per_minute=6)).refused(cache_key="answer:1")

    assert error.code == "rate_limit_exceeded"
    assert len(store.limiter.asks) == 1


async def test_a_kept_answer_costs_neither_tokens_nor_money() -> None:
    store = ScriptedStore(ScriptedLimiter(value=b"kept"))

    exchange = await desk(store, tier(tokens_per_minute=5000)).ask(RICH, cache_key="answer:1")

    assert store.limiter.settled == [(exchange.id, 0, 0)]


async def test_states_of_a_refusal_show_the_rule_that_refused() -> None:
    minute = Rate("key.requests_per_minute", "a", "requests", 6, 60, 1)
    hour = Rate("key.requests_per_hour", "b", "requests", 60, 3600, 10)
    refused = Decision(
        allowed=False,
        refused_by="key.requests_per_hour",
        states=(RateState(6, 0, 10.0, minute), RateState(60, 0, 60.0, hour)),
    )
    store = ScriptedStore(ScriptedLimiter([refused]))

    _, exchange = await desk(store, tier(requests_per_minute=6)).refused()

    assert exchange.requests_left is not None
    assert exchange.requests_left.limit == 60


async def test_a_call_whose_model_nobody_resolved_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="nobody resolved"):
        await desk(ScriptedStore()).layer.send(Exchange(), Call("chat", "chat", b"{}"))
