import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.catalog.model import Prices
from llmgateway.exchange import Usage
from llmgateway.routing.choosing.candidate import UNPRICED, Candidate
from llmgateway.routing.cost import cost_usd
from llmgateway.routing.health.book import HealthBook
from tests.routing.choosing.simulated import deployment

DEAR = Prices(5e-6, 20e-6)
TIERS = Prices(1e-6, 4e-6, tiers=(("priority", DEAR),))
LONG = Prices(1e-6, 4e-6, above=((200_000, DEAR), (100_000, Prices(2e-6, 8e-6))))
tokens = st.integers(0, 10**6)


def candidate(prices: Prices | None) -> Candidate:
    one = deployment(0, weight=3.0, prices=prices)
    return Candidate(one, HealthBook().of(one), 4)


def test_it_carries_what_a_choice_needs() -> None:
    one = candidate(DEAR)

    assert (one.place, one.weight, one.name) == (4, 3.0, "account-0/model")
    assert one.health.model == one.deployment.model


def test_a_call_costs_what_its_tokens_cost() -> None:
    assert candidate(DEAR).cost_usd(1000, 100) == pytest.approx(0.007)


def test_what_has_no_price_costs_nobody_knows_what() -> None:
    one = candidate(None)

    assert one.cost_usd(0, 0) == one.cost_usd(1000, 100) == UNPRICED == math.inf
    assert not one.is_plain


def test_what_is_free_has_a_price() -> None:
    assert candidate(Prices(0.0, 0.0)).cost_usd(1000, 100) == 0.0


def test_long_prompts_cost_more_where_the_provider_says_so() -> None:
    one = candidate(LONG)

    assert not one.is_plain
    assert one.cost_usd(100_000, 0) == pytest.approx(0.1)
    assert one.cost_usd(150_000, 0) == pytest.approx(0.3)
    assert one.cost_usd(250_000, 0) == pytest.approx(1.25)


def test_prices_of_other_service_tiers_do_not_make_it_slow() -> None:
    assert candidate(TIERS).is_plain
    assert candidate(TIERS).cost_usd(1000, 0) == pytest.approx(0.001)


@given(st.sampled_from([DEAR, TIERS, LONG]), tokens, tokens)
def test_the_estimate_and_the_bill_are_counted_alike(prices: Prices, prompt: int, answer: int) -> None:
    one = candidate(prices)

    cost = one.cost_usd(prompt, answer)

    assert cost == pytest.approx(cost_usd(Usage(prompt, answer), prices))
    if one.is_plain:
        assert cost == prompt * one.input_usd + answer * one.output_usd
