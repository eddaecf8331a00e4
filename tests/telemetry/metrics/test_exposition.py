import pytest

from llmgateway.telemetry.metrics.exposition import render
from llmgateway.telemetry.metrics.families import FAMILIES
from llmgateway.telemetry.metrics.figures import Figures
from tests.telemetry.exchanges import scraped, scraped_open

OPEN = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
LABELS = ("chat", 'a "strange"\\name\n', "main", "200", "false")


def figures() -> Figures:
    counts = [1, 2] + [0] * 12 + [4]
    return Figures(
        100.0,
        counters={"llm_requests_total": {LABELS: 3.0}, "llm_cache_requests_total": {("hit",): 5.0}},
        gauges={"llm_upstream_connections": {("main", "busy"): 2.0}, "llm_active_requests": {(): 4.0}},
        histograms={"llm_request_duration_seconds": {("chat", "m", "main", "true"): (counts, 500.25)}},
    )


def test_prometheus_reads_it() -> None:
    text, content_type = render(figures(), ["main"], "text/plain")

    shown = scraped(text)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert shown.of("llm_requests_total", model='a "strange"\\name\n', status="200") == 3
    assert shown.of("llm_active_requests") == 4
    assert shown.of("llm_request_duration_seconds_bucket", le="0.01") == 1
    assert shown.of("llm_request_duration_seconds_bucket", le="81.92") == 3
    assert shown.of("llm_request_duration_seconds_bucket", le="+Inf") == 7
    assert shown.of("llm_request_duration_seconds_count", model="m") == 7
    assert shown.of("llm_request_duration_seconds_sum", model="m") == 500.25


def test_open_metrics_is_given_to_who_asks_for_it() -> None:
    text, content_type = render(figures(), ["main"], OPEN)

    shown = scraped_open(text)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert shown.of("llm_requests_total") == 3
    assert shown.types["llm_requests"] == "counter"


@pytest.mark.parametrize("accept", ["", "*/*", "text/html"])
def test_everybody_else_gets_the_old_text(accept: str) -> None:
    assert render(figures(), [], accept)[1].startswith("text/plain")


def test_every_metric_is_described() -> None:
    types = scraped(render(Figures(0.0), [], "")[0]).types

    assert {name: types[name.removesuffix("_total")] for name in (family.name for family in FAMILIES)} == {
        family.name: family.kind for family in FAMILIES
    }


def test_what_can_be_known_beforehand_is_there_at_zero() -> None:
    shown = scraped(render(figures(), ["main", "spare"], "")[0])

    assert shown.of("llm_circuit_openings_total", provider="spare", cause="auth") == 0
    assert shown.of("llm_retries_total", provider="spare") == 0
    assert shown.of("llm_upstream_connections", provider="spare", state="idle") == 0
    assert shown.of("llm_upstream_connections", provider="main", state="busy") == 2
    assert shown.of("llm_rate_limit_decisions_total", decision="limited") == 0
    assert shown.of("llm_cache_requests_total", result="hit") == 5
    assert shown.of("llm_cache_requests_total", result="coalesced") == 0
    assert shown.of("llm_queue_depth", priority="9") == 0
    assert shown.of("llm_jobs_running") == 0
    assert shown.of("llm_budget_used_ratio") == 0
    assert shown.of("llm_job_wait_seconds_count") is None
    assert shown.of("llm_overhead_seconds_count", stream="true") == 0
    assert shown.of("llm_jobs_total", outcome="failed") is None
    assert shown.of("llm_requests_total", model="none") is None
