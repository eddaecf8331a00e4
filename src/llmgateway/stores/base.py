"""The seam to state that processes share: what may be asked of memory and Redis alike, with the same answers.

Five parts: `Limiter` (rates, slots, budgets), `Values` (kept answers, claims), `Board` (notes that all read), `Feed`
(events in their order) and `Bell` (news). A call costs at most one round trip before it, with all of them together, and
one after it, for which nobody waits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from llmgateway.exchange import Left

Unit = Literal["requests", "tokens"]


class Rate(Struct, frozen=True, gc=False):
    """At most `limit` units a period, spread evenly, and `burst` of them at once (generic cell rate algorithm).

    In any time t at most `burst + limit * t / period_s` units pass.

    Args:
        name: As clients and the log read it, such as `key.requests_per_minute`.
        key: Where its state is kept, such as `rate:key_01…:requests_per_minute`.
    """

    name: str
    key: str
    unit: Unit
    limit: int
    period_s: float
    burst: int


class Slots(Struct, frozen=True, gc=False):
    """At most `limit` calls at once. A call whose process died gives its slot back when its lease is over."""

    name: str
    key: str
    limit: int


class Cooldown(Struct, frozen=True, gc=False):
    """After `after` refusals within `within_s` seconds nothing passes for `rest_s` seconds."""

    name: str
    key: str
    rest_s: float
    after: int = 10
    within_s: float = 60.0


class Purse(Struct, frozen=True, gc=False):
    """A budget of one period, in billionths of a dollar.

    Args:
        key: Names its period as well, such as `budget:key_01…:month:2026-11`.
        scope: `key` or `organization`.
        owner: Whose it is: the id of either.
        starts_at, ends_at: Unix seconds; `None` for one without end. Its state is kept a day longer.
        soft_nusd: From here on an alert is sent.
    """

    name: str
    key: str
    scope: Literal["key", "organization"]
    owner: str
    hard_nusd: int
    soft_nusd: int | None = None
    starts_at: float = 0.0
    ends_at: float | None = None


class Rules(Struct, frozen=True, gc=False):
    """Rules that must all let a call pass; made once for each kind of caller and call, not for each call."""

    rates: tuple[Rate, ...] = ()
    slots: tuple[Slots, ...] = ()
    cooldowns: tuple[Cooldown, ...] = ()
    purses: tuple[Purse, ...] = ()


class Ask(Struct, gc=False):
    """What a call asks leave for.

    Args:
        id: The exchange's: one call holds one reservation.
        tokens: About how many it will use, prompt and answer. More than a rule's burst counts as the burst.
        cost_nusd: About what it will cost, in billionths of a dollar.
        lease_s: After so many seconds a reservation that nobody settled is given back: its process has died.
        choices: One of these must let it pass as well: the first that does is chosen. None is as good as one that does.
    """

    id: str
    rules: Rules
    tokens: int
    cost_nusd: int
    lease_s: float
    choices: tuple[Rules, ...] = ()


class RateState(Left, frozen=True, gc=False):
    """What is left of a rate: whole units, and seconds until all of it is there again. Clients read it as it is."""

    rate: Rate


class Decision(Struct, gc=False):
    """Whether a call may pass. When not, nothing was taken from any rule.

    Args:
        choice: The index of the choice that was taken; of no meaning when refused.
        refused_by: The rule's name; of several, the one that takes longest.
        unit: What that rule counts: `requests` (rates, slots, cooldowns), `tokens` or `money`.
        of_choice: Whether only the choices refused.
        retry_after_s: Seconds after which it may pass, when nobody else comes first.
        states: Of the rates in `Ask.rules`, in their order, after this call. Of one that passes perhaps only the
            tightest of each unit, the first of several: nobody reads the others.
        unseeded: Purses that the store knows nothing of: the call was refused, `seed` them and ask again.
    """

    allowed: bool
    choice: int = 0
    refused_by: str | None = None
    unit: Literal["requests", "tokens", "money"] = "requests"
    of_choice: bool = False
    retry_after_s: float = 0.0
    states: Sequence[RateState] = ()
    unseeded: Sequence[Purse] = ()


class Reservation(Struct, gc=False):
    """What a call holds until it is settled, once."""

    ask: Ask
    choice: int
    settled: bool = False


class Claim(Struct, frozen=True, gc=False):
    """The wish to be the one who brings a value that is not kept yet.

    Args:
        key: Where it is noted who does so.
        holder: Who wishes it. Whoever holds the claim already holds it again, for `ttl_s` from now on.
    """

    key: str
    holder: bytes
    ttl_s: float


class Held(Struct, frozen=True, gc=False):
    """In place of a value that is not kept: who holds the claim to it, or what the last one left in its place."""

    holder: bytes


# Told after each settlement: a purse, and what of it is used or reserved now (billionths of a dollar).
Spent = Callable[[Purse, int], None]


class Limiter(Protocol):
    """Counts what callers use. The clock is the store's own, so that all processes agree."""

    async def reserve(
        self, ask: Ask, read: str | None = None, claim: Claim | None = None
    ) -> tuple[Decision, bytes | Held | None]:
        """Ask leave, and read a value in the same round trip, or claim it where there is none.

        A claim is taken whatever is decided: who may not use it gives it back. Where no other process sees the store
        nothing is claimed.

        Raises:
            StoreAwayError: The store does not answer, and what it counts must not be guessed.
        """
        ...

    def settle(self, reservation: Reservation, *, tokens: int, cost_nusd: int) -> None:
        """Say what was really used; the rest is given back. A second call does nothing. Never waits, never raises."""
        ...

    async def seed(self, purse: Purse, spent_nusd: int) -> None:
        """Tell what was spent of a purse before; does nothing when it is known already. Raises: StoreAwayError."""
        ...

    async def look(self, rules: Rules) -> "Standing":
        """Read the state of rules, taking nothing. Raises: StoreAwayError."""
        ...

    async def reset(self, rules: Rules) -> None:
        """Forget what was used of these rates, and cooldowns; purses and slots stay. Raises: StoreAwayError."""
        ...


