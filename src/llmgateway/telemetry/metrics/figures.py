"""All figures of one process at one moment, as a value: sent between processes, added up, shown."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

Labels = tuple[str, ...]
Histogrammed = tuple[list[int], float]
Across = Literal["sum", "max", "min"]


class Figures(Struct):
    """What has been counted and measured.

    Args:
        started: When the first process of the fleet began, seconds since 1970.
        counters, gauges: By the family's name, then by the values of its labels, in the family's order.
        histograms: The same; each is the counts of its buckets, one above the last bound included, and the sum.
        times: The sketch of how long requests took, seconds.
        workers: Processes that are alive.
    """

    started: float
    counters: dict[str, dict[Labels, float]] = field(default_factory=dict)
    gauges: dict[str, dict[Labels, float]] = field(default_factory=dict)
    histograms: dict[str, dict[Labels, Histogrammed]] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    workers: int = 1

    def lasting(self) -> "Figures":
        """Give what stays when the process has ended: all but its gauges."""
        return Figures(self.started, self.counters, {}, self.histograms, self.times, 0)

    def add(self, other: "Figures", across: Mapping[str, Across]) -> None:
        """Add another process's figures to these.

        Args:
            across: How the gauges of a family become one, by its name.
        """
        self.started = min(self.started, other.started)
        self.workers += other.workers
        for name, theirs in other.counters.items():
            ours = self.counters.setdefault(name, {})
            ours.update({labels: ours.get(labels, 0.0) + value for labels, value in theirs.items()})
        for name, theirs in other.gauges.items():
            _add_gauges(self.gauges.setdefault(name, {}), theirs, across.get(name, "sum"))
        for name, measured in other.histograms.items():
            _add_histograms(self.histograms.setdefault(name, {}), measured)
        for index, count in other.times.items():
            self.times[index] = self.times.get(index, 0) + count


def _add_gauges(ours: dict[Labels, float], theirs: Mapping[Labels, float], across: Across) -> None:
    for labels, value in theirs.items():
        if labels not in ours:
            ours[labels] = value
        elif across == "sum":
            ours[labels] += value
        else:
            ours[labels] = max(ours[labels], value) if across == "max" else min(ours[labels], value)


def _add_histograms(ours: dict[Labels, Histogrammed], theirs: Mapping[Labels, Histogrammed]) -> None:
    for labels, (counts, total) in theirs.items():
        known = ours.get(labels)
        if known is None:
            ours[labels] = (counts, total)
        elif len(known[0]) == len(counts):
            ours[labels] = ([a + b for a, b in zip(known[0], counts, strict=True)], known[1] + total)
