import os
from pathlib import Path

import pytest

from llmgateway.telemetry.metrics.exposition import render
from llmgateway.telemetry.metrics.figures import Figures, Labels
from llmgateway.telemetry.metrics.shared import Shared
from tests.timing import relative_cost


def figures(value: float) -> Figures:
    return Figures(
        1000.0 - value,
        {"llm_requests_total": {("chat", "m", "p", "200", "false"): value}},
        {"llm_active_requests": {(): value}, "llm_database_up": {(): value % 2}},
        {"llm_event_loop_lag_seconds": {(): ([int(value)] + [0] * 10, value)}},
        {3: int(value)},
    )


def requests(total: Figures) -> float:
    return total.counters["llm_requests_total"][("chat", "m", "p", "200", "false")]


def test_each_process_sees_the_figures_of_all(tmp_path: Path) -> None:
    first, second, third = Shared(tmp_path / "new"), Shared(tmp_path / "new"), Shared(tmp_path / "new")
    first.write(figures(1))
    second.write(figures(2))

    for shared, own in ((first, 1), (second, 2)):
        total = shared.total(figures(own))
        assert requests(total) == 3
        assert total.gauges["llm_active_requests"][()] == 3
        assert total.gauges["llm_database_up"][()] == 0
        assert total.histograms["llm_event_loop_lag_seconds"][()] == ([3] + [0] * 10, 3)
        assert total.times == {3: 3}
        assert total.started == 998
        assert total.workers == 3
    third.close()


def test_what_the_dead_counted_stays_and_what_they_did_ends(tmp_path: Path) -> None:
    first, second = Shared(tmp_path), Shared(tmp_path)
    second.write(figures(5))
    second.close()

    for _ in range(3):
        total = first.total(figures(1))
        assert requests(total) == 6
        assert total.gauges["llm_active_requests"][()] == 1
        assert total.workers == 1
        assert total.started == 995


def test_files_of_the_dead_do_not_pile_up(tmp_path: Path) -> None:
    first = Shared(tmp_path)
    for number in range(20):
        passing = Shared(tmp_path)
        passing.write(figures(1))
        passing.close()
        passing.close()
        assert requests(first.total(figures(1))) == number + 2

    assert len(list(tmp_path.iterdir())) == 3  # the lock of all, the ended, its own lock


def test_whoever_dies_while_it_adds_up_counts_nobody_twice(tmp_path: Path) -> None:
    first, second = Shared(tmp_path), Shared(tmp_path)
    second.write(figures(5))
    second.close()
    left = {path: path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith(f"{os.getpid()}-")}
    assert requests(first.total(figures(1))) == 6
    for path, content in left.items():  # as if the files had not been deleted any more
        path.write_bytes(content)

    assert requests(first.total(figures(1))) == 6
    assert requests(first.total(figures(1))) == 6


def test_a_process_that_has_not_written_yet_is_alive(tmp_path: Path) -> None:
    first, second = Shared(tmp_path), Shared(tmp_path)

    total = first.total(figures(1))

    assert total.workers == 2
    second.write(figures(2))
    assert requests(first.total(figures(1))) == 3


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x81\xa1a\x01"])
def test_files_that_cannot_be_read_are_left_out(tmp_path: Path, content: bytes) -> None:
    first, second = Shared(tmp_path), Shared(tmp_path)
    second.write(figures(2))
    (tmp_path / "ended").write_bytes(content)
    for path in tmp_path.glob("*.metrics"):
        path.write_bytes(content)

    assert requests(first.total(figures(1))) == 1
    second.close()
    assert requests(first.total(figures(1))) == 1


def many(count: int) -> Figures:
    """Five thousand series as a scrape shows them: a histogram's child is 17 lines."""
    lines = [0, 1] + [2] * 13
    counters: dict[str, dict[Labels, float]] = {
        "llm_requests_total": {("chat", f"model-{i}", "main", "200", "true"): 1.0 for i in range(count // 2)}
    }
    labels = [("chat", f"model-{i}", "main", "true") for i in range(count // 2 // 17)]
    return Figures(0.0, counters, {}, {"llm_request_duration_seconds": dict.fromkeys(labels, (lines, 2.0))}, {1: 1})


@pytest.mark.alone
def test_pitfall_097_a_scrape_of_eight_workers_with_5000_series_each_takes_less_than_100_ms(tmp_path: Path) -> None:
    workers = [Shared(tmp_path) for _ in range(8)]
    for worker in workers:
        worker.write(many(5_000))
    own = many(5_000)
    render(Figures(0.0), [], "")  # the import is the first scrape's

    def scrape() -> bytes:
        return render(workers[0].total(own), ["main"], "")[0]

    text = scrape()
    assert text.count(b"\nllm_requests_total{") + text.count(b"\nllm_request_duration_seconds_") >= 4_990
    assert b'status="200",stream="true"} 8.0' in text
    # Three microseconds each: a tenth of a second is 34,000 of them.
    assert relative_cost(scrape, number=1) < 34_000
