"""Bytes with a time to live, in the memory of one process: bounded, and the least used goes first.

Answers, other values and claims have bounds of their own, so that none of them pushes out another kind.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice

from msgspec import Struct

from llmgateway.stores.base import Claim, Held, Ready, Tags, ValuesStatus

ANSWERS = "answer:"
NAME = "name:"
# What an entry takes beside its bytes: objects, tags, and its place in the table.
_ENTRY_BYTES = 550
# And what the parts of an object take beside theirs.
_READY_BYTES = 400
_SWEEP = 500
_LOOKED_AT_ONCE = 500


class _Entry(Struct, gc=False):
    value: bytes | Ready
    until: float
    since: float
    size_bytes: int
    tags: Sequence[str] | Tags = ()


class _Shelf:
    """Entries, the least used first."""

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self.size_bytes = 0
        self.evictions = 0
        self._to_sweep: Iterator[str] = iter(())

    def get(self, key: str, now: float) -> _Entry | None:
        entry = self.entries.get(key)
        if entry is None:
            return None
        if entry.until <= now:
            self.remove(key)
            return None
        self.entries.move_to_end(key)
        return entry

    def put(self, key: str, value: bytes | Ready, ttl_s: float, now: float, tags: Sequence[str] | Tags = ()) -> None:
        entries = self.entries
        if key in entries:
            self.remove(key)
        value_bytes = len(value) if isinstance(value, bytes) else _READY_BYTES + value.size_bytes
        size_bytes, max_bytes = _ENTRY_BYTES + len(key) + value_bytes, self.max_bytes
        if size_bytes > max_bytes:
            return  # it would push out all others, and itself
        entries[key] = _Entry(value, now + ttl_s, now, size_bytes, tags)
        all_bytes = self.size_bytes + size_bytes
        while all_bytes > max_bytes or len(entries) > self.max_entries:
            all_bytes -= entries.popitem(last=False)[1].size_bytes
            self.evictions += 1
        self.size_bytes = all_bytes

    def remove(self, key: str) -> bool:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
        return entry is not None

    def sweep(self, now: float) -> None:
        """Forget what is over among the next few entries, all of them in turn."""
        some = list(islice(self._to_sweep, _SWEEP))
        for key in some:
            entry = self.entries.get(key)
            if entry is not None and entry.until <= now:
                self.remove(key)
        if len(some) < _SWEEP:
            self._to_sweep = iter(list(self.entries))


class MemoryValues:
    """Values of this process.

    Args:
        max_bytes, max_entries: Of answers.
        max_other_bytes: Of all other values, which have as many entries at most.
        clock: Seconds, from anywhere.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 64 * 1024**2,
        max_entries: int = 10_000,
        max_other_bytes: int = 64 * 1024**2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answers = _Shelf(max_bytes, max_entries)
        self._others = _Shelf(max_other_bytes, 100_000)
        # Claims are as many as calls in flight, and end with their lease when nobody removes them.
        self._claims = _Shelf(max_other_bytes, 1_000_000)
        self._clock = clock

    def __len__(self) -> int:
        return sum(len(shelf.entries) for shelf in (self._answers, self._others, self._claims))

    async def get(self, key: str) -> bytes | None:
        return self.look(key)

    def look(self, key: str) -> bytes | None:
        """Read a value, without waiting."""
        found = self.find(key)
        return found if found is None or isinstance(found, bytes) else found.packed()

    def find(self, key: str) -> bytes | Ready | None:
        """Read a value as it is kept, without waiting."""
        shelf = self._answers if key.startswith(ANSWERS) else self._others
        entry = shelf.entries.get(key)
        if entry is None:
            shelf = self._claims  # a key is on one shelf at most
            entry = shelf.entries.get(key)
            if entry is None:
                return None
        if entry.until <= self._clock():
            shelf.remove(key)
            return None
        shelf.entries.move_to_end(key)
        return entry.value

    async def get_or_claim(self, key: str, claim: Claim) -> bytes | Held | None:
        there = self.look(key)
        if there is not None:
            return there
        holder = self.look(claim.key)
        if holder is None or holder == claim.holder:
            self._claims.put(claim.key, claim.holder, claim.ttl_s, self._clock())
            holder = claim.holder
        return Held(holder)

    def put(self, key: str, value: bytes | Ready, ttl_s: float, tags: Sequence[str] | Tags = ()) -> None:
        if key in self._claims.entries:
            self._claims.remove(key)
        shelf = self._answers if key.startswith(ANSWERS) else self._others
        shelf.put(key, value, ttl_s, self._clock(), tags)

    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        there = self.look(key)
        if there is None:
            self._claims.put(key, value, ttl_s, self._clock())
        return there

    async def renew(self, key: str, value: bytes, ttl_s: float) -> bool:
        now = self._clock()
        for shelf in (self._claims, self._others, self._answers):
            entry = shelf.get(key, now)
            if entry is not None and entry.value == value:
                entry.until = now + ttl_s
                return True
        return False

    def release(self, key: str, value: bytes) -> None:
        if self.look(key) == value:
            self._remove(key)

    async def remove(self, key: str, value: bytes | None = None) -> None:
        if value is None or self.look(key) == value:
            self._remove(key)

    async def clear(self, tags: Sequence[str], pattern: str | None = None) -> int:
        wanted = set(tags)
        cleared = 0
        now = self._clock()
        for count, key in enumerate(list(self._answers.entries), 1):
            entry = self._answers.entries.get(key)
            if entry is not None and _is_meant(key, entry.tags, wanted, pattern):
                self._answers.remove(key)
                cleared += entry.until > now
            if count % _LOOKED_AT_ONCE == 0:
                await asyncio.sleep(0)  # requests come first
        return cleared

    async def status(self) -> ValuesStatus:
        answers = self._answers
        now = self._clock()
        oldest_since = min((entry.since for entry in answers.entries.values()), default=None)
        return ValuesStatus(
            entries=len(answers.entries),
            size_bytes=answers.size_bytes,
            max_bytes=answers.max_bytes,
            max_entries=answers.max_entries,
            evictions=answers.evictions,
            oldest_s=None if oldest_since is None else now - oldest_since,
        )

    def sweep(self) -> None:
        """Forget a few of those that are over; call it now and then."""
        now = self._clock()
        for shelf in (self._answers, self._others, self._claims):
            shelf.sweep(now)

    def _remove(self, key: str) -> None:
        for shelf in (self._claims, self._others, self._answers):
            shelf.remove(key)


def _is_meant(key: str, given: Sequence[str] | Tags, wanted: set[str], pattern: str | None) -> bool:
    tags = given if isinstance(given, Sequence) else given.of(key)
    if not wanted.issubset(tags):
        return False
    return pattern is None or any(tag.startswith(NAME) and fnmatchcase(tag[len(NAME) :], pattern) for tag in tags)
