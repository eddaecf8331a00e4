"""The arithmetic of rates: the generic cell rate algorithm in whole numbers, the same in memory and in Redis.

ITU-T I.371, annex A, as "continuous-state leaky bucket": a level that each call raises and that sinks with time. Levels
are counted in parts of a unit that are so small that a microsecond drains a whole number of them, so nothing is ever
rounded (docs/decisions/0018).
"""

import math

from msgspec import Struct

from llmgateway.stores.base import Rate, RateState

US = 1_000_000
# Lua counts in doubles: whole numbers are exact up to here. The rest of the way is for debts.
EXACT = 2**53
_MOST = EXACT // 4
# When money without end is spent, waiting does not help: longer than any other wait.
NEVER_US = EXACT
# Nobody knows when a call ends: after so long it is worth another try.
SLOT_WAIT_US = US


class Scale(Struct, frozen=True, gc=False):
    """A rate in levels: what a unit adds, what a microsecond drains, and the level above which nothing passes."""

    unit: int
    drain: int
    full: int
    burst: int

    def state(self, rate: Rate, level: int) -> RateState:
        """Say what a level means: whole units left, and seconds until it is empty."""
        left = (self.full - level) // self.unit
        return RateState(rate.limit, max(left, 0), level / (self.drain * US), rate)


def scale_of(rate: Rate) -> Scale:
    """Find the smallest whole numbers for a rate; for one that is too large to be counted exactly, the nearest below.

    A limit of nothing lets nothing pass.
    """
    period_us = max(round(rate.period_s * US), 1)
    if rate.limit <= 0 or rate.burst <= 0:
        return Scale(unit=min(period_us, _MOST), drain=1, full=0, burst=1)
    shared = math.gcd(period_us, rate.limit)
    unit, drain = period_us // shared, rate.limit // shared
    if rate.burst * unit > _MOST:
        # Slower by at most one part in `drain`, and one in `unit`; never faster.
        shrink = min(-(-rate.burst * unit // _MOST), drain)
        unit, drain = -(-unit // shrink), drain // shrink
    burst = min(rate.burst, EXACT // 2 // unit)
    return Scale(unit, drain, full=burst * unit, burst=burst)


def rescaled(level: int, unit: int, new_unit: int) -> int:
    """Carry a level over to a rule that was changed. The order of the steps is that of the script."""
    return level if unit == new_unit else math.ceil(level / unit * new_unit)
