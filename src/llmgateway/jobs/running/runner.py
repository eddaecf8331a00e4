"""Runs jobs: claims the most urgent one and brings it to its end, several side by side in one process."""

import asyncio
from collections.abc import Callable

import anyio
from structlog.typing import FilteringBoundLogger

from llmgateway.documents.recipe import Count, Recipe
from llmgateway.jobs.running.means import Jobs, Means, Times
from llmgateway.jobs.running.run import Run
from llmgateway.jobs.seams import Ask, Callers, Record, Teller
from llmgateway.storage.jobs.rows import Claimed
from llmgateway.storage.queries import StorageAwayError
from llmgateway.stores.base import Bell, Limiter

# Rung whenever a job was ordered or cancelled.
BELL = "jobs"
# The bell rings for every job: it is not asked of the database more often than this.
_RINGS_S = 0.1


class Runner:
    """One process's share of the work.

    Args:
        jobs: `JobStorage`, or what does the same.
        ask: The outermost gateway target.
        record: Told of each exchange, once, when it is over.
        count: Gives what counts the tokens of a recipe's model.
        worker: Names this process in leases.
        logger: Told of bugs: a job that met one fails with `internal_error`.
        at_once: Calls of one job at the same time, where its flavor says nothing.
        most_tries: How often the gateway tries a call of a job in all; only told to those who watch.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        ask: Ask,
        record: Record,
        callers: Callers,
        count: Callable[[Recipe], Count],
        limiter: Limiter,
        bell: Bell,
        teller: Teller,
        worker: str,
        logger: FilteringBoundLogger,
        times: Times | None = None,
        at_once: int = 8,
        most_tries: int | None = None,
    ) -> None:
        self._means = Means(
            jobs=jobs,
            ask=ask,
            record=record,
            callers=callers,
            count=count,
            limiter=limiter,
            bell=bell,
            teller=teller,
            times=times or Times(),
            logger=logger,
            at_once=at_once,
            most_tries=most_tries,
        )
        self._worker = worker
        self._running: dict[str, Run] = {}
        self._idle = asyncio.Event()
        self._stopped = False

    @property
    def running(self) -> int:
        """How many jobs run in this process."""
        return len(self._running)

    async def run_next(self) -> bool:
        """Claim the most urgent job and run it to its end; false: there is none, or this process stops.

        Raises:
            StorageAwayError: Nobody knows whether there is one.
        """
        if self._stopped:
            return False
        claimed = await self._means.jobs.claim(self._worker, self._means.times.lease_s)
        if claimed is None:
            return False
        await self.run(claimed)
        return True

    async def run(self, claimed: Claimed) -> None:
        """Run a job that is this worker's until it has ended, was handed back, or is somebody else's. Never raises."""
        job_id = claimed.lease.job_id
        run = self._running[job_id] = Run(self._means, claimed)
        self._idle.clear()
        if self._stopped:
            run.reins.pull("stop")
        try:
            await run.to_end()
        finally:
            if self._running.get(job_id) is run:
                del self._running[job_id]
            if not self._running:
                self._idle.set()

    async def keep_leases(self) -> None:
        """Keep what runs here, and end what is no longer ours, for ever; cancel to end."""
        times, bell = self._means.times, self._means.bell
        while True:
            await bell.wait(BELL, times.look_every_s)
            if self._running:
                await self.look()
            await asyncio.sleep(min(_RINGS_S, times.look_every_s))

    async def look(self) -> None:
        """Prolong all leases at once, which tells as well what was cancelled or lost."""
        runs = list(self._running.values())
        try:
            gone = await self._means.jobs.renew([run.lease for run in runs], self._means.times.lease_s)
        except StorageAwayError:
            return  # nobody can take them either
        for run in runs:
            if run.lease.job_id in gone:
                run.lose()

    def stop(self) -> None:
        """Claim nothing any more; each running job is handed back as soon as its call in flight is written down."""
        self._stopped = True
        for run in self._running.values():
            run.reins.pull("stop")

    async def finish(self, within_s: float) -> None:
        """Stop, let the calls in flight end if that takes no longer, and hand all jobs back to the queue."""
        self.stop()
        if self._running:
            with anyio.move_on_after(within_s):
                await self._idle.wait()
        await self.hand_back_all()

    async def hand_back_all(self) -> None:
        """End the calls in flight and hand every job back at once; returns when none runs here any more."""
        self.stop()
        for run in list(self._running.values()):
            run.reins.pull("let_go")
        if self._running:
            await self._idle.wait()
