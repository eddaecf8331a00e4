"""The numbers themselves: a counter, a histogram, a sketch for percentiles, and who has which labels.

Whoever counts holds the child itself: no look-up by label on the way of a request.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from llmgateway.telemetry.metrics.families import Family
from llmgateway.telemetry.metrics.figures import Histogrammed, Labels

# Labels of one family that are told apart; all others are counted together as `other`.
MOST_CHILDREN = 2_000
OTHER = "other"
_OPEN_LABELS = frozenset({"model", "provider", "from", "to", "service", "organization"})

# DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
# VLDB 2019): the bucket `i` holds what is in (GAMMA ** (i - 1), GAMMA ** i], so any value in it is right within 1 %.
_ACCURACY = 0.01
_GAMMA = (1 + _ACCURACY) / (1 - _ACCURACY)
_PER_LOG = 1 / math.log(_GAMMA)
_LEAST, _MOST = 1e-6, 1e6


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Histogram:
    """How many values fell between which bounds; one more than there are bounds."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one that equals a bound is below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Sketch:
    """Values by their logarithm, so that percentiles are right within one per cent, and sketches can be added."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, value: float) -> None:
        """Count a value above 0."""
        if not _LEAST <= value <= _MOST:
            value = min(max(value, _LEAST), _MOST)
        index, counts = math.ceil(math.log(value) * _PER_LOG), self.counts
        counts[index] = counts.get(index, 0) + 1


def percentile(counts: Mapping[int, int], part: float) -> float | None:
    """Give the value that `part` (0 to 1) of a sketch's values do not pass; `None` when it has none."""
    rank = part * (sum(counts.values()) - 1)
    below = 0
    for index in sorted(counts):
        below += counts[index]
        if below > rank:
            return 2 * _GAMMA**index / (_GAMMA + 1)
    return None


class Series:
    """Every child of the given families in this process.

    Args:
        most: Children of one family with labels of their own.
    """

    def __init__(self, families: Iterable[Family], *, most: int = MOST_CHILDREN) -> None:
        self._families = {family.name: family for family in families}
        self._most = most
        self._counters: dict[str, dict[Labels, Counter]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}
        for family in self._families.values():
            if family.kind == "counter":
                self._counters[family.name] = {}
            elif family.kind == "histogram":
                self._histograms[family.name] = {}

    def counter(self, name: str, *labels: str) -> Counter:
        """Give the counter with these label values, made now if it is new."""
        children = self._counters[name]
        labels = self._bounded(name, labels, labels in children or len(children) < self._most)
        return children.setdefault(labels, Counter())

    def histogram(self, name: str, *labels: str) -> Histogram:
        """Give the histogram with these label values, made now if it is new."""
        children = self._histograms[name]
        labels = self._bounded(name, labels, labels in children or len(children) < self._most)
        return children.setdefault(labels, Histogram(self._families[name].buckets))

    def counters(self) -> dict[str, dict[Labels, float]]:
        """Copy what has been counted; any thread."""
        # `list` of a dict's items is one step for other threads; a comprehension over the dict is many.
        return {
            name: {labels: counter.value for labels, counter in list(children.items())}
            for name, children in self._counters.items()
        }

    def histograms(self) -> dict[str, dict[Labels, Histogrammed]]:
        """Copy what has been measured; any thread."""
        return {
            name: {labels: (child.counts.copy(), child.total) for labels, child in list(children.items())}
            for name, children in self._histograms.items()
        }

    def _bounded(self, name: str, labels: Labels, has_room: bool) -> Labels:
        if has_room:
            return labels
        names = self._families[name].labels
        return tuple(OTHER if of in _OPEN_LABELS else label for of, label in zip(names, labels, strict=True))
