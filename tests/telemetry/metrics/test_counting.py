from typing import Any

import pytest

from llmgateway.catalog.model import Model
from llmgateway.exchange import Event, Exchange, Usage
from llmgateway.telemetry.metrics.counting import Counting, bounded_outcome
from llmgateway.telemetry.metrics.families import FAMILIES
from llmgateway.telemetry.metrics.figures import Labels
from llmgateway.telemetry.metrics.series import Series, Sketch
from tests.telemetry.exchanges import MAIN, SPARE, ended


class Counted:
    def __init__(self, *exchanges: Exchange) -> None:
        self._series = Series(FAMILIES)
        self.times = Sketch()
        self.counting = Counting(self._series, self.times)
        for exchange in exchanges:
            self.counting.record(exchange)

    def counter(self, name: str) -> dict[Labels, float]:
        return {labels: value for labels, value in self._series.counters()[name].items() if value}

    def measured(self, name: str) -> dict[Labels, tuple[int, object]]:
        histograms = self._series.histograms()[name].items()
        return {labels: (sum(counts), pytest.approx(total)) for labels, (counts, total) in histograms if sum(counts)}


def test_an_answer_is_counted_with_its_labels() -> None:
    counted = Counted(ended((MAIN, 1.5, "ok"), took_s=2.0))

    assert counted.counter("llm_requests_total") == {("chat", "chat", "main", "200", "false"): 1}
    assert counted.measured("llm_request_duration_seconds") == {("chat", "chat", "main", "false"): (1, 2.0)}
    assert counted.measured("llm_overhead_seconds") == {("false",): (1, 0.5)}
    assert counted.counter("llm_attempts_total") == {("main", "chat", "ok"): 1}
    assert counted.measured("llm_attempt_duration_seconds") == {("main", "chat"): (1, 1.5)}
    assert sum(counted.times.counts.values()) == 1


def test_what_is_no_model_call_is_not_counted() -> None:
    counted = Counted(ended(operation=None))

    assert counted.counter("llm_requests_total") == {}
    assert counted.counter("llm_cache_requests_total") == {}


def test_pitfall_098_every_ending_is_counted_once() -> None:
    exchanges = [
        ended((MAIN, 1.0, "ok")),
        ended((MAIN, 1.0, "provider_unavailable"), status=502, error_code="provider_unavailable"),
        ended((MAIN, 1.0, "cancelled"), status=499, error_code="client_closed_request"),
        ended((MAIN, 1.0, "provider_timeout"), status=504, error_code="provider_timeout"),
        ended(status=400, error_code="invalid_json", model_label="other"),
        ended(status=404, error_code="model_not_found", model_label="other"),
        ended((MAIN, 1.0, None), ended=None, status=None, error_code="internal_error"),
    ]

    counted = Counted(*exchanges)

    assert sum(counted.counter("llm_requests_total").values()) == len(exchanges)
    assert {labels[3] for labels in counted.counter("llm_requests_total")} == {
        *("200", "502", "499", "504", "400", "404", "500")
    }
    assert counted.counter("llm_requests_total")["chat", "other", "none", "404", "false"] == 1
    assert counted.counter("llm_attempts_total")["main", "chat", "internal_error"] == 1


def test_a_stream_tells_when_its_first_token_came_and_how_long_each_took() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=11)

    counted = Counted(ended((MAIN, 2.0, "ok"), took_s=2.0, first_chunk_s=0.5, stream=True, usage=usage))

    assert counted.measured("llm_time_to_first_token_seconds") == {("chat", "chat", "main"): (1, 0.5)}
    assert counted.measured("llm_time_per_output_token_seconds") == {("chat", "chat", "main"): (1, 0.15)}
    assert counted.counter("llm_streams_truncated_total") == {}


@pytest.mark.parametrize("usage", [None, Usage(1, 0), Usage(1, 1)])
def test_a_stream_of_less_than_two_tokens_has_no_time_per_token(usage: Usage | None) -> None:
    counted = Counted(ended((MAIN, 2.0, "ok"), first_chunk_s=0.5, stream=True, usage=usage))

    assert counted.measured("llm_time_per_output_token_seconds") == {}
    assert counted.measured("llm_time_to_first_token_seconds") != {}


def test_a_stream_that_broke_off_is_the_providers() -> None:
    broken = ended(
        (MAIN, 1.0, "provider_unavailable"),
        first_chunk_s=1.2,
        stream=True,
        usage=Usage(1, 9, estimated=True),
        error_code="provider_unavailable",
    )

    counted = Counted(broken)

    assert counted.counter("llm_streams_truncated_total") == {("main",): 1}
    assert counted.measured("llm_time_per_output_token_seconds") == {}
    assert counted.counter("llm_usage_estimated_total") == {("chat", "main"): 1}
    assert counted.counter("llm_tokens_total") == {("chat", "main", "input"): 1, ("chat", "main", "output"): 9}


def test_a_stream_that_never_began_is_not_broken_off() -> None:
    failed = ended((MAIN, 1.0, "provider_unavailable"), stream=True, status=502, error_code="provider_unavailable")

    assert Counted(failed).counter("llm_streams_truncated_total") == {}


def test_clients_that_leave_are_told_apart_by_what_they_had_seen() -> None:
    gone: dict[str, Any] = {"status": 499, "error_code": "client_closed_request"}

    counted = Counted(
        ended((MAIN, 1.0, "cancelled"), **gone),
        ended((MAIN, 1.0, "cancelled"), stream=True, **gone),
        ended((MAIN, 1.0, "cancelled"), stream=True, first_chunk_s=1.5, **gone),
        ended(**gone),
    )

    assert counted.counter("llm_client_disconnects_total") == {("before_first_byte",): 3, ("streaming",): 1}
    assert counted.counter("llm_streams_truncated_total") == {}


