"""Watching jobs of a real database, as its commits tell of them."""

from pathlib import Path
from typing import Any

import anyio
import msgspec

from llmgateway.jobs.live import Live
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import Wanted
from tests.jobs.shop import Shop, opened
from tests.jobs.watching.book import all_of, came
from tests.jobs.watching.processes import memory, running
from tests.lines import Lines
from tests.storage.jobs.given import ALL, claimed, ending, progressed, submitted


class Told:
    """Brings the commits of one process to those who watch in it."""

    def __init__(self) -> None:
        self.live: Live | None = None

    def __call__(self, job_id: str, rows: Any) -> None:
        if self.live is not None:
            self.live.published(job_id, rows)


async def test_a_job_is_watched_from_its_order_to_its_end(tmp_path: Path, lines: Lines) -> None:
    async with opened(tmp_path, lines) as shop:
        told, store = Told(), memory()
        jobs = JobStorage(storage_of(shop), told)
        async with running(Live(jobs, store, lines.logger, compare_every_s=60.0), store) as told.live:
            job = await submitted(jobs)
            early: list[int] = []
            states = [one async for one in limited(told.live, 1)]
            async with anyio.create_task_group() as group:
                group.start_soon(all_of, told.live.watch(job.id), early)
                await came(early, 1)
                mine = await claimed(jobs)
                for _ in range(3):
                    await jobs.commit(mine.lease, progressed())
                await jobs.commit(mine.lease, ending(result="x" * 1_000_000))
            late = await all_of(told.live.watch(job.id))

            events = await jobs.events(job.id)
            assert early == late == [one.id for one in events]
            assert shape(states[0].body) == shape(events[0].body), "a state looks as an event does"
            assert await all_of(told.live.watch(job.id, events[-1].id)) == []
            await jobs.delete(job.id, ALL)
            assert told.live.watched == 0


async def test_what_another_process_commits_is_found(tmp_path: Path, lines: Lines) -> None:
    async with opened(tmp_path, lines) as shop:
        works, store = JobStorage(storage_of(shop), Told()), memory()
        jobs = JobStorage(storage_of(shop), Told())
        async with running(Live(jobs, store, lines.logger, compare_every_s=0.05), store) as live:
            job, seen = await submitted(works), list[int]()
            async with anyio.create_task_group() as group:
                group.start_soon(all_of, live.watch(job.id), seen)
                await came(seen, 1)
                await works.cancel(job.id, ALL)

            assert seen == [one.id for one in await jobs.events(job.id)]


def storage_of(shop: Shop) -> Any:
    return shop.jobs._storage  # noqa: SLF001  a second way to the same database


async def limited(live: Live, most: int) -> Any:
    events = live.watch_all(Wanted(everyone=True))
    for _ in range(most):
        yield await anext(events)
    await events.aclose()


def shape(body: bytes) -> object:
    fields = msgspec.json.decode(body)
    return list(fields), list(fields["progress"]), list(fields["cumulative_metrics"])
