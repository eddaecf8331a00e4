"""What is known of one job that is watched: its newest events, for all who watch it together.

The database is the truth. A window is only what need not be asked of it: whatever a watcher does not find here is read
there.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

import anyio
import msgspec
from msgspec import Struct

from llmgateway.storage.jobs.rows import ENDED, EventRow, Status

# Whoever falls further behind reads from the database.
_MOST_ROWS = 64
_MOST_BYTES = 256 * 1024


class _Body(Struct):
    status: Status | None = None


_BODY = msgspec.json.Decoder(_Body)


def is_final(row: EventRow) -> bool:
    """Whether the job has ended with this event."""
    try:
        return _BODY.decode(row.body).status in ENDED
    except msgspec.DecodeError:
        return False


class Watcher:
    """Somebody who waits for news of one window or many; his place in each of them is his own."""

    __slots__ = ("_news", "_touched")

    def __init__(self) -> None:
        self._touched: dict[Window, None] = {}
        self._news = asyncio.Event()

    def touch(self, window: "Window | None" = None) -> None:
        """Say that there is news, of this window or in general."""
        if window is not None:
            self._touched[window] = None
        self._news.set()

    def take(self) -> "list[Window]":
        """Give the windows of which there is news, once; what comes from now on is news again."""
        touched, self._touched = list(self._touched), {}
        self._news.clear()
        return touched

    async def wait(self, timeout_s: float) -> None:
        """Wait for news, or until the time is over."""
        with anyio.move_on_after(timeout_s):
            await self._news.wait()


class Window:
    """The newest events of a job, without a gap.

    Args:
        job_id: Whose.
    """

    __slots__ = ("_ends", "_rows", "followed", "gone", "head", "heard", "job_id", "last", "reading", "watchers")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.head: int | None = None  # the last event that is known to be there; `None`: nothing is known
        self.last: int | None = None  # the event after which none can come, once that is certain
        self.gone = False  # the job was deleted
        self.heard = False  # something came since the last comparison with the database
        self.followed = False  # the feed is read for it
        self.reading = asyncio.Lock()  # one reads for all who miss the same
        self.watchers: set[Watcher] = set()
        self._rows: deque[EventRow] = deque()
        self._ends: int | None = None  # the newest event, when the job has ended with it

    def after(self, at: int) -> list[EventRow] | None:
        """Give what came after an event; `None`: that must be read from the database."""
        if self.head is None or at > self.head:
            return None
        if at == self.head:
            # Its commit may hold one more event, which has not come yet.
            return None if self._ends == at and self.last is None else []
        rows = self._rows
        if not rows or at + 1 < rows[0].id or at >= rows[-1].id:
            return None
        return [row for row in rows if row.id > at]

    def is_over(self, at: int) -> bool:
        """Whether nothing comes after an event any more."""
        return self.gone or (self.last is not None and at >= self.last)

    def add(self, rows: Sequence[EventRow], *, after: int = 0, whole: bool = False) -> None:
        """Take events, without a gap between them.

        Args:
            after: The event that they follow.
            whole: Whether the last of them was the job's last, just now.
        """
        head, last = self.head, self.last
        if rows:
            self._join(rows)
        end = rows[-1].id if rows else after
        if whole:
            self.head = max(end, self.head or 0)
            if self._ends == end == self.head:
                self.last = end
        if head != self.head or last != self.last:
            self.heard = True
            self._tell()

    def compare(self, head: int | None) -> None:
        """Take what the database says: the last event's id; `None`: there is no such job."""
        if head is None:
            self.gone = True
        elif self.head is None or head > self.head:
            self.head = head
        else:
            return
        self._tell()

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher.touch(self)

    def _join(self, rows: Sequence[EventRow]) -> None:
        kept, newest = self._rows, rows[-1]
        if kept and rows[0].id <= kept[-1].id + 1 and newest.id >= kept[0].id - 1:
            first, last = kept[0].id, kept[-1].id
            kept.extendleft(row for row in reversed(rows) if row.id < first)
            kept.extend(row for row in rows if row.id > last)
        elif self.head is None or newest.id >= self.head:
            self._rows = kept = deque(rows)
        else:
            return
        if self.head is None or newest.id >= self.head:
            self.head = newest.id
            self._ends = newest.id if is_final(newest) else None
        self._trim()

    def _trim(self) -> None:
        rows = self._rows
        size_bytes = sum(len(row.body) for row in rows)
        while len(rows) > 1 and (len(rows) > _MOST_ROWS or size_bytes > _MOST_BYTES):
            size_bytes -= len(rows.popleft().body)