def test_retries_and_failovers_name_the_provider_that_failed() -> None:
    failed = "provider_unavailable"
    event = Event("failover", 0.0, {"from": "main/gpt-4o", "to": "spare/claude", "cause": failed})

    counted = Counted(ended((MAIN, 0.1, failed), (MAIN, 0.1, failed), (SPARE, 0.1, "ok"), events=[event]))

    assert counted.counter("llm_retries_total") == {("main",): 1}
    assert counted.counter("llm_failovers_total") == {("main", failed): 1}
    assert counted.counter("llm_attempts_total") == {("main", "chat", failed): 2, ("spare", "chat", "ok"): 1}
    assert counted.counter("llm_requests_total") == {("chat", "chat", "spare", "200", "false"): 1}


def test_fallbacks_races_and_rescues_are_counted_by_their_events() -> None:
    counted = Counted(
        ended(
            (MAIN, 0.1, "ok"),
            events=[
                Event("fallback", 0.0, {"from": "chat", "to": "small", "cause": "context_length_exceeded"}),
                Event("fallback", 0.0, {"from": "chat", "to": "small", "cause": "a provider's own words"}),
                Event("race", 0.0, {"kind": "hedge", "won": True}),
                Event("race", 0.0, {"kind": "hedge", "won": False}),
                Event("race", 0.0, {"kind": "silence", "won": True}),
                Event("rescue", 0.0, {"from": "main/a", "to": "spare/b", "ok": True}),
                Event("rescue", 0.0, {"from": "main/a", "to": "", "ok": False}),
                Event("limit", 0.0, {"rule": "x"}),
            ],
        )
    )

    assert counted.counter("llm_fallbacks_total") == {
        ("chat", "small", "context_length_exceeded"): 1,
        ("chat", "small", "other"): 1,
    }
    assert counted.counter("llm_hedges_total") == {
        ("chat", "hedge", "won"): 1,
        ("chat", "hedge", "lost"): 1,
        ("chat", "silence", "won"): 1,
    }
    assert counted.counter("llm_rescues_total") == {("chat", "ok"): 1, ("chat", "failed"): 1}


@pytest.mark.parametrize(("status", "code"), [(503, "no_healthy_deployment"), (429, "provider_rate_limited")])
def test_a_call_that_found_all_at_rest_is_counted_as_the_first_ones(status: int, code: str) -> None:
    resting = ended(status=status, error_code=code, model=Model("chat", (MAIN, SPARE)))
    full = ended(status=503, error_code="overloaded", model=Model("chat", (MAIN, SPARE)))

    counted = Counted(resting, full)

    assert counted.counter("llm_requests_total") == {
        ("chat", "chat", "main", str(status), "false"): 1,
        ("chat", "chat", "none", "503", "false"): 1,
    }


def test_two_attempts_side_by_side_wait_together() -> None:
    exchange = ended((MAIN, 1.0, "superseded"), (SPARE, 1.0, "ok"), took_s=2.0)
    exchange.attempts[1].started = exchange.attempts[0].started
    exchange.attempts[0].ended = exchange.attempts[1].ended

    counted = Counted(exchange)

    assert counted.measured("llm_overhead_seconds") == {("false",): (1, 0.0)}
    assert counted.counter("llm_attempts_total") == {("main", "chat", "superseded"): 1, ("spare", "chat", "ok"): 1}


def test_tokens_are_counted_by_kind() -> None:
    usage = Usage(
        prompt_tokens=100,
        completion_tokens=50,
        cached_tokens=40,
        cache_write_tokens=10,
        cache_write_1h_tokens=5,
        reasoning_tokens=30,
    )

    counted = Counted(ended((MAIN, 1.0, "ok"), usage=usage, cost_usd=0.25), ended((MAIN, 1.0, "ok")))

    assert counted.counter("llm_tokens_total") == {
        ("chat", "main", "input"): 100,
        ("chat", "main", "output"): 50,
        ("chat", "main", "cached"): 40,
        ("chat", "main", "cache_write"): 15,
        ("chat", "main", "reasoning"): 30,
    }
    assert counted.counter("llm_cost_usd_total") == {("chat", "main"): 0.25}
    assert counted.counter("llm_price_unknown_total") == {}


def test_an_unknown_price_is_counted_and_costs_nothing() -> None:
    counted = Counted(ended((MAIN, 1.0, "ok"), usage=Usage(1, 1), cost_usd=None))

    assert counted.counter("llm_price_unknown_total") == {("chat", "main"): 1}
    assert counted.counter("llm_cost_usd_total") == {}


def test_what_the_cache_did_is_counted() -> None:
    counted = Counted(*(ended(cache_status=status) for status in ("HIT", "MISS", "MISS", "BYPASS", "STRANGE")))

    assert counted.counter("llm_cache_requests_total") == {("hit",): 1, ("miss",): 2, ("bypass",): 1}


def test_pitfall_096_a_providers_own_code_is_no_label() -> None:
    counted = Counted(*(ended((MAIN, 1.0, f"code-{number}"), status=400) for number in range(20_000)))

    assert counted.counter("llm_attempts_total") == {("main", "chat", "other"): 20_000}
    assert bounded_outcome("ok") == "ok"


def test_pitfall_096_ten_thousand_names_grow_no_family_beyond_its_cap() -> None:
    names = [f"name-{number}" for number in range(12_000)]

    counted = Counted(*(ended((MAIN, 1.0, "ok"), model_label=name) for name in names))

    assert sum(counted.counter("llm_requests_total").values()) == len(names)
    assert len(counted.counter("llm_requests_total")) == 2_001
    assert counted.counter("llm_requests_total")["chat", "other", "other", "200", "false"] == 10_000
