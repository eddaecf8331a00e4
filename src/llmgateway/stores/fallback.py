"""The shared store, and what stands in for it while it is away: the memory of this process, or a refusal."""

import time
from collections.abc import Callable, Mapping, Sequence

import anyio

from llmgateway.stores.base import (
    Ask,
    Bell,
    Board,
    Claim,
    Decision,
    Feed,
    Held,
    Limiter,
    Note,
    Purse,
    Reservation,
    Rules,
    Standing,
    Store,
    StoreAwayError,
    Values,
    ValuesStatus,
)

# Calls in flight are fewer; what nobody settles must not stay for ever.
_MOST_OWN = 100_000
# What was spent while the shared store was away is told to it from the ledger, which is read every few seconds.
_CATCH_UP_S = 60.0
# A note of which less is left may be over there already.
_ENDS_SOON_S = 0.5
# Answers are shared or not kept: one that lies here only could be cleared by nobody.
_ANSWERS = "answer:"


class FallbackStore:
    """A store that answers as long as this process lives, unless a setting says that it must not.

    Args:
        shared: What all processes see.
        own: What stands in for it.
        fail_open: Whether calls pass while the shared store is away, counted by this process alone.
        counted: Called for each call that passed so.
    """

    shared = True

    def __init__(
        self, shared: Store, own: Store, *, fail_open: bool, counted: Callable[[], None] | None = None
    ) -> None:
        self._shared = shared
        self._own = own
        self._apart_at: float | None = None
        self.limiter: Limiter = _FallbackLimiter(shared, own, self._passed if fail_open else None)
        self.values: Values = _FallbackValues(shared, own)
        self.board: Board = _FallbackBoard(shared, own)
        self.bell: Bell = shared.bell
        # What one process alone tells itself needs no feed: others would be told nothing while it is away.
        self.feed: Feed = shared.feed
        self._counted = counted

    @property
    def up(self) -> bool:
        return self._shared.up

    @property
    def counts_apart(self) -> bool:
        """Whether processes count for themselves, or did a minute ago: then only the ledger knows what all spent."""
        return not self._shared.up or (
            self._apart_at is not None and time.perf_counter() - self._apart_at < _CATCH_UP_S
        )

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._shared.run)
            group.start_soon(self._own.run)

    async def close(self) -> None:
        await self._shared.close()
        await self._own.close()

    def _passed(self) -> None:
        self._apart_at = time.perf_counter()
        if self._counted is not None:
            self._counted()


class _FallbackLimiter:
    """Settles each call where it was let pass."""

    def __init__(self, shared: Store, own: Store, passed: Callable[[], None] | None) -> None:
        self._shared = shared
        self._own = own
        self._passed = passed
        self._passed_here: dict[str, None] = {}

    async def reserve(
        self, ask: Ask, read: str | None = None, claim: Claim | None = None
    ) -> tuple[Decision, bytes | Held | None]:
        try:
            return await self._shared.limiter.reserve(ask, read, claim)
        except StoreAwayError:
            if self._passed is None:
                raise
        decision, _ = await self._own.limiter.reserve(ask)
        if decision.allowed:
            self._passed()
            _note(self._passed_here, ask.id)
        return decision, None

    def settle(self, reservation: Reservation, *, tokens: int, cost_nusd: int) -> None:
        here = reservation.ask.id in self._passed_here
        if here:
            del self._passed_here[reservation.ask.id]
        limiter = self._own.limiter if here else self._shared.limiter
        limiter.settle(reservation, tokens=tokens, cost_nusd=cost_nusd)

    async def seed(self, purse: Purse, spent_nusd: int) -> None:
        try:
            await self._shared.limiter.seed(purse, spent_nusd)
        except StoreAwayError:
            if self._passed is None:
                raise
            await self._own.limiter.seed(purse, spent_nusd)

    async def look(self, rules: Rules) -> Standing:
        try:
            return await self._shared.limiter.look(rules)
        except StoreAwayError:
            if self._passed is None:
                raise
            return await self._own.limiter.look(rules)

    async def reset(self, rules: Rules) -> None:
        await self._own.limiter.reset(rules)
        await self._shared.limiter.reset(rules)


