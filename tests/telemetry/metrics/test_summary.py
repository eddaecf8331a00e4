from datetime import UTC, datetime

import pytest

from llmgateway.exchange import Usage
from llmgateway.telemetry.metrics.counting import Counting
from llmgateway.telemetry.metrics.families import FAMILIES
from llmgateway.telemetry.metrics.figures import Figures, Labels
from llmgateway.telemetry.metrics.series import Series, Sketch
from llmgateway.telemetry.metrics.summary import summary
from tests.telemetry.exchanges import MAIN, SPARE, ended

CONTRACT = {
    *("total_requests", "requests_by_provider", "requests_by_model", "total_tokens_used", "total_cost"),
    *("average_response_time", "p50_response_time", "p95_response_time", "p99_response_time", "cache_hit_rate"),
    *("error_rate", "uptime_seconds", "active_requests", "requests_by_status"),
}


def now() -> float:
    return datetime.now(UTC).timestamp()


def test_real_figures_are_summed_up() -> None:
    series, times = Series(FAMILIES), Sketch()
    counting = Counting(series, times)
    for number in range(1, 101):
        usage = Usage(10, 5, cached_tokens=4, reasoning_tokens=2)
        counting.record(ended((MAIN, 0.0, "ok"), took_s=number / 100, usage=usage, cost_usd=0.01, cache_status="MISS"))
    for _ in range(100):
        counting.record(ended((SPARE, 0.0, "x"), took_s=1.0, status=502, error_code="x", cache_status="HIT"))

    gauges: dict[str, dict[Labels, float]] = {"llm_active_requests": {(): 3.0}}
    shown = summary(Figures(now() - 60, series.counters(), gauges, series.histograms(), times.counts))

    assert set(shown) >= CONTRACT
    assert shown["total_requests"] == 200
    assert shown["requests_by_provider"] == {"main": 100, "spare": 100}
    assert shown["requests_by_model"] == {"chat": 200}
    assert shown["requests_by_status"] == {"200": 100, "502": 100}
    assert shown["total_tokens_used"] == 1500
    assert shown["total_cost"] == pytest.approx(1.0)
    assert shown["average_response_time"] == pytest.approx(0.7525)
    assert shown["p50_response_time"] == pytest.approx(1.0, rel=0.011)
    assert shown["p99_response_time"] == pytest.approx(1.0, rel=0.011)
    assert shown["cache_hit_rate"] == 0.5
    assert shown["error_rate"] == 0.5
    assert shown["uptime_seconds"] == pytest.approx(60, abs=5)
    assert shown["active_requests"] == 3


def test_percentiles_are_those_of_the_requests() -> None:
    series, times = Series(FAMILIES), Sketch()
    for number in range(1, 1001):
        Counting(series, times).record(ended(took_s=number / 1000))

    shown = summary(Figures(now(), series.counters(), {}, series.histograms(), times.counts))

    assert shown["p50_response_time"] == pytest.approx(0.5, rel=0.011)
    assert shown["p95_response_time"] == pytest.approx(0.95, rel=0.011)
    assert shown["p99_response_time"] == pytest.approx(0.99, rel=0.011)


def test_before_the_first_request_nothing_is_made_up() -> None:
    shown = summary(Figures(now()))

    assert set(shown) >= CONTRACT
    assert (shown["total_requests"], shown["total_cost"], shown["error_rate"], shown["cache_hit_rate"]) == (0, 0, 0, 0)
    assert shown["average_response_time"] is None
    assert shown["p99_response_time"] is None


def test_clients_that_leave_are_no_errors_and_broken_streams_are() -> None:
    series, times = Series(FAMILIES), Sketch()
    counting = Counting(series, times)
    counting.record(ended((MAIN, 1.0, "cancelled"), status=499, error_code="client_closed_request"))
    broken = ended((MAIN, 1.0, "x"), first_chunk_s=1.5, stream=True, error_code="provider_unavailable")
    counting.record(broken)

    shown = summary(Figures(now(), series.counters(), {}, series.histograms(), times.counts))

    assert shown["error_rate"] == 0.5
    assert shown["requests_by_status"] == {"499": 1, "200": 1}
