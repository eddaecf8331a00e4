"""A runner over jobs in memory and a scripted model: the Given of the tests of runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from llmgateway.caller import Caller
from llmgateway.jobs.running.means import Times
from llmgateway.jobs.running.runner import Runner
from llmgateway.jobs.seams import Callers
from llmgateway.storage.jobs.rows import JobRow, NewJob, PassRow
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.store import MemoryStore
from tests.jobs.scripted import Kept, RunningJobs, Script, ScriptedModel, counter
from tests.lines import Lines

QUICK = Times(look_every_s=0.02, pieces_every_s=0.01, away_s=0.01, request_s=20)


class Told:
    """A teller that remembers."""

    def __init__(self) -> None:
        self.started_after: list[float | None] = []
        self.passes: list[PassRow] = []
        self.ends: list[JobRow] = []

    def submitted(self, job: JobRow) -> None:
        raise AssertionError("a run orders nothing")

    def started(self, job: JobRow, waited_s: float | None) -> None:
        self.started_after.append(waited_s)

    def passed(self, job: JobRow, done: PassRow) -> None:
        self.passes.append(done)

    def ended(self, job: JobRow) -> None:
        self.ends.append(job)


async def known(caller: Caller) -> Caller:
    return caller


class Rig:
    """One process's runner; another rig over the same jobs and store is another process."""

    def __init__(
        self,
        script: Script,
        *,
        jobs: RunningJobs | None = None,
        store: MemoryStore | None = None,
        callers: Callers = known,
        times: Times = QUICK,
        wire: str = "openai",
        **more: Any,
    ) -> None:
        self.jobs = jobs or RunningJobs()
        self.store = store or MemoryStore(MemoryLimiter())
        self.model = ScriptedModel(script, wire=wire)
        self.told = Told()
        self.lines = Lines()
        self.runner = Runner(
            jobs=self.jobs,
            ask=self.model,
            record=self.model.record,
            callers=callers,
            count=counter,
            limiter=self.store.limiter,
            bell=self.store.bell,
            teller=self.told,
            worker="worker-1",
            logger=self.lines.logger,
            times=times,
            **more,
        )

    async def run(self, new: NewJob, passes: tuple[PassRow, ...] = ()) -> Kept:
        """Order a job and run it."""
        kept = self.jobs.submit(new, passes)
        assert await self.runner.run_next()
        return kept

    @asynccontextmanager
    async def running(self, *, leases: bool = False) -> AsyncIterator["asyncio.Task[bool]"]:
        """Run the next job beside what the test does."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self.runner.keep_leases()) if leases else None
            task = group.create_task(self.runner.run_next())
            try:
                yield task
                await task
            finally:
                task.cancel()
                if keeping is not None:
                    keeping.cancel()


async def until(seen: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not seen():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.002)
