import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.stores.gcra import EXACT, rescaled, scale_of
from tests.stores.rig import rate


@pytest.mark.parametrize(
    ("limit", "burst", "period_s", "scale"),
    [
        (60, 10, 60.0, (1_000_000, 1, 10_000_000)),
        (200_000, 200_000, 60.0, (300, 1, 60_000_000)),
        (7, 2, 60.0, (60_000_000, 7, 120_000_000)),
    ],
)
def test_a_rate_is_counted_in_the_smallest_whole_numbers(
    limit: int, burst: int, period_s: float, scale: tuple[int, int, int]
) -> None:
    found = scale_of(rate(limit, burst, period_s=period_s))

    assert (found.unit, found.drain, found.full) == scale


@given(st.integers(1, 10**10), st.integers(1, 10**9), st.sampled_from([1, 60, 3600, 86_400]))
def test_numbers_stay_exact_and_no_rate_becomes_faster(limit: int, burst: int, period_s: int) -> None:
    found = scale_of(rate(limit, burst, period_s=float(period_s)))
    real, wanted = Fraction(found.drain, found.unit), Fraction(limit, period_s * 1_000_000)

    assert found.full == found.burst * found.unit <= EXACT // 2
    assert found.burst == burst or burst > 10_000 * limit
    assert real <= wanted
    if limit < 10**8 and burst <= limit:
        assert real >= wanted * (1 - Fraction(1, 5_000))


@pytest.mark.parametrize("limit", [1, 7, 59, 500, 9_999, 1_000_003])
@pytest.mark.parametrize("period_s", [60, 3600])
def test_rates_that_people_set_are_exact(limit: int, period_s: int) -> None:
    found = scale_of(rate(limit, math.ceil(limit / 6), period_s=float(period_s)))

    assert Fraction(found.drain, found.unit) == Fraction(limit, period_s * 1_000_000)


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_level_carried_over_is_never_less(units: int, unit: int, new_unit: int) -> None:
    assert rescaled(units * unit, unit, new_unit) >= units * new_unit * (1 - 1e-15)


def test_what_is_left_is_never_negative() -> None:
    limited = rate(60, 10)
    state = scale_of(limited).state(limited, 12_500_000)

    assert (state.remaining, state.reset_s) == (0, 12.5)
