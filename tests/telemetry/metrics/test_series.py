import random

import pytest

from llmgateway.telemetry.metrics.families import Family
from llmgateway.telemetry.metrics.series import Histogram, Series, Sketch, percentile


def test_a_value_that_equals_a_bound_is_below_it() -> None:
    histogram = Histogram((0.1, 1.0))

    for value in (0.05, 0.1, 0.5, 1.0, 2.0):
        histogram.observe(value)

    assert histogram.counts == [2, 2, 1]
    assert histogram.total == pytest.approx(3.65)


def test_percentiles_are_right_within_one_per_cent() -> None:
    chosen = random.Random(3)
    sketch, seen = Sketch(), sorted(chosen.lognormvariate(-1, 2) for _ in range(10_000))
    for value in seen:
        sketch.add(value)

    for part in (0.0, 0.5, 0.95, 0.99, 1.0):
        exact = seen[int(part * (len(seen) - 1))]
        assert percentile(sketch.counts, part) == pytest.approx(exact, rel=0.0101)


def test_a_sketch_of_nothing_has_no_percentile() -> None:
    assert percentile({}, 0.5) is None


def test_impossible_durations_do_not_break_a_sketch() -> None:
    sketch = Sketch()

    for value in (0.0, -1.0, 1e300):
        sketch.add(value)

    assert sum(sketch.counts.values()) == 3
    assert len(sketch.counts) == 2


def test_children_are_made_once() -> None:
    series = Series([Family("a_total", "counter", "", ("model",)), Family("b", "histogram", "", (), (1.0,))])

    series.counter("a_total", "x").value += 1
    series.counter("a_total", "x").value += 1
    series.histogram("b").observe(0.5)

    assert series.counters() == {"a_total": {("x",): 2.0}}
    assert series.histograms() == {"b": {(): ([1, 0], 0.5)}}


def test_pitfall_096_beyond_the_cap_models_and_providers_are_counted_as_other() -> None:
    families = [
        Family("a_total", "counter", "", ("operation", "model")),
        Family("b", "histogram", "", ("model",), (1.0,)),
    ]
    series = Series(families, most=3)

    for number in range(10):
        series.counter("a_total", "chat", f"model-{number}").value += 1
        series.histogram("b", f"model-{number}").observe(0.5)

    assert series.counters()["a_total"][("chat", "other")] == 7
    assert len(series.counters()["a_total"]) == 4
    assert series.histograms()["b"][("other",)] == ([7, 0], 3.5)
    assert series.counter("a_total", "chat", "model-1").value == 1
