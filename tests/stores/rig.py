"""A limiter with a clock that stands still until it is told, and what was reserved of it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from llmgateway.stores.base import Ask, Cooldown, Decision, Purse, Rate, Reservation, Rules, Slots, Standing
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.redis.limiter import RedisLimiter
from llmgateway.stores.redis.link import RedisLink

__all__ = ["Rig", "cooldown", "purse", "rate", "shown", "slots"]


def rate(limit: int, burst: int, *, unit: Any = "requests", period_s: float = 60.0, key: str = "") -> Rate:
    return Rate(f"key.{unit}", f"rate:{key}{unit}", unit, limit, period_s, burst)


def slots(limit: int, key: str = "") -> Slots:
    return Slots("key.concurrent", f"slots:{key}", limit)


def cooldown(rest_s: float, after: int = 3, within_s: float = 10.0) -> Cooldown:
    return Cooldown("key.cooldown", "cooldown:", rest_s, after, within_s)


def purse(hard_nusd: int, ends_at: float | None = None, key: str = "") -> Purse:
    return Purse("key.budget", f"budget:{key}", "key", "key_1", hard_nusd, ends_at=ends_at)


def shown(decision: Decision) -> object:
    """A decision as it can be compared: lists are lists."""
    return msgspec.json.decode(msgspec.json.encode(decision))


class Rig:
    """Asks by names; `link` is `None` in memory."""

    def __init__(self, link: RedisLink | None = None) -> None:
        self.now_s = 1_800_000_000.0
        self.told: list[tuple[str, int]] = []
        self.held: dict[str, Reservation] = {}
        self._link = link
        self.limiter: MemoryLimiter | RedisLimiter
        if link is None:
            self.limiter = MemoryLimiter(now_ns=lambda: int(self.now_s * 1e6) * 1000, spent=self._spent)
        else:
            self.limiter = RedisLimiter(link, clock=lambda: self.now_s, spent=self._spent)

    async def ask(
        self,
        name: str,
        rules: Rules,
        *,
        tokens: int = 0,
        nusd: int = 0,
        lease_s: float = 30.0,
        choices: Sequence[Rules] = (),
    ) -> Decision:
        ask = Ask(name, rules, tokens, nusd, lease_s, tuple(choices))
        decision, _ = await self.limiter.reserve(ask)
        if decision.allowed:
            self.held[name] = Reservation(ask, decision.choice)
        return decision

    async def passed(self, count: int, rules: Rules, **options: Any) -> int:
        """Ask so many times and count how often it passed."""
        return sum([(await self.ask(f"{self.now_s}-{at}", rules, **options)).allowed for at in range(count)])

    async def settle(self, name: str, *, tokens: int = 0, nusd: int = 0) -> None:
        self.limiter.settle(self.held.pop(name), tokens=tokens, cost_nusd=nusd)
        await self.settled()

    async def settled(self) -> None:
        if self._link is not None:
            assert await self._link.drain(5)

    async def look(self, rules: Rules) -> Standing:
        return await self.limiter.look(rules)

    def _spent(self, purse: Purse, nusd: int) -> None:
        self.told.append((purse.key, nusd))
