"""Which jobs there are for somebody who watches all of them: those that live at first, then the new ones.

However many watch the same, the database is asked once a turn.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import structs

from llmgateway.jobs.watching.watched import Kept
from llmgateway.storage.jobs.rows import EventRow, JobRow, Status, Wanted

# In the direction in which jobs go, so that one that goes on meanwhile is met at the next stop; and those handed back.
_LIFE: tuple[Status, ...] = ("queued", "started", "processing", "queued")
_PAGE = 100
_MOST_PAGES = 100


class Listing:
    """Lists jobs."""

    def __init__(self, jobs: Kept) -> None:
        self._jobs = jobs
        self._turn = 0
        self._pages: dict[tuple[int, Wanted, int], Sequence[JobRow]] = {}
        self._reading = asyncio.Lock()

    @property
    def turn(self) -> int:
        """Grows whenever there may be new jobs."""
        return self._turn

    def look_again(self) -> None:
        """Forget what was read: there may be new jobs."""
        self._turn += 1
        self._pages.clear()

    async def live(self, wanted: Wanted) -> list[JobRow]:
        """Read all jobs that have not ended, the oldest first."""
        found: dict[str, JobRow] = {}
        for status in _LIFE:
            of_status = structs.replace(wanted, status=status)
            for number in range(1, _MOST_PAGES + 1):
                rows = (await self._jobs.jobs(of_status, number, _PAGE)).rows
                found.update((job.id, job) for job in rows)
                if len(rows) < _PAGE:
                    break
        return sorted(found.values(), key=lambda job: (job.created_at, job.id))

    async def new(self, wanted: Wanted, is_new: Callable[[JobRow], bool]) -> list[JobRow]:
        """Read the jobs that are new to somebody, the oldest first."""
        found: list[JobRow] = []
        for number in range(1, _MOST_PAGES + 1):
            rows = await self._page(wanted, number)
            new = [job for job in rows if is_new(job)]
            found += new
            if len(new) < _PAGE:
                break
        return found[::-1]

    async def _page(self, wanted: Wanted, number: int) -> Sequence[JobRow]:
        key = (self._turn, wanted, number)
        async with self._reading:
            if key not in self._pages:
                self._pages[key] = (await self._jobs.jobs(wanted, number, _PAGE)).rows
            return self._pages[key]


def state_of(job: JobRow) -> EventRow:
    """Say how a job stands, as an event that takes the place of all that it has told before."""
    totals, cost_nusd = job.totals, job.totals.cost_nusd
    body = {
        "id": job.events,
        "event_type": "status_change",
        "job_id": job.id,
        "status": job.status,
        "progress": job.progress,
        "retry_info": None,
        "current_pass_metrics": None,
        "cumulative_metrics": {
            "total_tokens": totals.prompt_tokens + totals.completion_tokens,
            "total_prompt_tokens": totals.prompt_tokens,
            "total_completion_tokens": totals.completion_tokens,
            "total_duration_ms": totals.duration_ms,
            "total_cost": None if cost_nusd is None else cost_nusd / 1e9,
        },
        "result": None,
        "error": None,
        "timestamp": datetime.now(UTC),
    }
    return EventRow(job.events, msgspec.json.encode(body))
