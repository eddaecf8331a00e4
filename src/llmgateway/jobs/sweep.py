"""Looks after jobs every few seconds: takes up those whose worker died, calls for those that wait, deletes old ones."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import anyio
from structlog.typing import FilteringBoundLogger

from llmgateway.storage.jobs.rows import Swept

EVERY_S = 5.0
CLEAN_EVERY_S = 60.0


class Sweepable(Protocol):
    """Where jobs are kept. Each raises: StorageAwayError."""

    @property
    def is_away(self) -> bool: ...

    async def sweep(self, *, spare: bool = False) -> Swept: ...

    async def delete_expired(self) -> list[str]: ...


class Reminder(Protocol):
    """Tells workers that jobs wait; never raises."""

    async def remind(self, job_ids: Sequence[str]) -> None: ...


class Sweep:
    """Runs in every process that has jobs; that others do the same does no harm.

    Args:
        wake: Of those who run jobs in this process, if anybody does: they look in the database for themselves, so that
            jobs run while the broker is away.
        given_up: Told of each job that has outlived too many workers.
    """

    def __init__(
        self,
        jobs: Sweepable,
        queue: Reminder,
        logger: FilteringBoundLogger,
        *,
        wake: Callable[[int], None] | None = None,
        given_up: Callable[[str], Awaitable[None]] | None = None,
        every_s: float = EVERY_S,
        clean_every_s: float = CLEAN_EVERY_S,
        lease_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._queue = queue
        self._logger = logger
        self._wake = wake
        self._given_up = given_up
        self._every_s = every_s
        self._clean_every_s = clean_every_s
        self._lease_s = lease_s
        self._clock = clock
        self._was_away = False
        self._spare_until = 0.0

    async def run(self) -> None:
        """Sweep for ever; cancel to end."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._repeat, self.sweep, self._every_s)
            group.start_soon(self._repeat, self.clean, self._clean_every_s)

    async def sweep(self) -> None:
        """Do once what is done every few seconds. Raises: StorageAwayError."""
        swept = await self._swept()
        for job_id in swept.lost:
            self._logger.error("job_lost", job_id=job_id, reason="it outlived too many workers")
            if self._given_up is not None:
                await self._given_up(job_id)
        if self._wake is not None and swept.queued:
            self._wake(len(swept.queued))
        await self._queue.remind(swept.queued)

    async def _swept(self) -> Swept:
        """Sweep, though not what only seems to be left alone. Raises: StorageAwayError."""
        if self._was_away or self._jobs.is_away:
            self._spare_until = self._clock() + self._lease_s
        try:
            swept = await self._jobs.sweep(spare=self._clock() < self._spare_until)
        except OSError:
            self._was_away = True
            raise
        self._was_away = False
        return swept

    async def clean(self) -> None:
        """Delete what is old. Raises: StorageAwayError."""
        if deleted := await self._jobs.delete_expired():
            self._logger.info("jobs_deleted", jobs=len(deleted), reason="their time is over")

    async def _repeat(self, deed: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            try:
                await deed()
            except OSError:
                pass  # the database is away, which it has told itself: the next round asks again
            except Exception:  # whatever it is: without this loop the jobs of dead workers would wait for ever
                self._logger.exception("sweep_broke", effect="it is tried again")
            await anyio.sleep(every_s)