class _FallbackValues:
    """What is away is not found, and answers are not kept. Claims then hold in this process, and what replaces them."""

    def __init__(self, shared: Store, own: Store) -> None:
        self._shared = shared
        self._own = own
        self._claimed_here: dict[str, None] = {}

    async def get(self, key: str) -> bytes | None:
        try:
            found = await self._shared.values.get(key)
        except StoreAwayError:
            found = None
        return found if found is not None else await self._own.values.get(key)

    async def get_or_claim(self, key: str, claim: Claim) -> bytes | Held | None:
        try:
            return await self._shared.values.get_or_claim(key, claim)
        except StoreAwayError:
            return None

    def put(self, key: str, value: bytes, ttl_s: float, tags: Sequence[str] = ()) -> None:
        self._shared.values.put(key, value, ttl_s, tags)
        if key in self._claimed_here or not (self._shared.up or key.startswith(_ANSWERS)):
            self._claimed_here.pop(key, None)
            self._own.values.put(key, value, ttl_s)

    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        # What was claimed here while the shared store was away holds here when it is back.
        there = await self._own.values.get(key)
        if there is not None:
            return there
        try:
            return await self._shared.values.add(key, value, ttl_s)
        except StoreAwayError:
            return await self._claim_here(key, value, ttl_s)

    async def renew(self, key: str, value: bytes, ttl_s: float) -> bool:
        if await self._own.values.renew(key, value, ttl_s):
            return True
        try:
            return await self._shared.values.renew(key, value, ttl_s)
        except StoreAwayError:
            return await self._claim_here(key, value, ttl_s) is None

    def release(self, key: str, value: bytes) -> None:
        self._claimed_here.pop(key, None)
        self._own.values.release(key, value)
        self._shared.values.release(key, value)

    async def remove(self, key: str, value: bytes | None = None) -> None:
        self._claimed_here.pop(key, None)
        await self._own.values.remove(key, value)
        try:
            await self._shared.values.remove(key, value)
        except StoreAwayError:
            return  # a claim ends with its lease

    async def clear(self, tags: Sequence[str], pattern: str | None = None) -> int:
        return await self._shared.values.clear(tags, pattern)

    async def status(self) -> ValuesStatus:
        return await self._shared.values.status()

    async def _claim_here(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        there = await self._own.values.add(key, value, ttl_s)
        if there is None:
            _note(self._claimed_here, key)
        return there


class _FallbackBoard:
    """Remembers what hung there last, and hangs it up again in a store that came back without it."""

    def __init__(self, shared: Store, own: Store) -> None:
        self._shared = shared.board
        self._own = own.board
        self._posts = 0

    def post(self, topic: str, name: str, text: bytes, ttl_s: float, *, instead_of: bytes | None = None) -> None:
        self._posts += 1
        self._own.post(topic, name, text, ttl_s)
        self._shared.post(topic, name, text, ttl_s, instead_of=instead_of)

    async def read(self, topic: str) -> Mapping[str, Note]:
        posts = self._posts
        known = await self._own.read(topic)
        try:
            found = await self._shared.read(topic)
        except StoreAwayError:
            return known
        if posts == self._posts:  # else this was read before the newest note hung there
            self._agree(topic, known, found)
        return found

    def _agree(self, topic: str, known: Mapping[str, Note], found: Mapping[str, Note]) -> None:
        for name, note in found.items():
            self._own.post(topic, name, note.text, note.left_s)
        for name in known.keys() - found.keys():
            note = known[name]
            if note.left_s > _ENDS_SOON_S:
                self._shared.post(topic, name, note.text, note.left_s, instead_of=note.text)


def _note(notes: dict[str, None], key: str) -> None:
    if len(notes) >= _MOST_OWN:
        del notes[next(iter(notes))]
    notes[key] = None
