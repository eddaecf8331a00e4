"""All jobs of somebody, watched at once, in one place for all of them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec import structs

from llmgateway.jobs.watching.listing import Listing, state_of
from llmgateway.jobs.watching.watched import Watched
from llmgateway.jobs.watching.window import Watcher, Window
from llmgateway.storage.jobs.rows import LIVE, EventRow, JobRow, Wanted

# Clocks of processes differ: of two jobs that were made so soon after one another, either may have been the first.
_SKEW = timedelta(seconds=60)
_MOST_REMEMBERED = 10_000


class Everything:
    """One who watches all of his jobs.

    Args:
        wanted: Which jobs.
    """

    def __init__(self, wanted: Wanted, watched: Watched, listing: Listing) -> None:
        self.watcher = Watcher()
        self._wanted = structs.replace(wanted, status=None)
        self._watched = watched
        self._listing = listing
        self._places: dict[Window, int] = {}
        self._touched: dict[Window, None] = {}
        self._seen: dict[str, None] = {}
        self._since = datetime.now(UTC) - _SKEW
        self._turn = -1  # the listing's, when it was looked at last

    async def states(self) -> Sequence[EventRow] | None:
        """Begin: give the states of all live jobs; `None`: that cannot be found out now."""
        ended = await self._watched.ask(lambda: self._listing.new(self._wanted, self._has_just_ended))
        jobs = await self._watched.ask(lambda: self._listing.live(self._wanted))
        if ended is None or jobs is None:
            return None
        for job in ended:
            self._see(job)
        for job in jobs:
            self._enter(job, job.events)
        return [state_of(job) for job in jobs]

    async def next(self) -> Sequence[EventRow] | None:
        """Give what came of one of the jobs.

        Nothing: there is no more for now; `None`: that cannot be found out now.
        """
        self._touched.update(dict.fromkeys(self.watcher.take()))  # before the look: what comes after it is news
        turn = self._listing.turn
        if self._turn != turn:
            new = await self._watched.ask(lambda: self._listing.new(self._wanted, self._is_new))
            if new is None:
                return None
            self._turn = turn
            for job in new:
                self._enter(job, 0)
        return await self._news()

    def close(self) -> None:
        """Watch nothing any more."""
        for window in self._places:
            self._watched.leave(window, self.watcher)
        self._places.clear()

    async def _news(self) -> Sequence[EventRow] | None:
        while self._touched:
            window = next(iter(self._touched))
            at = self._places.get(window)
            rows = () if at is None else await self._watched.rows(window, at)
            if rows is None:
                return None
            del self._touched[window]
            if rows:
                self._places[window] = rows[-1].id
                self._touched[window] = None  # last of all, so that nobody waits for one that never stops
                return rows
            if at is not None and window.is_over(at):
                del self._places[window]
                self._watched.leave(window, self.watcher)
        return ()

    def _is_new(self, job: JobRow) -> bool:
        is_known = job.id in self._seen or self._watched.find(job.id) in self._places
        return not is_known and (job.status in LIVE or job.created_at >= self._since)

    def _has_just_ended(self, job: JobRow) -> bool:
        return job.status not in LIVE and job.created_at >= self._since

    def _see(self, job: JobRow) -> None:
        if len(self._seen) >= _MOST_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[job.id] = None

    def _enter(self, job: JobRow, at: int) -> None:
        self._see(job)
        window = self._watched.enter(job.id, self.watcher, at)
        self._places[window] = at
        self._touched[window] = None
