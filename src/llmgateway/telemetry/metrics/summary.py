"""The figures as JSON, for people and programs without a Prometheus: real ones since the start, of all processes."""

from collections.abc import Callable
from datetime import UTC, datetime

from llmgateway.telemetry.metrics.figures import Figures, Labels
from llmgateway.telemetry.metrics.series import percentile

_CLIENT_ERROR, _GONE = 400, 499
_KEPT = frozenset({"hit", "coalesced"})


def summary(figures: Figures) -> dict[str, object]:
    """Sum the figures up. Times in seconds, rates from 0 to 1; a percentile of nothing is `None`."""
    requests = figures.counters.get("llm_requests_total", {})
    total = sum(requests.values())
    cost_usd = sum(figures.counters.get("llm_cost_usd_total", {}).values())
    taken_s = sum(seconds for _, seconds in figures.histograms.get("llm_request_duration_seconds", {}).values())
    return {
        "total_requests": int(total),
        "requests_by_provider": _by(requests, 2),
        "requests_by_model": _by(requests, 1),
        "requests_by_status": _by(requests, 3),
        "total_tokens_used": int(_sum(figures.counters.get("llm_tokens_total", {}), _is_whole_kind)),
        "total_cost": round(cost_usd, 9),
        "average_response_time": round(taken_s / total, 6) if total else None,
        **{f"p{part}_response_time": _percentile(figures, part) for part in (50, 95, 99)},
        "cache_hit_rate": _cache_hit_rate(figures.counters.get("llm_cache_requests_total", {})),
        "error_rate": round(_failed(figures, requests) / total, 6) if total else 0.0,
        "uptime_seconds": round(max(0.0, datetime.now(UTC).timestamp() - figures.started), 3),
        "active_requests": int(_sum(figures.gauges.get("llm_active_requests", {}))),
        "workers": figures.workers,
    }


def _by(counted: dict[Labels, float], place: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for labels, value in counted.items():
        sums[labels[place]] = sums.get(labels[place], 0) + int(value)
    return sums


def _sum(counted: dict[Labels, float], takes: Callable[[Labels], bool] = lambda _: True) -> float:
    return sum(value for labels, value in counted.items() if takes(labels))


def _is_whole_kind(labels: Labels) -> bool:
    """All other kinds are part of these two."""
    return labels[2] in {"input", "output"}


def _percentile(figures: Figures, part: int) -> float | None:
    value = percentile(figures.times, part / 100)
    return None if value is None else round(value, 6)


def _cache_hit_rate(counted: dict[Labels, float]) -> float:
    kept = _sum(counted, lambda labels: labels[0] in _KEPT)
    asked = _sum(counted, lambda labels: labels[0] != "bypass")
    return round(kept / asked, 6) if asked else 0.0


def _failed(figures: Figures, requests: dict[Labels, float]) -> float:
    """Count refused and failed requests and streams that broke off; a client that left is no failure."""
    refused = _sum(requests, lambda labels: int(labels[3]) >= _CLIENT_ERROR and int(labels[3]) != _GONE)
    return refused + _sum(figures.counters.get("llm_streams_truncated_total", {}))
