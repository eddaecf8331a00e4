"""A store that says what a test tells it to, and notes what it is asked: for answers that a real one seldom gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmgateway.stores.base import (
    Ask,
    Bell,
    Board,
    Claim,
    Decision,
    Feed,
    Held,
    Purse,
    Reservation,
    Rules,
    Standing,
    StoreAwayError,
    Values,
    ValuesStatus,
)


@dataclass
class ScriptedLimiter:
    """Takes the decisions in their order, then lets everything pass; knows the purses that it was told of.

    `holder` is who holds each claim; without one, whoever claims has it.
    """

    decisions: list[Decision | StoreAwayError] = field(default_factory=list)
    knows: dict[str, int] = field(default_factory=dict)
    asks_for_seeds: bool = False
    value: bytes | None = None
    away: bool = False
    asks: list[Ask] = field(default_factory=list)
    reads: list[str | None] = field(default_factory=list)
    holder: bytes | None = None
    claims: list[Claim | None] = field(default_factory=list)
    settled: list[tuple[str, int, int]] = field(default_factory=list)

    async def reserve(
        self, ask: Ask, read: str | None = None, claim: Claim | None = None
    ) -> tuple[Decision, bytes | Held | None]:
        if self.away:
            raise StoreAwayError
        self.asks.append(Ask(ask.id, ask.rules, ask.tokens, ask.cost_nusd, ask.lease_s, ask.choices))
        self.reads.append(read)
        self.claims.append(claim)
        unseeded = [purse for purse in ask.rules.purses if purse.key not in self.knows]
        if self.asks_for_seeds and unseeded:
            return Decision(allowed=False, unseeded=unseeded), self._found(read, claim)
        decision = self.decisions.pop(0) if self.decisions else Decision(allowed=True)
        if isinstance(decision, StoreAwayError):
            raise decision
        return decision, self._found(read, claim)

    def _found(self, read: str | None, claim: Claim | None) -> bytes | Held | None:
        if read is None or self.value is not None or claim is None:
            return None if read is None else self.value
        return Held(self.holder or claim.holder)

    def settle(self, reservation: Reservation, *, tokens: int, cost_nusd: int) -> None:
        if not reservation.settled:
            reservation.settled = True
            self.settled.append((reservation.ask.id, tokens, cost_nusd))
            for purse in reservation.ask.rules.purses:
                self.knows[purse.key] = self.knows.get(purse.key, 0) + cost_nusd

    async def seed(self, purse: Purse, spent_nusd: int) -> None:
        if self.away:
            raise StoreAwayError
        self.knows.setdefault(purse.key, spent_nusd)

    async def look(self, rules: Rules) -> Standing:
        if self.away:
            raise StoreAwayError
        return Standing(spent_nusd=[self.knows.get(purse.key) for purse in rules.purses])

    async def reset(self, rules: Rules) -> None:
        raise NotImplementedError


@dataclass
class ScriptedValues:
    """Keeps values for ever."""

    kept: dict[str, bytes] = field(default_factory=dict)
    away: bool = False
    released: list[tuple[str, bytes]] = field(default_factory=list)

    async def get(self, key: str) -> bytes | None:
        if self.away:
            raise StoreAwayError
        return self.kept.get(key)

    async def get_or_claim(self, key: str, claim: Claim) -> bytes | Held | None:
        if self.away:
            raise StoreAwayError
        return self.kept.get(key) or Held(self.kept.setdefault(claim.key, claim.holder))

    def release(self, key: str, value: bytes) -> None:
        self.released.append((key, value))

    def put(self, key: str, value: bytes, ttl_s: float, tags: Sequence[str] = ()) -> None:
        self.kept[key] = value

    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        if self.away:
            raise StoreAwayError
        if key in self.kept:
            return self.kept[key]
        self.kept[key] = value
        return None

    async def renew(self, key: str, value: bytes, ttl_s: float) -> bool:
        raise NotImplementedError

    async def remove(self, key: str, value: bytes | None = None) -> None:
        raise NotImplementedError

    async def clear(self, tags: Sequence[str], pattern: str | None = None) -> int:
        raise NotImplementedError

    async def status(self) -> ValuesStatus:
        raise NotImplementedError


@dataclass
class ScriptedStore:
    limiter: ScriptedLimiter = field(default_factory=ScriptedLimiter)
    values: Values = field(default_factory=ScriptedValues)
    shared: bool = False
    up: bool = True

    @property
    def board(self) -> Board:
        raise NotImplementedError

    @property
    def bell(self) -> Bell:
        raise NotImplementedError

    @property
    def feed(self) -> Feed:
        raise NotImplementedError

    async def run(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
