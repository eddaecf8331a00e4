"""All jobs that are watched in this process, and the way from each to its events."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from llmgateway.jobs.watching.window import Watcher, Window
from llmgateway.storage.admin.rows import Page
from llmgateway.storage.jobs.rows import EventRow, JobRow, Wanted

# Events may hold a whole result each.
_PAGE = 200
_ANSWER_WITHIN_S = 10.0
# A database that did not answer is left alone for so long, however many want to ask it.
RETRY_S = 1.0

Answer = TypeVar("Answer")


class Kept(Protocol):
    """Where jobs are written down. Every question raises `OSError` when it cannot be answered now."""

    async def events(self, job_id: str, after: int = 0, most: int = 1000) -> Sequence[EventRow]:
        """Read a job's events after one, in order."""
        ...

    async def heads(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        """Give the id of each job's last event; a job that is not there is left out."""
        ...

    async def jobs(self, wanted: Wanted, page: int = 1, page_size: int = 50) -> Page[JobRow]:
        """Read jobs, newest first; without results."""
        ...


class Watched:
    """Opens a window for each job that somebody watches, and closes it when nobody does any more.

    Args:
        known: Called when it becomes known of one more from where on the feed is to be read.
    """

    def __init__(self, jobs: Kept, known: Callable[[], None]) -> None:
        self._jobs = jobs
        self._known = known
        self._windows: dict[str, Window] = {}
        self._away_until = 0.0

    def __len__(self) -> int:
        return len(self._windows)

    def find(self, job_id: str) -> Window | None:
        """Give the window of a job that is watched."""
        return self._windows.get(job_id)

    def enter(self, job_id: str, watcher: Watcher, head: int = 0) -> Window:
        """Let somebody watch a job.

        Args:
            head: Its last event, when that is known; the next comparison shows whether it still is.
        """
        window = self._windows.get(job_id)
        if window is None:
            window = self._windows[job_id] = Window(job_id)
        if head:
            window.compare(head)
            self._tell(window)
        window.watchers.add(watcher)
        return window

    def leave(self, window: Window, watcher: Watcher) -> None:
        """Let him watch it no longer."""
        window.watchers.discard(watcher)
        if not window.watchers:
            self._windows.pop(window.job_id, None)

    def heads(self) -> dict[str, int]:
        """Say, for all of whom anything is known, how far: from there on the feed is read, by the jobs' ids."""
        heads = {}
        for window in self._windows.values():
            if window.head is not None and window.last is None:
                heads[window.job_id] = window.head
        return heads

    async def rows(self, window: Window, at: int) -> Sequence[EventRow] | None:
        """Give what came after an event, perhaps nothing; `None`: that cannot be found out now."""
        rows: Sequence[EventRow] | None = window.after(at)
        if rows is None:
            rows = await self._read(window, at)
        self._tell(window)
        return rows

    async def start(self, window: Window, after: int) -> int | None:
        """Say after which event to begin: the one that is named, or none when there is no such one.

        `None`: that cannot be found out now.
        """
        if after <= 0 or window.after(after) is not None:
            return max(after, 0)
        rows = await self.ask(lambda: self._jobs.events(window.job_id, after - 1, _PAGE))
        if rows is None:
            return None
        if not rows or rows[0].id != after:
            return 0
        if len(rows) < _PAGE:
            window.add(rows, whole=True)
        return after

    async def compare(self) -> None:
        """Ask the database about all from which nothing came since the last time."""
        silent = [window for window in self._windows.values() if not window.heard]
        for window in self._windows.values():
            window.heard = False
        if not silent:
            return
        heads = await self.ask(lambda: self._jobs.heads([window.job_id for window in silent]))
        if heads is not None:
            for window in silent:
                window.compare(heads.get(window.job_id))

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Ask the database; `None`: it does not answer now, or did not a moment ago."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await question()
        except OSError:  # as a time limit is, too
            self._away_until = loop.time() + RETRY_S
            return None

    def _tell(self, window: Window) -> None:
        if window.head is not None and not window.followed:
            window.followed = True
            self._known()

    async def _read(self, window: Window, at: int) -> Sequence[EventRow] | None:
        async with window.reading:
            rows: Sequence[EventRow] | None = window.after(at)
            if rows is not None:
                return rows
            rows = await self.ask(lambda: self._jobs.events(window.job_id, at, _PAGE))
            if rows is not None and len(rows) < _PAGE:
                window.add(rows, after=at, whole=True)
            return rows


class Beat:
    """Waits with a watcher, and notes how long nothing came.

    Args:
        beat_s: How long a silence may be.
    """

    def __init__(self, watcher: Watcher, beat_s: float) -> None:
        self._watcher = watcher
        self._beat_s = beat_s
        self._now = asyncio.get_running_loop().time
        self._due = self._now() + beat_s

    def start(self) -> None:
        """Begin anew: something came."""
        self._due = self._now() + self._beat_s

    async def wait(self, *, late: bool) -> bool:
        """Wait for news; whether nothing came for a whole beat.

        Args:
            late: The database did not answer, so that it is worth another look soon, without any news.
        """
        wait_s = self._due - self._now()
        await self._watcher.wait(min(wait_s, RETRY_S) if late else wait_s)
        is_due = self._now() >= self._due
        if is_due:
            self.start()
        return is_due
