"""Unknown keys, asked of the database together: a flood of wrong ones costs it about one question a second."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from llmgateway.storage.admin.rows import KeyRow, OrganizationRow
from llmgateway.storage.queries import StorageAwayError

Found = tuple[KeyRow, OrganizationRow | None]

EVERY_S = 1.0
_AT_ONCE = 10


class ManyRows(Protocol):
    """Where keys are kept."""

    async def keys_by_hash(self, digests: Sequence[str]) -> Mapping[str, Found]:
        """Find keys by the hashes of them, or of the ones before their rotation. Raises: OSError."""
        ...


class _Question(Struct, eq=False):
    """What is asked next, or was.

    Args:
        found: `None` until it is answered.
    """

    digests: dict[str, None] = field(default_factory=dict)
    found: Mapping[str, Found] | None = None
    failure: OSError | None = None


class Together:
    """Whoever comes while a question is under way shares the next one.

    A question in which all keys are right is asked at once. Of those with wrong keys `_AT_ONCE` are, then one every
    `every_s`: so long, at most, does a right key wait that comes here for the first time during a flood.

    Args:
        clock: Seconds.
    """

    def __init__(
        self, rows: ManyRows, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._rows = rows
        self._every_s = every_s
        self._clock = clock
        self._next = _Question()
        self._turn = asyncio.Lock()
        self._left = float(_AT_ONCE)
        self._at = clock()

    async def key_by_hash(self, digest: str) -> Found | None:
        """Find a key by the hash of it, or of the one before its rotation. Raises: OSError."""
        question = self._next
        question.digests[digest] = None
        async with self._turn:
            if question.found is None and question.failure is None:
                # The first of those who share it; also when that one left before the answer came.
                await self._ask(question)
        if question.failure is not None:
            raise StorageAwayError(str(question.failure)) from question.failure
        return None if question.found is None else question.found.get(digest)

    async def _ask(self, question: _Question) -> None:
        if (wait_s := self._wait_s()) > 0:
            await asyncio.sleep(wait_s)
        if question is self._next:
            self._next = _Question()  # what comes from here on may be newer than the answer
        self._left -= 1.0  # at once: whoever hangs up meanwhile has asked as well
        try:
            found = await self._rows.keys_by_hash(list(question.digests))
        except OSError as error:
            question.failure = error
            return
        if len(found) >= len(question.digests):
            self._left += 1.0
        question.found = found

    def _wait_s(self) -> float:
        now = self._clock()
        self._left = min(_AT_ONCE, self._left + (now - self._at) / self._every_s)
        self._at = now
        return max(0.0, (1.0 - self._left) * self._every_s)
