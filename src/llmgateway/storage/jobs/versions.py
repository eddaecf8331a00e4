"""The versions of a result: numbers only grow, and the current one is always the last."""

from sqlalchemy import Connection, delete, insert, select, update

from llmgateway.storage.admin.chain import moment_of
from llmgateway.storage.database import Database
from llmgateway.storage.jobs.reading import named, those
from llmgateway.storage.jobs.records import kept_text
from llmgateway.storage.jobs.rows import VersionRow, Wanted
from llmgateway.storage.jobs.transactions import change, now_us
from llmgateway.storage.migrations.document_tables import job_results, job_versions, jobs

_KEPT = 10
_FIRST = 1


async def add_version(database: Database, job_id: str, content: str, by: str, wanted: Wanted) -> VersionRow | None:
    """Make a new current version of a completed job's result."""
    content, by, at_us = kept_text(content), kept_text(by), now_us()
    counted = (
        update(jobs)
        .where(named(jobs.c.id, job_id), jobs.c.status == "completed", *those(wanted))
        .values(current_version=jobs.c.current_version + 1)
        .returning(jobs.c.current_version)
    )

    def work(connection: Connection) -> VersionRow | None:
        number = connection.execute(counted).scalar_one_or_none()
        if number is None:
            return None
        values = {"job_id": job_id, "number": number, "content": content, "created_by": by, "created_at_us": at_us}
        connection.execute(insert(job_versions).values(values))
        connection.execute(update(job_results).where(job_results.c.job_id == job_id).values(result=content))
        _forget_old(connection, job_id)
        return VersionRow(number=number, content=content, created_by=by, created_at=moment_of(at_us))

    return await change(database, work)


def _forget_old(connection: Connection, job_id: str) -> None:
    its = job_versions.c.job_id == job_id
    newest = select(job_versions.c.number).where(its).order_by(job_versions.c.number.desc()).limit(_KEPT)
    number = job_versions.c.number
    connection.execute(delete(job_versions).where(its, number != _FIRST, number.not_in(newest.scalar_subquery())))


async def versions(database: Database, job_id: str) -> list[VersionRow]:
    """Read the versions that are kept, newest first."""
    columns = job_versions.c.number, job_versions.c.content, job_versions.c.created_by, job_versions.c.created_at_us
    query = select(*columns).where(named(job_versions.c.job_id, job_id)).order_by(job_versions.c.number.desc())
    return [
        VersionRow(number=number, content=content, created_by=by, created_at=moment_of(made_us))
        for number, content, by, made_us in await database.rows(query)
    ]


async def delete_version(database: Database, job_id: str, number: int) -> bool:
    """Forget a version, neither the first nor the current one."""
    current = select(jobs.c.current_version).where(named(jobs.c.id, job_id)).scalar_subquery()
    its = named(job_versions.c.job_id, job_id), job_versions.c.number == number
    gone = delete(job_versions).where(*its, job_versions.c.number != _FIRST, job_versions.c.number != current)

    def work(connection: Connection) -> bool:
        if connection.execute(gone).rowcount:
            return True
        if connection.execute(select(job_versions.c.number).where(*its)).first() is None:
            return False
        raise ValueError(f"Version {number} stays: the first one and the current one are always kept")

    return await change(database, work)
