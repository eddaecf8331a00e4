import msgspec
import pytest

from llmgateway.catalog.model import Prices
from llmgateway.catalog.prices import has_further, of_fields, of_row

LONG = {
    "input_cost_per_token": 1.0,
    "output_cost_per_token": 10.0,
    "cache_read_input_token_cost": 0.5,
    "output_cost_per_reasoning_token": 20.0,
    "input_cost_per_token_above_128k_tokens": 2.0,
    "input_cost_per_token_above_512k_tokens": 4.0,
    "output_cost_per_token_above_512k_tokens": 30.0,
    "cache_read_input_token_cost_above_512k_tokens": 3.0,
}


def test_the_longest_prompts_come_first_and_kinds_that_are_not_named_rise_with_their_side() -> None:
    prices = of_fields(LONG)

    assert prices is not None
    assert prices.above == (
        (512_000, Prices(4.0, 30.0, 3.0, reasoning=60.0)),
        (128_000, Prices(2.0, 10.0, 1.0, reasoning=20.0)),
    )
    chosen = [prices.for_request(tokens, None).input for tokens in (128_000, 128_001, 512_000, 512_001)]
    assert chosen == [1.0, 2.0, 2.0, 4.0]


def test_pitfall_041_a_tiers_discount_holds_for_long_prompts_as_well() -> None:
    tiers = {
        "input_cost_per_token_batches": 0.5,
        "cache_read_input_token_cost_batches": 0.5,
        "input_cost_per_token_priority": 2.0,
        "output_cost_per_token_priority": 20.0,
        "input_cost_per_token_above_512k_tokens_priority": 7.0,
    }
    prices = of_fields({**LONG, **tiers})

    assert prices is not None
    assert prices.for_request(600_000, "batch") == Prices(2.0, 30.0, 3.0, reasoning=60.0)
    assert prices.for_request(600_000, "priority") == Prices(7.0, 60.0, 6.0, reasoning=120.0)
    assert prices.for_request(1, "priority").output == 20.0
    assert prices.for_request(1, "unheard of").output == 10.0


def test_ranges_of_the_prompts_length_are_read() -> None:
    steps = [
        {"range": [32_000, 128_000], "input_cost_per_token": 2.0, "output_cost_per_token": 5.0},
        {"range": [0, 32_000], "input_cost_per_token": 1.0, "output_cost_per_token": 4.0},
    ]

    assert of_fields({"tiered_pricing": steps}) == Prices(1.0, 4.0, above=((32_000, Prices(2.0, 5.0)),))


@pytest.mark.parametrize(
    "fields",
    [
        {"input_cost_per_token_batches": 1.0},
        {"tiered_pricing": []},
        {"tiered_pricing": [5]},
        {"tiered_pricing": [{"range": [0, 1]}]},
        {"input_cost_per_token": "much", "input_cost_per_token_flex": 1.0},
    ],
)
def test_pitfall_043_a_row_that_does_not_say_what_the_input_costs_has_no_price(fields: dict[str, object]) -> None:
    assert of_fields(fields) is None


def test_a_price_of_nothing_stays_nothing_in_every_tier() -> None:
    prices = of_fields({"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "input_cost_per_token_flex": 0.0})

    assert prices is not None
    assert prices.for_request(9, "flex") == Prices(0.0, 0.0)


def test_xais_long_prompts_begin_one_token_earlier() -> None:
    row = msgspec.json.encode({**LONG, "input_cost_per_token_batches": 0.5})
    own, other = of_row(row, "xai"), of_row(row, "openai")

    assert own is not None
    assert other is not None
    assert (own.for_request(128_000, None).input, other.for_request(128_000, None).input) == (2.0, 1.0)
    assert (own.for_request(128_000, "batch").input, other.for_request(128_000, "batch").input) == (1.0, 0.5)


def test_a_row_with_one_price_a_kind_is_not_read_twice() -> None:
    assert not has_further(b'{"input_cost_per_token": 1, "output_cost_per_token_above": 2}', has_input=True)
    assert has_further(b'{"input_cost_per_token": 1, "input_cost_per_token_flex": 2}', has_input=True)
    assert has_further(b'{"tiered_pricing": []}', has_input=False)
