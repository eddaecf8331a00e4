"""Jobs as they are watched: what each tells, to whoever wants to hear it, from the event on that he names.

The database knows every event. The shared store only brings them sooner to other processes, and what it loses is found
when all that is watched is compared with the database, every two seconds.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

import anyio
from structlog.typing import FilteringBoundLogger

from llmgateway.jobs.watching.everything import Everything
from llmgateway.jobs.watching.listing import Listing
from llmgateway.jobs.watching.watched import RETRY_S, Beat, Kept, Watched
from llmgateway.jobs.watching.window import Watcher
from llmgateway.storage.jobs.rows import EventRow, Wanted
from llmgateway.stores.base import Store, StoreAwayError

BELL = "jobs"
_COMPARE_EVERY_S = 2.0
_LOOK_EVERY_S = 1.0
# A bell that rings for each of many new jobs makes us look no oftener than this.
_PAUSE_S = 0.1
_TOPIC = "job:"
_TTL_S = 3600.0
# Larger ones are only announced, and read from the database.
_LARGEST_TOLD_BYTES = 64 * 1024
_READ_S = 60.0
# The more is watched, the more comes together: to wait for thousands of jobs anew costs Redis a millisecond.
_TOPICS_A_SECOND = 20_000


class Live:
    """Tells of jobs. `run` must run beside it.

    Args:
        jobs: Where every event is written down.
        store: Brings events that other processes wrote.
        compare_every_s: How long an event may be missed that nobody brought.
        look_every_s: How long a new job may be missed of which no bell told.
    """

    def __init__(
        self,
        jobs: Kept,
        store: Store,
        logger: FilteringBoundLogger,
        *,
        compare_every_s: float = _COMPARE_EVERY_S,
        look_every_s: float = _LOOK_EVERY_S,
    ) -> None:
        self._watched = Watched(jobs, self._reread)
        self._listing = Listing(jobs)
        self._store = store
        self._logger = logger
        self._compare_every_s = compare_every_s
        self._look_every_s = look_every_s
        self._compare_now = asyncio.Event()
        self._everything: set[Watcher] = set()
        self._reading: anyio.CancelScope | None = None

    @property
    def watched(self) -> int:
        """How many jobs are watched in this process."""
        return len(self._watched)

    def published(self, job_id: str, rows: Sequence[EventRow]) -> None:
        """Tell of the events of one commit, which is the job's newest. Never waits, never raises."""
        if not rows:
            return
        if self._store.shared:
            for row in rows:
                told = row.body if len(row.body) <= _LARGEST_TOLD_BYTES else b""
                self._store.feed.append(_TOPIC + job_id, row.id, told, _TTL_S)
        if (window := self._watched.find(job_id)) is not None:
            window.add(rows, whole=True)

    async def run(self) -> None:
        """Hear what other processes tell, for ever; cancel to end."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._for_ever, self._compare)
            group.start_soon(self._for_ever, self._look)
            if self._store.shared:
                group.start_soon(self._for_ever, self._follow)

    async def watch(self, job_id: str, after: int = 0) -> AsyncGenerator[EventRow]:
        """Give every event of a job after one, once, in order; end after the last that there can be.

        Args:
            after: The last event that is known already; one that there is not counts as none.
        """
        async with aclosing(self.follow(job_id, after)) as events:
            async for row in events:
                if row is not None:
                    yield row

    async def follow(self, job_id: str, after: int = 0, beat_s: float = math.inf) -> AsyncGenerator[EventRow | None]:
        """Watch a job, with `None` whenever nothing came for so long."""
        watcher = Watcher()
        window = self._watched.enter(job_id, watcher)
        beat = Beat(watcher, beat_s)
        at: int | None = None
        try:
            while True:
                watcher.take()  # before the look: what comes after it is news
                at = await self._watched.start(window, after) if at is None else at
                rows = None if at is None else await self._watched.rows(window, at)
                for row in rows or ():
                    at = row.id
                    yield row
                if window.is_over(at or 0):
                    return
                if rows:
                    beat.start()
                elif await beat.wait(late=rows is None):
                    yield None
        finally:
            self._watched.leave(window, watcher)

    async def watch_all(self, wanted: Wanted) -> AsyncGenerator[EventRow]:
        """Give the state of each live job, then every event of each of them and of those that are new; never end."""
        async with aclosing(self.follow_all(wanted)) as events:
            async for row in events:
                if row is not None:
                    yield row

    async def follow_all(self, wanted: Wanted, beat_s: float = math.inf) -> AsyncGenerator[EventRow | None]:
        """Watch all of somebody's jobs, with `None` whenever nothing came for so long."""
        everything = Everything(wanted, self._watched, self._listing)
        beat = Beat(everything.watcher, beat_s)
        self._everything.add(everything.watcher)
        try:
            for row in await self._states(everything):
                yield row
            while True:
                rows = await everything.next()
                for row in rows or ():
                    yield row
                if rows:
                    beat.start()
                elif await beat.wait(late=rows is None):
                    yield None
        finally:
            self._everything.discard(everything.watcher)
            everything.close()

    async def _states(self, everything: Everything) -> Sequence[EventRow]:
        while (rows := await everything.states()) is None:
            await everything.watcher.wait(RETRY_S)
        # What came while they were read has been told to nobody.
        self._compare_now.set()
        return rows

    def _reread(self) -> None:
        """Read the feed of another job as well."""
        if self._reading is not None:
            self._reading.cancel()

    async def _follow(self) -> None:
        """Take what the feed brings for all jobs that are watched here."""
        with anyio.CancelScope() as self._reading:
            heads = self._watched.heads()
            if not heads:
                await anyio.sleep_forever()
            topics = {_TOPIC + job_id: head for job_id, head in heads.items()}
            try:
                found = await self._store.feed.read(topics, _READ_S)
            except StoreAwayError:
                await asyncio.sleep(RETRY_S)
                return
            for topic, events in found.items():
                self._take(topic.removeprefix(_TOPIC), events)
            await asyncio.sleep(len(topics) / _TOPICS_A_SECOND)

    def _take(self, job_id: str, events: Sequence[tuple[int, bytes]]) -> None:
        window = self._watched.find(job_id)
        if window is None:
            return
        for number, body in events:
            if body:
                window.add([EventRow(number, body)])
            else:
                window.compare(number)

    async def _compare(self) -> None:
        """Ask the database what nobody told."""
        with anyio.move_on_after(self._compare_every_s):
            await self._compare_now.wait()
        self._compare_now.clear()
        await self._watched.compare()

    async def _look(self) -> None:
        """Have those who watch everything look for new jobs."""
        await self._store.bell.wait(BELL, self._look_every_s)
        if self._everything:
            self._listing.look_again()
            for watcher in self._everything:
                watcher.touch()
            await asyncio.sleep(_PAUSE_S)

    async def _for_ever(self, turn: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await turn()
            except Exception:  # whatever it is: others go on being served
                self._logger.exception("live_failed", effect="events come late, from the database")
                await asyncio.sleep(RETRY_S)