class Standing(Struct):
    """How rules stand: rates as they are, calls in flight by slot, seconds of rest, money used or reserved by purse."""

    rates: Sequence[RateState] = ()
    slots: Sequence[int] = ()
    rests_s: Sequence[float] = ()
    spent_nusd: Sequence[int | None] = ()


class Ready(Protocol):
    """A value that stays the object it is where no other process reads it. Nobody changes it."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        ...

    def packed(self) -> bytes:
        """Write it down, for whoever reads bytes."""
        ...


class Tags(Protocol):
    """What names many values alike: the tags of each are made only when somebody looks for them."""

    def of(self, key: str) -> Sequence[str]:
        """Give those of the value under a key."""
        ...


class ValuesStatus(Struct):
    """What is kept: by everyone who shares the store, where that can be told."""

    entries: int = 0
    size_bytes: int = 0
    max_bytes: int | None = None
    max_entries: int | None = None
    evictions: int = 0
    oldest_s: float | None = None


class Values(Protocol):
    """Bytes with a time to live. Keys of kept answers begin with `answer:`: those are bounded, and can be cleared."""

    async def get(self, key: str) -> bytes | None:
        """Read a value. Raises: StoreAwayError."""
        ...

    async def get_or_claim(self, key: str, claim: Claim) -> bytes | Held | None:
        """Read a value, or claim it where there is none; `None` where that cannot be. Raises: StoreAwayError."""
        ...

    def put(self, key: str, value: bytes, ttl_s: float, tags: Sequence[str] = ()) -> None:
        """Keep a value; `tags` name it for `clear`. Never waits, never raises."""
        ...

    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        """Keep a value unless there is one: then it is given, else `None`. Raises: StoreAwayError."""
        ...

    async def renew(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Prolong a value that is still this one; whether it was. Raises: StoreAwayError."""
        ...

    def release(self, key: str, value: bytes) -> None:
        """Forget a value if it is still this one. Never waits, never raises."""
        ...

    async def remove(self, key: str, value: bytes | None = None) -> None:
        """Forget a value; when one is given, only if it is still this one. Raises: StoreAwayError."""
        ...

    async def clear(self, tags: Sequence[str], pattern: str | None = None) -> int:
        """Forget the answers that bear ALL of these tags (and one that matches the glob); returns how many.

        Raises:
            StoreAwayError: Perhaps some of them are left.
        """
        ...

    async def status(self) -> ValuesStatus:
        """Count what is kept. Raises: StoreAwayError."""
        ...


class Note(Struct, frozen=True, gc=False):
    """What hangs on a board, and for how many seconds more: by the store's clock, on which all processes agree."""

    text: bytes
    left_s: float


class Board(Protocol):
    """Notes that all processes read: a few on each topic, each with a name and its time."""

    def post(self, topic: str, name: str, text: bytes, ttl_s: float, *, instead_of: bytes | None = None) -> None:
        """Hang a note up in place of the one of this name. Never waits, never raises.

        Args:
            instead_of: Only if nothing hangs there, or this.
        """
        ...

    async def read(self, topic: str) -> Mapping[str, Note]:
        """Read all notes of a topic by their names. Raises: StoreAwayError."""
        ...


class Feed(Protocol):
    """Events by topic, each with a number that its author gives: 1, 2, 3. What is old or lost is not there any more.

    Whoever reads looks for a gap: then he asks those who know for certain.
    """

    def append(self, topic: str, number: int, body: bytes, ttl_s: float) -> None:
        """Tell all processes, this one too. Never waits, never raises; the topic is forgotten after `ttl_s`."""
        ...

    async def read(self, after: Mapping[str, int], timeout_s: float) -> Mapping[str, Sequence[tuple[int, bytes]]]:
        """Give what came on these topics after these numbers, in order; wait for the first of it if there is none.

        Raises:
            StoreAwayError: The store does not answer.
        """
        ...


class Bell(Protocol):
    """News that has no content: whoever hears it looks for himself."""

    def ring(self, name: str) -> None:
        """Tell all processes, this one too. Never waits, never raises."""
        ...

    async def wait(self, name: str, timeout_s: float) -> bool:
        """Wait until it rings; false when the time is over first. It may ring without need, and may be missed."""
        ...


class StoreAwayError(OSError):
    """The shared store does not answer."""


class Store(Protocol):
    """All of them together, over one connection."""

    @property
    def limiter(self) -> Limiter: ...

    @property
    def values(self) -> Values: ...

    @property
    def board(self) -> Board: ...

    @property
    def bell(self) -> Bell: ...

    @property
    def feed(self) -> Feed: ...

    @property
    def shared(self) -> bool:
        """Whether other processes see the same."""
        ...

    @property
    def up(self) -> bool:
        """Whether it answers, as far as is known."""
        ...

    async def run(self) -> None:
        """Do what runs beside the requests, for ever; cancel to end."""
        ...

    async def close(self) -> None:
        """Send what waits, and give connections back."""
        ...
