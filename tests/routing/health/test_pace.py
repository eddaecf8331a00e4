from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.routing.health.pace import Pace


def paced(*samples_s: float, every_s: float = 1.0) -> Pace:
    """Give a pace that took these samples, the first at 1000."""
    pace = Pace()
    for number, took_s in enumerate(samples_s):
        pace.add(1000.0 + number * every_s, took_s)
    return pace


def test_nothing_is_known_in_the_beginning() -> None:
    pace = Pace()

    assert (pace.samples, pace.mean_s, pace.peak_s, pace.measured_at) == (0, 0.0, 0.0, 0.0)
    assert pace.peak_now_s(1000.0) == pace.slowest_s(1000.0) == 0.0
    assert pace.percentile_s(95) is None


def test_the_first_sample_is_the_mean() -> None:
    assert paced(0.3).mean_s == 0.3


def test_the_mean_follows_the_samples_calmly() -> None:
    pace = paced(1.0, 2.0)

    assert pace.mean_s == pytest.approx(1.2)


def test_a_sample_after_a_long_silence_counts_more() -> None:
    often, seldom = paced(5.0, 0.1, every_s=0.1), paced(5.0, 0.1, every_s=120.0)

    assert often.mean_s == pytest.approx(4.02)
    assert seldom.mean_s < 1.0


def test_the_peak_is_there_at_once_and_fades_within_seconds() -> None:
    pace = paced(0.1, 2.0)

    assert pace.peak_s == 2.0
    assert pace.peak_now_s(1001.5) == 2.0
    assert pace.peak_now_s(1011.0) == pytest.approx(2.0 / 2.718, rel=0.01)
    for number in range(60):
        pace.add(1002.0 + number, 0.1)
    assert pace.peak_s == pytest.approx(0.1, rel=0.1)


def test_the_slowest_of_the_last_minutes_is_remembered() -> None:
    pace = paced(*[0.1] * 10, 3.0, *[0.1] * 60)

    assert pace.slowest_s(1070.5) == pytest.approx(3.0, rel=0.15)
    assert pace.slowest_s(1070.5 + 3600.0) < 0.1
    assert pace.peak_now_s(1070.5) < 0.2


def test_a_percentile_is_one_of_the_samples() -> None:
    pace = paced(*[number / 100 for number in range(1, 101)])

    assert pace.percentile_s(95) == 0.95
    assert pace.percentile_s(50) == 0.5
    assert pace.percentile_s(100) == 1.0
    assert pace.percentile_s(0) == 0.01


def test_a_percentile_needs_some_samples() -> None:
    assert paced(*[0.1] * 15).percentile_s(95) is None
    assert paced(*[0.1] * 16).percentile_s(95) == 0.1


def test_a_percentile_is_of_the_last_samples() -> None:
    pace = paced(*[9.0] * 200, *[0.1] * 128)

    assert pace.percentile_s(100) == 0.1


def test_a_percentile_is_counted_again_now_and_then_only() -> None:
    pace = paced(*[0.1] * 16)
    pace.percentile_s(95)

    for number in range(15):
        pace.add(2000.0 + number, 5.0)
        assert pace.percentile_s(95) == 0.1
    pace.add(2015.0, 5.0)
    assert pace.percentile_s(95) == 5.0


def test_it_forgets_all() -> None:
    pace = paced(*[0.1] * 40)

    pace.forget()

    assert (pace.samples, pace.mean_s, pace.peak_s, pace.measured_at) == (0, 0.0, 0.0, 0.0)
    assert pace.slowest_s(1041.0) == 0.0
    assert pace.percentile_s(95) is None


@given(st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=200), st.floats(0.001, 100.0))
def test_all_figures_lie_between_the_samples(samples: list[float], every_s: float) -> None:
    pace = Pace()
    for number, took_s in zip(count(), samples, strict=False):
        pace.add(1000.0 + number * every_s, took_s)

    least, most = min(samples) - 1e-9, max(samples) + 1e-9
    assert least <= pace.mean_s <= most
    assert least <= pace.peak_s <= most
    assert 0.0 <= pace.slowest_s(pace.measured_at) <= most
    percentile_s = pace.percentile_s(95)
    assert percentile_s is None or percentile_s in samples
