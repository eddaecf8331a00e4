"""What OpenTelemetry calls a gateway's metrics (GenAI semantic conventions 1.41), where OTLP is on.

As a server it answers clients, as a client it asks providers. What Prometheus has in the same buckets with the same
labels is not counted a second time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from llmgateway.exchange import Attempt, Exchange, Operation
from llmgateway.telemetry.metrics.counting import bounded_outcome
from llmgateway.telemetry.metrics.families import FIRST_TOKEN, GENAI, PER_TOKEN
from llmgateway.telemetry.metrics.figures import Histogrammed, Labels
from llmgateway.telemetry.metrics.series import OTHER, Histogram, Series
from llmgateway.telemetry.traces.names import OPERATIONS, provider_name

# Who answered where no provider was asked.
_OURSELVES = "llmgateway"
_ATTRIBUTES = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "error": "error.type",
    "token": "gen_ai.token.type",
}
# OpenTelemetry's name, Prometheus's name, what it says, its buckets.
_REUSED = (
    ("gen_ai.server.time_to_first_token", "llm_time_to_first_token_seconds", FIRST_TOKEN),
    ("gen_ai.server.time_per_output_token", "llm_time_per_output_token_seconds", PER_TOKEN),
)
_MOST_BOUND = 10_000

Key = tuple[Operation, str, str, str | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One histogram as it is sent: its points by their attributes."""

    name: str
    help: str
    unit: str
    bounds: tuple[float, ...]
    points: list[tuple[dict[str, str], Histogrammed]]


class GenAI:
    """Counts what Prometheus does not.

    Args:
        series: Prometheus's own numbers.
    """

    def __init__(self, series: Series) -> None:
        self._prometheus = series
        self._series = Series(GENAI)
        self._answered: dict[Key, Histogram] = {}
        self._asked: dict[Key, _Asked] = {}
        self._used: dict[tuple[Operation, str, str], tuple[Histogram, Histogram]] = {}
        self._provider_of: dict[str, str] = {}

    def record(self, exchange: Exchange) -> None:
        """Count an exchange that has ended; the event loop's thread only."""
        if exchange.operation is None or exchange.ended is None:
            return
        operation, model, provider = exchange.operation, exchange.model_label, ""
        for attempt in exchange.attempts:
            provider = attempt.deployment.account.provider
            self._count_attempt(exchange, attempt, (operation, provider, model, attempt.outcome))
        key = (operation, provider, model, exchange.error_code)
        answered = self._answered.get(key)
        if answered is None:
            answered = self._series.histogram("gen_ai.server.request.duration", *_labels(key))
            if len(self._answered) < _MOST_BOUND:
                self._answered[key] = answered
        answered.observe(exchange.ended - exchange.started)
        if exchange.usage is not None:
            read, wrote = self._used.get(key[:3]) or self._bind_usage(key)
            read.observe(exchange.usage.prompt_tokens)
            if operation != "embedding":
                wrote.observe(exchange.usage.completion_tokens)

    def measured(self) -> Iterator[Measured]:
        """Give every histogram with its points; any thread."""
        histograms = self._series.histograms()
        for family in GENAI:
            points = [(_named(family.labels, labels), point) for labels, point in histograms[family.name].items()]
            unit = "{token}" if "token" in family.labels else "s"
            yield Measured(family.name, family.help, unit, family.buckets, _told(points))
        reused = self._prometheus.histograms()
        for name, own_name, bounds in _REUSED:
            points = [(self._named_as_others(labels), point) for labels, point in reused[own_name].items()]
            yield Measured(name, "", "s", bounds, _told(points))

    def _count_attempt(self, exchange: Exchange, attempt: Attempt, key: Key) -> None:
        asked = self._asked.get(key)
        if asked is None:
            self._provider_of[attempt.provider] = provider_name(key[1])
            asked = _Asked(self._series, key)
            if len(self._asked) < _MOST_BOUND:
                self._asked[key] = asked
        ended = exchange.ended if attempt.ended is None else attempt.ended
        if ended is not None:
            asked.duration.observe(ended - attempt.started)
        if attempt.first_chunk is not None:
            asked.first_chunk.observe(attempt.first_chunk - attempt.started)

    def _bind_usage(self, key: Key) -> tuple[Histogram, Histogram]:
        operation, provider, model, _ = _labels(key)
        name = "gen_ai.client.token.usage"
        read = self._series.histogram(name, operation, provider, model, "input")
        wrote = self._series.histogram(name, operation, provider, model, "output")
        if len(self._used) < _MOST_BOUND:
            self._used[key[:3]] = read, wrote
        return read, wrote

    def _named_as_others(self, labels: Labels) -> dict[str, str]:
        operation, model, account = labels
        provider = self._provider_of.get(account, OTHER)
        # Prometheus's label is the operation as it is.
        return _named(("operation", "provider", "model"), (OPERATIONS[cast("Operation", operation)], provider, model))


class _Asked:
    """Attempts of the same labels and outcome."""

    __slots__ = ("duration", "first_chunk")

    def __init__(self, series: Series, key: Key) -> None:
        labels = _labels(key)
        self.duration = series.histogram("gen_ai.client.operation.duration", *labels)
        self.first_chunk = series.histogram("gen_ai.client.operation.time_to_first_chunk", *labels[:3])


def _labels(key: Key) -> tuple[str, str, str, str]:
    operation, provider, model, outcome = key
    error = "" if outcome is None or outcome == "ok" else bounded_outcome(outcome)
    name = provider_name(provider) if provider else _OURSELVES
    return OPERATIONS[operation], name, model, error


def _named(names: tuple[str, ...], labels: Labels) -> dict[str, str]:
    """Name labels as the conventions do; an error of nothing is left out."""
    return {_ATTRIBUTES[name]: label for name, label in zip(names, labels, strict=True) if label}


def _told(points: list[tuple[dict[str, str], Histogrammed]]) -> list[tuple[dict[str, str], Histogrammed]]:
    """Leave out what nothing has been counted in, and add up what has the same attributes."""
    sums: dict[Labels, tuple[dict[str, str], Histogrammed]] = {}
    for attributes, (counts, total) in points:
        if not any(counts):
            continue
        key = tuple(attributes.values())
        _, (others, before) = sums.get(key, (attributes, ([0] * len(counts), 0.0)))
        sums[key] = attributes, ([a + b for a, b in zip(others, counts, strict=True)], before + total)
    return list(sums.values())
