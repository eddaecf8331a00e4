"""Who holds a key, by its hash: asked of the database once, then remembered until something about it changes.

A look-up that was under way while news of its key came is thrown away and repeated, so that what was read before a
change never comes back after it. While the database is away, keys that are known go on.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from typing import Protocol

from msgspec import Struct, field

from llmgateway.caller import Caller
from llmgateway.errors import KeysAwayError
from llmgateway.storage.admin.rows import ChangeKind, KeyRow, OrganizationRow

LOOK_UP_LIMIT_S = 5.0
REFRESH_S = 60.0
_MOST_KNOWN = 50_000
_MOST_WRONG = 10_000
_REFRESH_EVERY_S = 1.0
_MOST_REFRESHED = 50  # in one go: the database has more to do

Found = tuple[KeyRow, OrganizationRow | None]


class Rows(Protocol):
    """Where keys are kept."""

    async def key_by_hash(self, digest: str) -> Found | None:
        """Find a key by the hash of it, or of the one before its rotation. Raises: OSError."""
        ...


class _Known(Struct, frozen=True):
    """A caller, until when its key holds (Unix seconds), and when that was read (`time.perf_counter` seconds)."""

    caller: Caller
    ends_at: float
    read_at: float


class _LookUp(Struct):
    """A question under way, for whoever waits for it."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    news: set[tuple[str, str]] = field(default_factory=set)
    away: KeysAwayError | None = None


def _now() -> datetime:
    return datetime.now(UTC)


class Directory:
    """Remembers callers by the hashes of their keys, and wrong keys apart from them, both bounded.

    Args:
        rows: Asked for what is not known.
        most_wrong: So many wrong keys are remembered; they never push out a right one.
        refresh_s: A key in use is read again after so long, beside the requests, in case news of it were lost.
        limit_s: How long a look-up may take.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        most_known: int = _MOST_KNOWN,
        most_wrong: int = _MOST_WRONG,
        refresh_s: float = REFRESH_S,
        limit_s: float = LOOK_UP_LIMIT_S,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._rows = rows
        self._most_known = most_known
        self._most_wrong = most_wrong
        self._refresh_s = refresh_s
        self._limit_s = limit_s
        self._now = now
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._wrong: OrderedDict[str, None] = OrderedDict()
        self._old: set[str] = set()
        self._under_way: dict[str, _LookUp] = {}

    def known(self, digest: str) -> Caller | None:
        """Give the caller whose key has this hash, when no question is needed; `None` says nothing."""
        known = self._known.get(digest)
        if known is None or (known.ends_at != inf and known.ends_at <= self._now().timestamp()):
            return None
        self._known.move_to_end(digest)
        if time.perf_counter() - known.read_at > self._refresh_s:
            self._old.add(digest)
        return known.caller

    async def find(self, digest: str) -> Caller | None:
        """Give the caller whose key has this hash; `None` when nobody's has, or when it no longer holds.

        Raises:
            KeysAwayError: The key is not known here, and the database cannot be asked.
        """
        while True:
            if digest in self._known:
                # One that is over stays over: nothing but a change, which drops it, prolongs a key.
                return self.known(digest)
            if digest in self._wrong:
                self._wrong.move_to_end(digest)
                return None
            waiting = self._under_way.get(digest)
            if waiting is None:
                await self._look_up(digest)
                return self.known(digest)
            await waiting.done.wait()
            if waiting.away is not None:
                raise KeysAwayError(waiting.away.message)

    def changed(self, kind: ChangeKind, subject: str) -> None:
        """Forget what a change may have made untrue, and have look-ups that are under way repeated."""
        if kind not in {"key", "organization"}:
            return
        for look_up in self._under_way.values():
            look_up.news.add((kind, subject))
        if kind == "key":
            gone = [digest for digest, known in self._known.items() if known.caller.key_id == subject]
            self._wrong.clear()
        else:
            gone = [digest for digest, known in self._known.items() if known.caller.organization == subject]
        for digest in gone:
            del self._known[digest]

    def everything_changed(self) -> None:
        """Forget everything: nobody can say what changed."""
        self._known.clear()
        self._wrong.clear()
        for look_up in self._under_way.values():
            look_up.news.add(_ANYTHING)

    async def run(self) -> None:
        """Read again, by and by, what is in use and was read long ago; for ever: cancel to end."""
        while True:
            await asyncio.sleep(_REFRESH_EVERY_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Read some of it again; while the database is away, all stays as it is."""
        for digest in list(self._old)[:_MOST_REFRESHED]:
            self._old.discard(digest)
            if digest in self._known and digest not in self._under_way:
                try:
                    await self._look_up(digest)
                except KeysAwayError:
                    return
                except Exception:  # noqa: BLE001  the next request with this key meets it too, and is told and logged
                    self._known.pop(digest, None)

    async def _look_up(self, digest: str) -> None:
        """Ask, and remember the answer; whoever needs the same meanwhile waits for it."""
        look_up = self._under_way[digest] = _LookUp()
        try:
            async with asyncio.timeout(self._limit_s):
                found = await self._rows.key_by_hash(digest)
                while look_up.news and _concern(look_up.news, found):
                    look_up.news.clear()
                    found = await self._rows.key_by_hash(digest)
            self._remember(digest, found)
        except OSError:
            # Its message may name an internal address. Time that ran out is one as well.
            look_up.away = KeysAwayError("The keys cannot be read now, so nobody can say whether yours is right.")
            raise look_up.away from None
        finally:
            del self._under_way[digest]
            look_up.done.set()

    def _remember(self, digest: str, found: Found | None) -> None:
        self._known.pop(digest, None)
        if found is None:
            self._wrong[digest] = None
            if len(self._wrong) > self._most_wrong:
                self._wrong.popitem(last=False)
            return
        row, organization = found
        self._known[digest] = _Known(caller_of(row, organization), _end_of(row, digest), time.perf_counter())
        if len(self._known) > self._most_known:
            self._known.popitem(last=False)


_ANYTHING = ("anything", "")


def _concern(news: set[tuple[str, str]], found: Found | None) -> bool:
    """Whether something that changed while it was read may have made an answer untrue."""
    if _ANYTHING in news:
        return True
    if found is None:
        return any(kind == "key" for kind, _ in news)
    row, _ = found
    return ("key", row.id) in news or ("organization", row.organization_id) in news


def caller_of(row: KeyRow, organization: OrganizationRow | None) -> Caller:
    """Say what a key says of whoever holds it."""
    return Caller(
        kind="client",
        key_id=row.id,
        organization=row.organization_id,
        models=row.models,
        tier=row.tier,
        strategy=row.strategy,
        most_urgent=_most_urgent(row),
        limits=row.limits,
        budget=row.budget,
        organization_limits=None if organization is None else organization.limits,
        organization_budget=None if organization is None else organization.budget,
    )


def _most_urgent(row: KeyRow) -> int:
    """Read how urgent its jobs may be, as its owner says in `metadata.max_priority`."""
    text = row.metadata.get("max_priority", "")
    return int(text) if len(text) == 1 and text.isdecimal() and text.isascii() else Caller().most_urgent


def _end_of(row: KeyRow, digest: str) -> float:
    """Say until when a key holds that was found by this hash, in Unix seconds."""
    if row.disabled:
        return -inf
    ends = [inf if row.expires_at is None else row.expires_at.timestamp()]
    if digest != row.hash:
        # The key before the last rotation, which holds for a while beside the new one.
        ends.append(-inf if row.previous_until is None else row.previous_until.timestamp())
    return min(ends)
