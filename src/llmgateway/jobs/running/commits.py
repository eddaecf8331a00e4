"""Writes a run's steps down, one after another, and waits for a database that is away: what is written is paid for."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, structs

from llmgateway.jobs.running.means import Jobs, Times
from llmgateway.jobs.running.passes import question_step, totals_of
from llmgateway.jobs.running.reins import PulledError, Reins
from llmgateway.storage.jobs.rows import (
    Claimed,
    FencedError,
    JobRow,
    Lease,
    PassRow,
    Progress,
    Records,
    Step,
    Totals,
)
from llmgateway.storage.queries import StorageAwayError

Event = Mapping[str, Any]
# Makes a step when its turn has come, from how the job stands then.
Make = Callable[[], Step]


class State(Struct):
    """How a job stands, as it is written down or about to be.

    Args:
        passes: By their questions' steps, the newest of each.
        steps: All names that passes have.
        rejected: Answers that are none, to be written down with what becomes of it.
        partial: The beginning of the result that is shown already.
    """

    lease: Lease
    job: JobRow
    passes: dict[str, PassRow]
    steps: set[str]
    number: int
    totals: Totals
    progress: Progress
    records: Records
    partial: str
    warnings: tuple[str, ...]
    rejected: list[PassRow] = []

    def row(self) -> JobRow:
        """Give the job's row as it is now."""
        return structs.replace(
            self.job,
            totals=self.totals,
            progress=self.progress,
            records=self.records,
            partial=self.partial,
            warnings=self.warnings,
        )


def state_of(claimed: Claimed) -> State:
    """Begin where the last worker stopped."""
    job, passes = claimed.job, sorted(claimed.passes, key=_number)
    return State(
        lease=claimed.lease,
        job=job,
        passes={question_step(one.step): one for one in passes},
        steps={one.step for one in passes},
        number=passes[-1].number if passes else 0,
        totals=totals_of(claimed),
        progress=job.progress,
        records=job.records,
        partial=job.partial,
        warnings=job.warnings,
    )


def _number(row: PassRow) -> int:
    return row.number


class Commits:
    """One job's."""

    def __init__(self, jobs: Jobs, times: Times, state: State, reins: Reins) -> None:
        self._jobs = jobs
        self._times = times
        self._state = state
        self._reins = reins
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._said: list[str] = []
        self._shown_chars = len(state.partial)
        self._told: list[Event] = []

    def say(self, text: str) -> None:
        """Show text that is final, soon."""
        self._said.append(text)
        self._shown_chars += len(text)
        self._wake.set()

    def tell(self, event: Event) -> None:
        """Tell an event, soon."""
        self._told.append(event)
        self._wake.set()

    def shown_from(self, start: int) -> str:
        """Give what of the result is shown from a place on, or will be soon."""
        if start >= self._shown_chars:
            return ""
        return (self._state.partial + "".join(self._said))[start:]

    def show(self, start: int, text: str) -> None:
        """Show text that stands at a place of the result, as far as it is not shown yet."""
        missing = text[max(0, self._shown_chars - start) :]
        if missing:
            self.say(missing)

    async def commit(self, make: Make) -> None:
        """Write a step down, with what was to be said and told soon. Raises: PulledError: the job is not ours."""
        async with self._lock:
            await self._write(self._with_pending(make()))

    async def flush(self) -> None:
        """Write down what was to be said and told. Raises: PulledError."""
        if self._said or self._told:
            await self.commit(Step)

    async def keep(self) -> None:
        """Write down what is said and told beside the steps, a few times a second; cancel to end."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self.flush()
                await asyncio.sleep(self._times.pieces_every_s)
        except PulledError:
            return

    def _with_pending(self, step: Step) -> Step:
        output = "".join(self._said) + step.output
        events = [*self._told]
        if output:
            piece = {"text": output, "offset": len(self._state.partial)}
            events.append({"event_type": "output", "output": piece})
        self._said.clear()
        self._told.clear()
        return structs.replace(step, output=output, events=(*events, *step.events))

    async def _write(self, step: Step) -> None:
        while True:
            self._reins.hold()
            try:
                # What was written although nobody heard so is not written twice when the same step comes again.
                await self._jobs.commit(self._state.lease, step)
                break
            except StorageAwayError:
                await asyncio.sleep(self._times.away_s)
            except FencedError:
                self._reins.pull("lost")
                raise PulledError from None
        self._state.partial += step.output
