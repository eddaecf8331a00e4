from datetime import UTC, datetime

from llmgateway.gateway.layers.refusals import away, budget_spent, rate_limited, rule_named, unpriced
from llmgateway.stores.base import Cooldown, Purse, Rate, Rules, Slots

RATE = Rate("key.requests_per_minute", "rate:key_1", "requests", 60, 60.0, 10)
SLOTS = Slots("organization.concurrent", "slots:acme", 2)
REST = Cooldown("key.cooldown", "rest:key_1", 30.0)
RULES = Rules((RATE,), (SLOTS,), (REST,))


def test_a_rule_is_found_by_its_name_wherever_it_stands() -> None:
    assert [rule_named(one.name, (Rules(), RULES)) for one in (RATE, SLOTS, REST)] == [RATE, SLOTS, REST]
    assert rule_named("key.budget", (RULES,)) is None


def test_pitfall_035_a_refusal_says_whose_limit_it_is_and_that_it_is_the_gateways() -> None:
    rate, slots, rest = (rate_limited(one.name, one, 2.04) for one in (RATE, SLOTS, REST))

    assert "of this gateway, not of the provider" in rate.message
    assert "60 requests a minute for this key" in rate.message
    assert "Try again in 2.1 s" in rate.message
    assert rate.details == {"rule": "key.requests_per_minute", "limit": 60}
    assert "2 calls at once for this organization" in slots.message
    assert "after 10 refusals within 60 s nothing passes for 30 s" in rest.message
    assert {error.status for error in (rate, slots, rest)} == {429}


def test_a_spent_budget_says_when_it_begins_anew() -> None:
    ends = datetime(2099, 12, 1, tzinfo=UTC)
    purse = Purse("key.budget", "budget:1", "key", "key_1", 5_000_000_000, ends_at=ends.timestamp())

    error = budget_spent("key.budget", (purse,), 0.0)

    assert (error.status, error.code, error.should_retry) == (429, "insufficient_quota", False)
    assert error.details == {"rule": "key.budget", "resets_at": "2099-12-01T00:00:00Z", "budget_usd": 5.0}
    assert "$5" in error.message


def test_what_cannot_be_counted_or_priced_says_what_to_do() -> None:
    assert "prices_per_million" in unpriced("house").message
    assert (away("Redis is away").status, away("x").should_retry) == (503, True)
