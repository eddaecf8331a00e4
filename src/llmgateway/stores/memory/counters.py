"""What is counted for one rule: each says how long a call must wait; 0 is not at all.

Times are whole microseconds of one clock. A clock that steps back gives nothing away and locks nobody out.
"""

from collections import deque
from collections.abc import Sequence

from llmgateway.stores.base import Ask, Cooldown, Purse, Rate, RateState, Slots
from llmgateway.stores.gcra import EXACT, NEVER_US, SLOT_WAIT_US, US, rescaled, scale_of

UNKNOWN = -1  # how long to wait for a purse that nobody has filled
_DAY_US = 86_400 * US
_ENDLESS_KEPT_US = 7 * _DAY_US


class Bucket:
    """A rate. What a call needs of it is written out in `pour`, once more: four of them are asked for every call."""

    __slots__ = ("burst", "cost", "drain", "drain_s", "full", "last_us", "level", "rule", "scale", "unit")

    def __init__(self, rule: Rate, now_us: int) -> None:
        self.rule = rule
        self.level = self.unit = 0
        self.last_us = now_us
        self._use(rule)

    def adopt(self, rule: Rate) -> bool:
        """Go on with another rule; whether it says anything else."""
        changed = rule != self.rule
        if changed:
            unit = self.unit
            self._use(rule)
            self.level = rescaled(self.level, unit, self.unit)
        self.rule = rule
        return changed

    def wait_us(self, ask: Ask, now_us: int) -> int:
        self.sink(now_us)
        over = self.level + self.asked(ask.tokens) - self.full
        return 0 if over <= 0 else -(-over // self.drain)

    def asked(self, tokens: int) -> int:
        """Return what a call of so many tokens adds to the level."""
        return self.cost or min(tokens, self.burst) * self.unit

    def settle(self, ask: Ask, tokens: int, now_us: int) -> None:
        """Say how many tokens it were: fewer are given back, more are a debt."""
        asked = ask.tokens
        more = tokens - (asked if asked < self.burst else self.burst)  # noqa: FURB136  a call of `min` costs five times that
        if more:
            # What is given back may be taken off before what sank meanwhile: nothing goes below nothing either way.
            if more > 0 or now_us < self.last_us:
                self.sink(now_us)
            level = self.level + more * self.unit
            self.level = level if level > 0 else 0  # noqa: FURB136  likewise

    def sink(self, now_us: int) -> None:
        """Let time pass."""
        if now_us > self.last_us:
            level = self.level - (now_us - self.last_us) * self.drain
            self.level = max(level, 0)
        self.last_us = now_us

    def idle(self, now_us: int) -> bool:
        return self.level <= (now_us - self.last_us) * self.drain

    def state(self) -> RateState:
        return self.scale.state(self.rule, self.level)

    def _use(self, rule: Rate) -> None:
        self.rule = rule
        self.scale = scale = scale_of(rule)
        self.unit, self.drain, self.full, self.burst = scale.unit, scale.drain, scale.full, scale.burst
        self.drain_s = scale.drain * US
        # What every call costs; nothing for tokens, where each has its own price.
        self.cost = scale.unit if rule.unit == "requests" else 0


def pour(units: Sequence[Sequence[Bucket]], tokens: int, now_us: int) -> list[RateState] | None:
    """Add a call to buckets, those of each unit together, if all of them have room for it; else to none.

    Returns:
        The state of the tightest of each unit, the first of several; `None` when one of them has no room.
    """
    states: list[RateState] = []
    for buckets in units:
        tightest, least = buckets[0], EXACT
        for bucket in buckets:
            level = bucket.level - (now_us - bucket.last_us) * bucket.drain
            if level < 0:
                level = 0
            elif now_us < bucket.last_us:
                level = bucket.level
            level += bucket.cost or (tokens if tokens < bucket.burst else bucket.burst) * bucket.unit  # noqa: FURB136  likewise
            left = (bucket.full - level) // bucket.unit
            if left < least:
                if left < 0:
                    # One without room keeps its time as well, or a clock that steps back and forth would empty it.
                    for poured in (*units[: len(states)], buckets[: buckets.index(bucket)]):
                        take_back(poured, tokens)
                    return None
                tightest, least = bucket, left
            bucket.level = level
            bucket.last_us = now_us
        states.append(RateState(tightest.rule.limit, least, tightest.level / tightest.drain_s, tightest.rule))
    return states


def take_back(buckets: Sequence[Bucket], tokens: int) -> None:
    """Undo `pour`, at the same moment."""
    for bucket in buckets:
        bucket.level -= bucket.asked(tokens)


class Leases:
    """Slots: who holds one, and until when."""

    __slots__ = ("_held", "_soonest_us", "rule")

    def __init__(self, rule: Slots, now_us: int) -> None:
        self.rule = rule
        self._held: dict[str, int] = {}
        self._soonest_us = NEVER_US

    def adopt(self, rule: Slots) -> bool:
        """Go on with another rule; whether it says anything else."""
        changed, self.rule = rule != self.rule, rule
        return changed

    def wait_us(self, ask: Ask, now_us: int) -> int:
        return 0 if self.count(now_us) < self.rule.limit else SLOT_WAIT_US

    def take(self, ask: Ask, now_us: int) -> bool:
        """Give the call a slot, if there is one; whether there is."""
        if self.wait_us(ask, now_us):
            return False
        self._held[ask.id] = until_us = now_us + int(ask.lease_s * US)
        if until_us < self._soonest_us:  # noqa: PLR1730  likewise
            self._soonest_us = until_us
        return True

    def release(self, who: str) -> None:
        self._held.pop(who, None)

    def count(self, now_us: int) -> int:
        """Count the calls in flight."""
        if now_us >= self._soonest_us:
            self._held = {who: until_us for who, until_us in self._held.items() if until_us > now_us}
            self._soonest_us = min(self._held.values(), default=NEVER_US)
        return len(self._held)

    def idle(self, now_us: int) -> bool:
        return not self.count(now_us)


class Rest:
    """A cooldown: the last refusals, and until when nothing passes."""

    __slots__ = ("_refused_us", "rule", "until_us")

    def __init__(self, rule: Cooldown, now_us: int) -> None:
        self.rule = rule
        self.until_us = 0
        self._refused_us: deque[int] = deque()

    def adopt(self, rule: Cooldown) -> bool:
        """Go on with another rule; whether it says anything else."""
        changed, self.rule = rule != self.rule, rule
        return changed

    def left_us(self, now_us: int) -> int:
        """Return how much of the rest is left; after the clock stepped back never more than the whole."""
        if not self.until_us:
            return 0
        left = min(self.until_us - now_us, round(self.rule.rest_s * US))
        if left <= 0:
            self.until_us = 0
            return 0
        self.until_us = now_us + left
        return left

    def refuse(self, now_us: int) -> int:
        """Count a refusal; return how long to rest when it was one too many."""
        if self.rule.rest_s <= 0:
            return 0
        refused = self._refused_us
        refused.append(now_us)
        while len(refused) > self.rule.after:
            refused.popleft()
        if len(refused) < self.rule.after or now_us - refused[0] > round(self.rule.within_s * US):
            return 0
        refused.clear()
        self.until_us = now_us + round(self.rule.rest_s * US)
        return self.until_us - now_us

    def idle(self, now_us: int) -> bool:
        within_us = round(self.rule.within_s * US)
        return self.until_us <= now_us and (not self._refused_us or now_us - self._refused_us[-1] > within_us)


class Account:
    """A purse: what was spent, and what calls in flight hold. `spent_nusd` is `None` as long as nobody told it."""

    __slots__ = ("_held", "_held_nusd", "_soonest_us", "_touched_us", "rule", "spent_nusd")

    def __init__(self, rule: Purse, now_us: int) -> None:
        self.rule = rule
        self.spent_nusd: int | None = None
        self._touched_us = now_us
        self._held: dict[str, tuple[int, int]] = {}  # nusd, until when
        self._held_nusd = 0
        self._soonest_us = NEVER_US

    def adopt(self, rule: Purse) -> bool:
        """Go on with another rule; whether it says anything else."""
        changed, self.rule = rule != self.rule, rule
        return changed

    def wait_us(self, ask: Ask, now_us: int) -> int:
        if self.spent_nusd is None:
            return UNKNOWN
        if now_us >= self._soonest_us:
            self._release_dead(now_us)
        # What costs nothing passes as long as anything is left.
        if self.spent_nusd + self._held_nusd + (ask.cost_nusd or 1) <= self.rule.hard_nusd:
            return 0
        ends_at = self.rule.ends_at
        return NEVER_US if ends_at is None else max(round(ends_at * US) - now_us, 1)

    def take(self, ask: Ask, now_us: int) -> bool:
        """Hold what the call may cost, if there is room for it; whether there is."""
        if self.wait_us(ask, now_us):
            return False
        self._touched_us = now_us
        cost_nusd = ask.cost_nusd
        if cost_nusd:
            who, held = ask.id, self._held
            if who in held:
                self.release(who)
            until_us = now_us + int(ask.lease_s * US)
            held[who] = cost_nusd, until_us
            self._held_nusd += cost_nusd
            if until_us < self._soonest_us:  # noqa: PLR1730  likewise
                self._soonest_us = until_us
        return True

    def settle(self, who: str, cost_nusd: int, now_us: int) -> int | None:
        """Put what was spent in the place of what was held; return what is used now."""
        self._touched_us = now_us
        if (held := self._held.pop(who, None)) is not None:
            self._held_nusd -= held[0]
        if self.spent_nusd is None:
            return None
        if now_us >= self._soonest_us:
            self._release_dead(now_us)
        self.spent_nusd = spent_nusd = self.spent_nusd + cost_nusd
        return spent_nusd + self._held_nusd

    def used_nusd(self, now_us: int) -> int | None:
        """Return what is spent and held, without what the dead hold."""
        if self.spent_nusd is None:
            return None
        self._release_dead(now_us)
        return self.spent_nusd + self._held_nusd

    def release(self, who: str) -> None:
        """Give back what a call holds, if it holds anything."""
        if (held := self._held.pop(who, None)) is not None:
            self._held_nusd -= held[0]

    def idle(self, now_us: int) -> bool:
        if self.spent_nusd is None:
            return True
        ends_at = self.rule.ends_at
        if ends_at is None:
            return now_us > self._touched_us + _ENDLESS_KEPT_US
        return now_us > round(ends_at * US) + _DAY_US

    def _release_dead(self, now_us: int) -> None:
        for who in [who for who, (_, until_us) in self._held.items() if until_us <= now_us]:
            self.release(who)
        self._soonest_us = min((until_us for _, until_us in self._held.values()), default=NEVER_US)


Counter = Bucket | Leases | Rest | Account
