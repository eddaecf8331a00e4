"""The figures as Prometheus and OpenMetrics read them. The one module that knows `prometheus_client`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, product
from typing import TYPE_CHECKING

from llmgateway.telemetry.metrics.families import FAMILIES, Family
from llmgateway.telemetry.metrics.figures import Figures, Histogrammed, Labels

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample


def render(figures: Figures, providers: Iterable[str], accept: str) -> tuple[bytes, str]:
    """Write the figures as text, in the form that `accept` asks for. Returns it and its content type; any thread.

    Args:
        providers: Accounts of the catalog: what is told for each is there from the start, at 0.
    """
    # 50 ms and 3 MB that a gateway nobody scrapes does not pay.
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    encode, content_type = choose_encoder(accept)
    return encode(_Collector(figures, tuple(providers))), content_type


@dataclass(frozen=True, slots=True)
class _Collector:
    """Fills `prometheus_client`'s protocol of a collector."""

    figures: Figures
    providers: tuple[str, ...]

    def collect(self) -> Iterator["Metric"]:
        for family in FAMILIES:
            yield self._metric(family)

    def _metric(self, family: Family) -> "Metric":
        from prometheus_client.metrics_core import Metric  # noqa: PLC0415  as above
        from prometheus_client.samples import Sample  # noqa: PLC0415  likewise

        zeros = _known_labels(family, self.providers)
        metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
        if family.kind == "histogram":
            empty: Histogrammed = ([0] * (len(family.buckets) + 1), 0.0)
            measured = dict.fromkeys(zeros, empty) | self.figures.histograms.get(family.name, {})
            metric.samples = list(_buckets(family, measured))
            return metric
        counted = self.figures.counters if family.kind == "counter" else self.figures.gauges
        values = dict.fromkeys(zeros, 0.0) | counted.get(family.name, {})
        metric.samples = [
            Sample(family.name, dict(zip(family.labels, labels, strict=True)), value)
            for labels, value in values.items()
        ]
        return metric


def _known_labels(family: Family, providers: tuple[str, ...]) -> list[Labels]:
    """Give all label values of a metric, if they are known beforehand."""
    known = {"provider": providers, **family.values}
    if not set(family.labels) <= set(known):
        return []
    return list(product(*(known[label] for label in family.labels)))


def _buckets(family: Family, measured: Mapping[Labels, Histogrammed]) -> Iterator["Sample"]:
    from prometheus_client.samples import Sample  # noqa: PLC0415  as above

    bounds = [*map(str, family.buckets), "+Inf"]
    bucket, count, total = (f"{family.name}_{part}" for part in ("bucket", "count", "sum"))
    for values, (counts, seconds) in measured.items():
        labels = dict(zip(family.labels, values, strict=True))
        # Each bucket counts what is in those below it, too.
        sums = list(accumulate(counts))
        yield from [Sample(bucket, {**labels, "le": bound}, n) for bound, n in zip(bounds, sums, strict=True)]
        yield Sample(count, labels, sums[-1])
        yield Sample(total, labels, seconds)
