"""How fast a deployment begins to answer: averages that a few numbers keep."""

import math
from collections import deque

_NEWEST = 0.2  # the share of the newest sample in the mean, or more when the others are old
_MEAN_FADES_S = 60.0
_PEAK_FADES_S = 10.0
_SLOWEST_FADES_S = 600.0
# So soon after the sample before, the newest has just that share.
_CALM_S = -_MEAN_FADES_S * math.log(1.0 - _NEWEST)
_KEPT = 128
_RECOUNT_AFTER = 16


class Pace:
    """Seconds until answers began, of one kind: streams to their first event, or whole answers.

    Args of the sums: `mean_s` is a moving average, 0 before the first sample. `peak_s` jumps to each slower sample and
    fades within seconds (peak EWMA, as Finagle's load balancer has it); `slowest_s` fades within minutes. `measured_at`
    is when the last sample came, 0 before the first.
    """

    __slots__ = (
        *("_counted", "_percentile", "_percentile_s", "_samples", "_slowest_s"),
        *("mean_s", "measured_at", "peak_s", "samples"),
    )

    def __init__(self) -> None:
        self.mean_s = 0.0
        self.peak_s = 0.0
        self.samples = 0
        self._slowest_s = 0.0
        self.measured_at = 0.0
        self._samples: deque[float] = deque(maxlen=_KEPT)
        self._counted = 0
        self._percentile = 0.0
        self._percentile_s = 0.0

    def add(self, now: float, took_s: float) -> None:
        """Take a sample."""
        since_s, mean_s, over_s = now - self.measured_at, self.mean_s, self.peak_s - took_s
        if self.samples == 0:
            self.mean_s = took_s
        elif since_s <= _CALM_S:
            self.mean_s = mean_s + _NEWEST * (took_s - mean_s)
        else:
            self.mean_s = mean_s + (1.0 - math.exp(-since_s / _MEAN_FADES_S)) * (took_s - mean_s)
        self.peak_s = took_s + over_s * math.exp(-since_s / _PEAK_FADES_S) if over_s > 0.0 else took_s
        self._slowest_s = max(took_s, self._slowest_s * math.exp(-since_s / _SLOWEST_FADES_S))
        self.measured_at = now
        self._samples.append(took_s)
        self.samples += 1

    def peak_now_s(self, now: float) -> float:
        """The peak, faded by the time without a sample: who was slow is asked again some day."""
        since_s = now - self.measured_at
        return self.peak_s if since_s < 1.0 else self.peak_s * math.exp(-since_s / _PEAK_FADES_S)

    def slowest_s(self, now: float) -> float:
        """About the slowest sample of the last minutes."""
        since_s = now - self.measured_at
        return self._slowest_s if since_s < 1.0 else self._slowest_s * math.exp(-since_s / _SLOWEST_FADES_S)

    def percentile_s(self, percentile: float) -> float | None:
        """Of the last samples; `None` while they are too few to tell."""
        if self.samples < _RECOUNT_AFTER:
            return None
        if self.samples - self._counted >= _RECOUNT_AFTER or percentile != self._percentile:
            ordered = sorted(self._samples)
            at = math.ceil(len(ordered) * percentile / 100) - 1
            self._percentile, self._percentile_s = percentile, ordered[max(0, at)]
            self._counted = self.samples
        return self._percentile_s

    def forget(self) -> None:
        """Know nothing, as in the beginning: what was true before an outage is not after it."""
        self.__init__()  # type: ignore[misc]  # the same object stays in many hands
