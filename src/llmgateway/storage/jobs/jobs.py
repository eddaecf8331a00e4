"""Jobs as the rest of the program asks for them. Every question raises `StorageAwayError` when it cannot be answered.

The row is the truth. All that a running job changes is one transaction under its lease: the passes, the state and the
events that tell of both.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import anyio

from llmgateway.storage.address import JobsQuestion, holds_jobs, mark_of
from llmgateway.storage.admin.chain import at_us
from llmgateway.storage.admin.rows import Page
from llmgateway.storage.jobs.rows import (
    Claimed,
    EventRow,
    Hook,
    JobRow,
    Lease,
    NewJob,
    Origin,
    PassRow,
    Step,
    Swept,
    VersionRow,
    Wanted,
)
from llmgateway.storage.queries import StorageAwayError
from llmgateway.storage.storage import Storage

_FAREWELL_S = 2.0
_RECEIPT_BYTES = 12
_MOST_UNSURE = 100
_DAY_US = 86_400_000_000


class JobStorage:
    """One database's jobs.

    Args:
        told: Called with a job's id and the events of each commit, right after it: never waits, never raises.
    """

    def __init__(self, storage: Storage, told: Callable[[str, Sequence[EventRow]], None]) -> None:
        self._storage = storage
        self._told = told
        # Steps of which nobody knows whether they were written: the connection was lost in the middle.
        self._unsure: dict[str, tuple[Lease, Step, str]] = {}
        # The states of SQLite's file in which there was nothing of a kind.
        self._nothing: dict[JobsQuestion, tuple[int, ...]] = {}

    async def submit(self, new: NewJob, passes: Sequence[PassRow] = ()) -> tuple[JobRow, bool]:
        """Write a job down as queued, with its first event; or give the one that this order has made before.

        An order has made one before with the same scope and idempotency key within 24 hours, or with the same
        `joins` while that job lives.

        Args:
            passes: Committed ones of the job that this one resumes.

        Returns:
            The job, and whether it is new.

        Raises:
            RepeatedError: The same idempotency key, another body.
        """
        job, made, events = await self._storage.ask(lambda database: _submitting().submit(database, new, passes))
        self._tell(new.id, events)
        return job, made

    async def made_before(self, origin: Origin, now: datetime) -> JobRow | None:
        """Find the job that this order has made before: as `submit` does, before it is planned.

        Raises:
            RepeatedError: The same idempotency key, another body.
        """
        if origin.idempotency_key is None and origin.joins is None:
            return None
        found: JobRow | None = await self._storage.ask(
            lambda database: _submitting().made_before(database, origin, now)
        )
        return found

    async def job(self, job_id: str, wanted: Wanted) -> JobRow | None:
        """Find a job by its id, if it is one of these."""
        found: JobRow | None = await self._storage.ask(lambda database: _reading().job(database, job_id, wanted))
        return found

    async def jobs(self, wanted: Wanted, page: int = 1, page_size: int = 50) -> Page[JobRow]:
        """Read jobs, newest first; without results."""
        found: Page[JobRow] = await self._storage.ask(
            lambda database: _reading().page_of(database, wanted, page, page_size)
        )
        return found

    async def text(self, job_id: str) -> str | None:
        """Read a job's document."""
        found: str | None = await self._storage.ask(lambda database: _reading().text(database, job_id))
        return found

    async def work(self, job_id: str) -> bytes | None:
        """Read what a job's run needs beside the document."""
        found: bytes | None = await self._storage.ask(lambda database: _reading().work(database, job_id))
        return found

    async def passes(self, job_id: str) -> list[PassRow]:
        """Read a job's passes, in the order of their numbers."""
        found: list[PassRow] = await self._storage.ask(lambda database: _reading().passes(database, job_id))
        return found

    async def events(self, job_id: str, after: int = 0, most: int = 1000) -> list[EventRow]:
        """Read a job's events after one, in order."""
        found: list[EventRow] = await self._storage.ask(
            lambda database: _reading().events(database, job_id, after, most)
        )
        return found

    async def heads(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        """Give the id of each job's last event; a job that is not there is left out."""
        if not job_ids:
            return {}
        found: Mapping[str, int] = await self._storage.ask(lambda database: _reading().heads(database, job_ids))
        return found

    async def claim(self, worker: str, lease_s: float) -> Claimed | None:
        """Take the most urgent queued job: by priority, then in turn by organization, then the oldest.

        Its state is `started` from now on. Costs an idle gateway no import on SQLite.
        """
        if not await self._any("live"):
            return None
        taken: list[tuple[Claimed, Sequence[EventRow]]] = []
        try:
            await self._storage.ask(lambda database: _claiming().claim(database, worker, lease_s, taken))
        except asyncio.CancelledError:
            for claimed, events in taken:
                self._tell(claimed.lease.job_id, events)
                await self._hand_back_unseen(claimed.lease)
            raise
        for claimed, events in taken:
            self._tell(claimed.lease.job_id, events)
            return claimed
        return None

    async def _hand_back_unseen(self, lease: Lease) -> None:
        """Return what was taken for a worker that is leaving: it would count as killed."""
        with anyio.move_on_after(_FAREWELL_S, shield=True), suppress(StorageAwayError):
            await self.hand_back(lease)

    async def renew(self, leases: Sequence[Lease], lease_s: float) -> set[str]:
        """Prolong leases at once; gives the ids of those jobs that are no longer this worker's."""
        if not leases:
            return set()
        lost: set[str] = await self._storage.ask(lambda database: _claiming().renew(database, leases, lease_s))
        return lost

    async def commit(self, lease: Lease, step: Step) -> None:
        """Write a step down, whole or not at all; a final `status` ends the lease.

        At completion the result becomes version 1. A pass of a step that is there already is an error of the caller.

        Raises:
            FencedError: The lease has gone.
        """
        # A step whose answer was lost comes again as it was: it must not be there twice.
        before, step_before, receipt = self._unsure.pop(lease.job_id, (None, None, ""))
        again = (before, step_before) == (lease, step)
        receipt = receipt if again else secrets.token_hex(_RECEIPT_BYTES)
        try:
            events = await self._storage.ask(
                lambda database: _committing().commit(database, lease, step, receipt, again=again)
            )
        except StorageAwayError:
            while len(self._unsure) >= _MOST_UNSURE:
                del self._unsure[next(iter(self._unsure))]
            self._unsure[lease.job_id] = lease, step, receipt
            raise
        self._tell(lease.job_id, events)

    async def hand_back(self, lease: Lease) -> None:
        """Put a job back into the queue, for another worker to go on with; it counts as no kill."""
        events = await self._storage.ask(lambda database: _claiming().hand_back(database, lease))
        self._tell(lease.job_id, events)

    async def cancel(self, job_id: str, wanted: Wanted) -> JobRow | None:
        """End a live job as `cancelled`, with what it has of its result; one that has ended stays as it is.

        `None`: there is no such job.
        """
        job, events = await self._storage.ask(lambda database: _ending().cancel(database, job_id, wanted))
        self._tell(job_id, events)
        found: JobRow | None = job
        return found

    @property
    def is_away(self) -> bool:
        """Whether nobody can renew a lease now, though the database can perhaps be read."""
        return self._storage.is_away

    async def sweep(self, *, most_kills: int = 3, spare: bool = False) -> Swept:
        """Put jobs back whose lease has run out; those that have outlived `most_kills` workers fail (`worker_lost`).

        Costs an idle gateway no import on SQLite.

        Args:
            spare: Put none back, and only tell what waits.
        """
        if not await self._any("live"):
            return Swept()
        lost: list[str] = []
        left = [] if spare else await self._storage.ask(lambda database: _ending().left_alone(database))
        for job_id in left:
            given_up, events = await self._take_back(job_id, most_kills)
            self._tell(job_id, events)
            lost += [job_id] if given_up else []
        queued = await self._storage.ask(lambda database: _ending().queued(database))
        return Swept(queued=tuple(queued), lost=tuple(lost))

    async def _take_back(self, job_id: str, most_kills: int) -> tuple[bool, Sequence[EventRow]]:
        taken: tuple[bool, Sequence[EventRow]] = await self._storage.ask(
            lambda database: _ending().take_back(database, job_id, most_kills)
        )
        return taken

    async def delete(self, job_id: str, wanted: Wanted) -> bool | None:
        """Delete an ended job with all that is its own; false: it has not ended, `None`: there is none."""
        deleted: bool | None = await self._storage.ask(
            lambda database: _deleting().delete_job(database, job_id, wanted)
        )
        return deleted

    async def delete_expired(self, most: int = 500) -> list[str]:
        """Delete ended jobs whose time is over; gives their ids. Old idempotency keys are forgotten as well."""
        now_us = at_us(datetime.now(UTC))
        if not await self._any("leaving", now_us, now_us - _DAY_US):
            return []
        await self._storage.ask(lambda database: _deleting().forget_repeats(database))
        gone: list[str] = await self._storage.ask(lambda database: _deleting().delete_expired(database, most))
        return gone

    async def add_version(self, job_id: str, content: str, by: str, wanted: Wanted) -> VersionRow | None:
        """Make a new current version of a completed job's result; `None`: there is no such job."""
        added: VersionRow | None = await self._storage.ask(
            lambda database: _versions().add_version(database, job_id, content, by, wanted)
        )
        return added

    async def versions(self, job_id: str) -> list[VersionRow]:
        """Read the versions of a result that are kept, newest first."""
        found: list[VersionRow] = await self._storage.ask(lambda database: _versions().versions(database, job_id))
        return found

    async def delete_version(self, job_id: str, number: int) -> bool:
        """Forget a version; false: there is none of that number. Not the first and not the current one: ValueError."""
        deleted: bool = await self._storage.ask(lambda database: _versions().delete_version(database, job_id, number))
        return deleted

    async def due_hooks(self, now: datetime, most: int = 50) -> list[Hook]:
        """Read webhooks of ended jobs that are to be sent now."""
        if not await self._any("hooks"):
            return []
        due: list[Hook] = await self._storage.ask(lambda database: _reading().due_hooks(database, now, most))
        return due

    async def hook_tried(self, job_id: str, next_at: datetime | None) -> None:
        """Write down that a webhook was sent or given up (`None`), or when it is to be tried again."""
        await self._storage.ask(lambda database: _ending().hook_tried(database, job_id, next_at))

    async def depth(self) -> Mapping[int, int]:
        """Count the queued jobs by priority."""
        if not await self._any("live"):
            return {}
        counted: Mapping[int, int] = await self._storage.ask(lambda database: _reading().depth(database))
        return counted

    async def spans(self, since: datetime | None, wanted: Wanted, flavor_id: str | None = None) -> list[JobRow]:
        """Read ended jobs since a moment, newest first, 10,000 at most, without results: for statistics."""
        found: list[JobRow] = await self._storage.ask(
            lambda database: _reading().spans(database, since, wanted, flavor_id)
        )
        return found

    def _tell(self, job_id: str, events: Sequence[EventRow]) -> None:
        if events:
            self._told(job_id, events)

    async def _any(self, which: JobsQuestion, *values: int) -> bool:
        """Tell whether it is worth asking: an idle gateway on SQLite imports no library to hear that it is not."""
        return await self._storage.glance(self._look, _perhaps, which, *values)

    def _look(self, path: Path, which: JobsQuestion, *values: int) -> bool:
        """Look into SQLite's file, unless nobody wrote to it since the last look; what asks for the time is asked."""
        mark = None if values else mark_of(path)
        if mark is not None and self._nothing.get(which) == mark:
            return False
        if holds_jobs(path, which, *values):
            return True
        if mark is not None:
            self._nothing[which] = mark
        return False


async def _perhaps(_: object) -> bool:
    return True


# What follows is imported once SQLAlchemy is.


def _claiming() -> ModuleType:
    from llmgateway.storage.jobs import claiming  # noqa: PLC0415

    return claiming


def _committing() -> ModuleType:
    from llmgateway.storage.jobs import committing  # noqa: PLC0415

    return committing


def _deleting() -> ModuleType:
    from llmgateway.storage.jobs import deleting  # noqa: PLC0415

    return deleting


def _ending() -> ModuleType:
    from llmgateway.storage.jobs import ending  # noqa: PLC0415

    return ending


def _reading() -> ModuleType:
    from llmgateway.storage.jobs import reading  # noqa: PLC0415

    return reading


def _submitting() -> ModuleType:
    from llmgateway.storage.jobs import submitting  # noqa: PLC0415

    return submitting


def _versions() -> ModuleType:
    from llmgateway.storage.jobs import versions  # noqa: PLC0415

    return versions
