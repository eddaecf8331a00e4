"""Jobs written down in memory, read as slowly and as stale as a database is; and those who watch them."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import cast

import anyio
import anyio.lowlevel

from llmgateway.caller import ANYONE
from llmgateway.storage.admin.rows import Page
from llmgateway.storage.jobs.rows import EventRow, JobRow, Origin, Status, Wanted
from tests.stores.waiting import until

Told = Callable[[str, Sequence[EventRow]], None]


def row(number: int, status: str = "processing", job_id: str = "j", **more: object) -> EventRow:
    body = {"id": number, "event_type": "output", "job_id": job_id, "status": status, **more}
    return EventRow(number, json.dumps(body).encode())


def job(job_id: str, *, status: Status = "queued", organization: str | None = None, events: int = 1) -> JobRow:
    return JobRow(
        id=job_id,
        service_id="s",
        service_name="Summarize",
        service_route="summarize",
        flavor_id="f",
        flavor_name="single-pass",
        organization_id=organization,
        status=status,
        priority=5,
        origin=Origin(caller=ANYONE),
        created_at=datetime.now(UTC),
        events=events,
    )


class Book:
    """Every question is answered with what was there when it came, a moment later.

    Args:
        told: Hears of each commit, unless that is lost.
    """

    def __init__(self, *told: Told) -> None:
        self.told = list(told)
        self.rows: dict[str, list[EventRow]] = {}
        self.kept: dict[str, JobRow] = {}
        self.asked: list[str] = []
        self.away = False

    def add(self, job_id: str, *, organization: str | None = None) -> None:
        """Order a job."""
        self.kept[job_id] = job(job_id, organization=organization, events=0)
        self.rows[job_id] = []
        self.commit(job_id, "queued")

    def commit(self, job_id: str, *statuses: str, lost: bool = False, size: int = 0) -> None:
        """Write one event for each status, in one commit."""
        rows = self.rows.setdefault(job_id, [])
        more = {"text": "x" * size} if size else {}
        new = [row(len(rows) + at, status, job_id, **more) for at, status in enumerate(statuses, 1)]
        rows += new
        if job_id in self.kept:
            before = self.kept[job_id]
            self.kept[job_id] = job(
                job_id, status=cast("Status", statuses[-1]), organization=before.organization_id, events=len(rows)
            )
        for told in () if lost else self.told:
            told(job_id, new)

    def delete(self, job_id: str) -> None:
        self.rows.pop(job_id, None)
        self.kept.pop(job_id, None)

    async def events(self, job_id: str, after: int = 0, most: int = 1000) -> list[EventRow]:
        self._ask("events")
        found = [row for row in self.rows.get(job_id, ()) if row.id > after][:most]
        await anyio.lowlevel.checkpoint()
        return found

    async def heads(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        self._ask("heads")
        found = {job_id: len(self.rows[job_id]) for job_id in job_ids if job_id in self.rows}
        await anyio.lowlevel.checkpoint()
        return found

    async def job(self, job_id: str, wanted: Wanted) -> JobRow | None:
        self._ask("job")
        found = self.kept.get(job_id)
        return found if found is not None and _is_one(found, wanted) else None

    async def jobs(self, wanted: Wanted, page: int = 1, page_size: int = 50) -> Page[JobRow]:
        self._ask("jobs")
        found = [one for one in self.kept.values() if _is_one(one, wanted)][::-1]
        await anyio.lowlevel.checkpoint()
        return Page(found[(page - 1) * page_size : page * page_size], len(found))

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise OSError("the database is away")


def _is_one(found: JobRow, wanted: Wanted) -> bool:
    is_theirs = wanted.everyone or found.organization_id == wanted.organization_id
    return is_theirs and wanted.status in {None, found.status}


async def all_of(events: AsyncGenerator[EventRow], seen: list[int] | None = None) -> list[int]:
    """Give the ids of all events, until there can be no more."""
    ids = [] if seen is None else seen
    async with aclosing(events) as rows:
        async for one in rows:
            ids.append(one.id)
    return ids


async def came(seen: list[int], number: int) -> None:
    """Wait until an event has been seen."""
    await until(lambda: bool(seen) and seen[-1] == number)
