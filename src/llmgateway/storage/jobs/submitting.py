"""How a job is ordered: once, however often the same order comes, and from however many sides at once."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, or_, select, text, update

from llmgateway.storage.admin.chain import at_us
from llmgateway.storage.database import Database
from llmgateway.storage.jobs.events import State, tell
from llmgateway.storage.jobs.reading import job_within
from llmgateway.storage.jobs.records import digest_of, kept_text, values_of_job, values_of_pass
from llmgateway.storage.jobs.rows import LIVE, EventRow, JobRow, NewJob, Origin, PassRow, RepeatedError, Totals, Wanted
from llmgateway.storage.jobs.transactions import change, insert_new
from llmgateway.storage.migrations.document_tables import job_passes, job_results, job_texts, jobs
from llmgateway.storage.queries import StorageAwayError

_REPEATED_WITHIN = timedelta(hours=24)
_TRIES = 5
_EVERYONE = Wanted(everyone=True)
# Who has no turn yet has waited longest.
_HAVE_TURN = text("INSERT INTO job_turns (organization_id, at_us) VALUES (:organization, 0) ON CONFLICT DO NOTHING")


async def submit(database: Database, new: NewJob, passes: Sequence[PassRow]) -> tuple[JobRow, bool, Sequence[EventRow]]:
    """Write a job down, or find the one that this order has made; tells which, and the events of it."""
    values = values_of_job(new)

    def work(connection: Connection) -> tuple[JobRow, bool, Sequence[EventRow]]:
        _forget(connection, new.origin, new.created_at)
        for _ in range(_TRIES):
            if (before := _made_before(connection, new.origin, new.id)) is not None:
                return before, False, []
            connection.execute(_HAVE_TURN, {"organization": values["organization_id"]})
            # Another one may be making it at this moment: then it is waited for, and found.
            made = connection.execute(insert_new(database, jobs).values({**values, "events": 1}))
            if made.rowcount:
                return _write(connection, new, passes)
        raise StorageAwayError("The same order comes again and again at the same time")

    return await change(database, work)


async def made_before(database: Database, origin: Origin, now: datetime) -> JobRow | None:
    """Find the job that this order has made, before anything is done for another one."""

    def work(connection: Connection) -> JobRow | None:
        _forget(connection, origin, now)
        return _made_before(connection, origin, "")

    return await change(database, work)


def _forget(connection: Connection, origin: Origin, now: datetime) -> None:
    """Free an idempotency key whose time is over."""
    if (repeats := digest_of(origin, origin.idempotency_key)) is not None:
        old = jobs.c.created_at_us < at_us(now - _REPEATED_WITHIN)
        connection.execute(update(jobs).where(jobs.c.repeats == repeats, old).values(repeats=None))


def _made_before(connection: Connection, origin: Origin, job_id: str) -> JobRow | None:
    """Find the job of this order; also by its id: the answer to the first time may have been lost."""
    repeats, joins = digest_of(origin, origin.idempotency_key), digest_of(origin, origin.joins)
    conditions = [jobs.c.id == job_id]
    if repeats is not None:
        conditions.append(jobs.c.repeats == repeats)
    if joins is not None:
        conditions.append((jobs.c.joins == joins) & jobs.c.status.in_(sorted(LIVE)))
    found = connection.execute(select(jobs.c.id, jobs.c.repeats).where(or_(*conditions))).all()
    # The one with the idempotency key before the one that only asks for the same.
    for its_id, its in sorted(found, key=lambda row: row[1] != repeats):
        before = job_within(connection, its_id, _EVERYONE)
        if before is None:
            continue
        if repeats is not None and its == repeats and before.origin.body_digest != origin.body_digest:
            raise RepeatedError("This Idempotency-Key was sent before, with another body")
        return before
    return None


def _write(connection: Connection, new: NewJob, passes: Sequence[PassRow]) -> tuple[JobRow, bool, Sequence[EventRow]]:
    texts = {"job_id": new.id, "document": kept_text(new.text), "work": new.work.decode()}
    connection.execute(insert(job_texts).values(texts))
    connection.execute(insert(job_results).values(job_id=new.id, partial=""))
    if passes:
        connection.execute(insert(job_passes), [values_of_pass(new.id, done) for done in passes])
    state = State(1, "queued", new.progress, Totals())
    events = tell(connection, new.id, state, [{"event_type": "status_change"}])
    job = job_within(connection, new.id, _EVERYONE)
    if job is None:
        raise StorageAwayError("The job was deleted while it was made")
    return job, True, events
