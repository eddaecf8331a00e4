"""Moves the journal to the database: in batches, beside the requests, and nothing is deleted before its commit.

What was shipped is not remembered anywhere: an entry that comes twice has the same id, and the database keeps one.
"""

import random
import time
from asyncio import Event
from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec
from anyio import to_thread
from structlog.typing import FilteringBoundLogger

from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.journal import Journal
from llmgateway.storage.segments import Segment, adopt

Add = Callable[[Sequence[LedgerEntry]], Awaitable[None]]

_BATCH = 1_000
_EVERY_S = 1.0
_ADOPT_EVERY_S = 10.0
_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 5.0
_FAREWELL_S = 2.0
_MOST_REFUSALS = 25  # in a row, before it is the database rather than the entries
_LONGEST_REASON = 500


class _RefusedError(Exception):
    """The database is there and takes nothing: a table is missing, or a right."""


class Shipper:
    """Ships what a journal holds, and what dead processes left beside it.

    Args:
        add: Writes entries to the database in one transaction and ignores those that are there; raises an `OSError`
            when the database is away.
        ready: Set once the database was first reached; `None` is at once. Until then all waits, which is no fault.
    """

    def __init__(
        self,
        journal: Journal,
        add: Add,
        logger: FilteringBoundLogger,
        *,
        ready: anyio.Event | None = None,
        every_s: float = _EVERY_S,
        adopt_every_s: float = _ADOPT_EVERY_S,
        longest_delay_s: float = _LONGEST_DELAY_S,
    ) -> None:
        self.away = False  # the database, as far as the last try tells
        self._journal = journal
        self._add = add
        self._logger = logger
        self._ready = ready
        self._every_s = every_s
        self._adopt_every_s = adopt_every_s
        self._longest_delay_s = longest_delay_s
        self._failures = 0
        self._adopt_at_s = 0.0
        self._taken = 0  # entries that the database took
        self._news = Event()
        self._asked = Event()
        self._waiting: list[Event] = []
        journal.wake = self._news.set

    async def run(self) -> None:
        """Ship for ever; cancel to end."""
        if self._ready is not None:
            await self._ready.wait()
        while True:
            await self._adopt()
            if await self._ship():
                await self._rest()
            else:
                await anyio.sleep(self._delay_s())

    async def flush(self, within_s: float) -> bool:
        """Ship what this process has now, while `run` runs. Returns whether all of it is in the database."""
        if self._journal.idle:
            return True
        if self.away:
            return False
        done = Event()
        self._waiting.append(done)
        self._asked.set()
        self._news.set()
        with anyio.move_on_after(within_s):
            await done.wait()
        return done.is_set() and not self.away

    async def close(self) -> None:
        """Ship what is there if that is soon done, and leave the rest to the next start. `run` has ended."""
        with anyio.move_on_after(_FAREWELL_S):
            await self._ship()
        self._journal.close()

    async def _rest(self) -> None:
        """Wait for entries, then a while for more of them, so that one transaction takes many."""
        with anyio.move_on_after(max(0.0, self._adopt_at_s - time.monotonic())):
            await self._news.wait()
        if self._news.is_set():
            with anyio.move_on_after(self._every_s):
                await self._asked.wait()

    def _delay_s(self) -> float:
        delay_s = min(self._longest_delay_s, _FIRST_DELAY_S * 2.0 ** min(self._failures, 16))
        return delay_s * random.uniform(0.5, 1.0)

    async def _adopt(self) -> None:
        journal = self._journal
        if journal.adopted or time.monotonic() < self._adopt_at_s:
            return
        found = await to_thread.run_sync(adopt, journal.folder)
        if found:
            size_bytes = sum(segment.size_bytes for segment in found)
            self._logger.info("journal_adopted", segments=len(found), bytes=size_bytes)
            journal.adopted.extend(found)
        else:
            self._adopt_at_s = time.monotonic() + self._adopt_every_s

    async def _ship(self) -> bool:
        """Ship all there is. Returns whether the database took it."""
        self._news.clear()
        self._asked.clear()
        waiting, self._waiting = self._waiting, []
        try:
            await self._ship_closed()
        except (OSError, _RefusedError) as error:
            self._fails(error)
            return False
        finally:
            for done in waiting:
                done.set()
        self._works()
        return True

    async def _ship_closed(self) -> None:
        journal = self._journal
        if not journal.write_waiting():
            self._news.set()
        journal.close_current()
        refused: _RefusedError | None = None
        for segment in list(journal.closed):
            refused = await self._ship_segment(segment) or refused
        while journal.adopted and not refused and not self._asked.is_set():
            refused = await self._ship_segment(journal.adopted[0])
        if journal.adopted:
            self._news.set()
        if refused:
            raise refused

    async def _ship_segment(self, segment: Segment) -> _RefusedError | None:
        """Ship one segment, from where the last try ended. Returns why the database took none of a batch.

        Raises:
            OSError: The database is away.
        """
        last = False
        while not last:
            try:
                batch = await to_thread.run_sync(segment.read, _BATCH)
            except OSError as error:
                self._logger.warning("journal_segment_unreadable", segment=segment.path.name, reason=str(error))
                await to_thread.run_sync(segment.set_aside_whole)
                self._journal.forget(segment)
                return None
            try:
                refused = await self._deliver(segment, batch.entries)
            except _RefusedError as error:
                return error
            await self._set_aside(segment, [*batch.broken, *map(msgspec.json.encode, refused)])
            if batch.torn:
                self._logger.warning("journal_line_torn", segment=segment.path.name, bytes=len(batch.torn))
                self._journal.lost += 1
            segment.shipped_bytes, last = batch.end_bytes, batch.last
        await to_thread.run_sync(segment.remove)
        self._journal.forget(segment)
        return None

    async def _deliver(self, segment: Segment, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        """Give entries to the database, in smaller and smaller parts when it refuses them. Returns what it refuses.

        Raises:
            OSError: It is away.
            _RefusedError: It refuses whatever it is given.
        """
        refused: list[LedgerEntry] = []
        parts = [entries] if entries else []
        before, refusals = self._taken, 0
        # It took others since it refused these: then it is not the database.
        proven = segment.refused_at is not None and before > segment.refused_at
        while parts:
            part = parts.pop()
            reason = await self._offer(part)
            if reason is None:
                continue
            refusals += 1
            if len(part) > 1:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
            else:
                refused += part
            if not proven and self._taken == before and (not parts or refusals >= _MOST_REFUSALS):
                segment.refused_at = self._taken
                raise _RefusedError(reason)
        return refused

    async def _offer(self, entries: Sequence[LedgerEntry]) -> str | None:
        """Give entries to the database. Returns why it refused them.

        Raises:
            OSError: It is away.
        """
        try:
            await self._add(entries)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  one entry that the database refuses must not hold up the others
            return repr(error)[:_LONGEST_REASON]
        self._taken += len(entries)
        self._journal.shipped += len(entries)
        return None

    async def _set_aside(self, segment: Segment, lines: list[bytes]) -> None:
        if not lines:
            return
        self._journal.lost += len(lines)
        self._logger.error("journal_lines_set_aside", file=f"{segment.path.name}.broken", lines=len(lines))
        try:
            await to_thread.run_sync(segment.set_aside, lines)
        except OSError as error:
            self._logger.warning("journal_lines_lost", lines=len(lines), reason=str(error))

    def _fails(self, error: Exception) -> None:
        self._failures += 1
        if not self.away:
            self.away = True
            self._logger.error("ledger_database_away", reason=str(error), backlog_bytes=self._journal.backlog_bytes)

    def _works(self) -> None:
        self._failures = 0
        if self.away:
            self.away = False
            self._logger.info("ledger_database_back", shipped=self._journal.shipped)
