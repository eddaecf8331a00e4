"""Statistics over repetitions and latencies."""

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that `share` (0 to 1) of the values do not exceed (nearest rank).

    Raises:
        ValueError: There are no values, or the share is outside 0 to 1.
    """
    if not values:
        raise ValueError("a percentile of nothing; pass at least one value")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; pass a number from 0 to 1, such as 0.99")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Give the middle value, or the mean of the two in the middle.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("a median of nothing; pass at least one value")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values: Sequence[float]) -> float:
    """Give the distance from smallest to largest as a share of the median; 0 when all are the same."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0
