import msgspec

from llmgateway.telemetry.metrics.figures import Figures

ACROSS = {"least": "min", "most": "max"}


def figures(value: float, **fields: object) -> Figures:
    made = Figures(
        100.0 + value,
        {"c_total": {("a",): value}},
        {"sum": {(): value}, "least": {(): value}, "most": {(): value}},
        {"h": {("a",): ([int(value), 0], value)}},
        {7: int(value)},
    )
    return msgspec.structs.replace(made, **fields)


def test_counters_histograms_and_sketches_add_up() -> None:
    total = figures(1.0)

    total.add(figures(2.0), ACROSS)  # type: ignore[arg-type]

    assert total.started == 101.0
    assert total.counters == {"c_total": {("a",): 3.0}}
    assert total.histograms == {"h": {("a",): ([3, 0], 3.0)}}
    assert total.times == {7: 3}
    assert total.workers == 2


def test_gauges_become_one_as_their_family_says() -> None:
    total = figures(1.0)

    total.add(figures(2.0), ACROSS)  # type: ignore[arg-type]

    assert total.gauges == {"sum": {(): 3.0}, "least": {(): 1.0}, "most": {(): 2.0}}


def test_what_only_the_other_has_is_taken_over() -> None:
    total = Figures(100.0, workers=0)

    total.add(figures(2.0), {})

    assert total.counters == figures(2.0).counters
    assert total.gauges == figures(2.0).gauges
    assert total.histograms == figures(2.0).histograms


def test_histograms_of_other_bounds_are_not_mixed() -> None:
    total = figures(1.0)

    total.add(figures(2.0, histograms={"h": {("a",): ([1, 1, 1], 9.0)}}), {})

    assert total.histograms == {"h": {("a",): ([1, 0], 1.0)}}


def test_gauges_do_not_outlive_their_process() -> None:
    lasting = figures(1.0).lasting()

    assert lasting.gauges == {}
    assert lasting.workers == 0
    assert lasting.counters == figures(1.0).counters


def test_they_survive_being_written_and_read() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(figures(1.0)), type=Figures) == figures(1.0)
