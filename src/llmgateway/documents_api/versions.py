"""A result's versions: edited, read, compared, brought back."""

import asyncio
import difflib
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import (
    Body,
    exchange_of,
    in_time,
    large_body_asked,
    page_asked,
    whole_number,
)
from llmgateway.documents_api.jobs import job_of
from llmgateway.documents_api.shown import json_answer, listed, version_shown
from llmgateway.errors import ConflictError, NotFoundError
from llmgateway.jobs.desk import no_job
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import JobRow, VersionRow, Wanted

_MOST_CHARS = 5_000_000
_LARGEST_NUMBER = 10**8
# Comparing takes time that grows with the square where many lines are alike.
_MOST_COMPARED_LINES = 20_000


class Edit(Body):
    """A result as somebody wants it."""

    content: Annotated[str, Field(min_length=1, max_length=_MOST_CHARS)]


def routes(jobs: JobStorage) -> list[Route]:
    """Serve the results of `/api/v1/jobs/{job_id}` and their versions."""
    pages = _Versions(jobs)
    one = "/api/v1/jobs/{job_id}"
    version = f"{one}/versions/{{number}}"
    return [
        Route(f"{one}/result", pages.edit, methods=["PATCH"]),
        Route(f"{one}/versions", pages.all, methods=["GET"]),
        Route(f"{one}/versions/{{first}}/diff/{{second}}", pages.compare, methods=["GET"]),
        Route(version, pages.read, methods=["GET"]),
        Route(version, pages.delete, methods=["DELETE"]),
        Route(f"{version}/restore", pages.restore, methods=["POST"]),
    ]


class _Versions:
    def __init__(self, jobs: JobStorage) -> None:
        self._jobs = jobs

    async def edit(self, request: Request) -> Response:
        body = await large_body_asked(request, Edit)
        job, wanted = await self._completed(request)
        return await self._added(request, job, wanted, body.content)

    async def all(self, request: Request) -> Response:
        number, size = page_asked(request)
        job, _ = await job_of(request, self._jobs)
        rows = await in_time(lambda: self._jobs.versions(job.id))
        shown = [version_shown(row, is_current=row.number == job.current_version, whole=False) for row in rows]
        return listed(shown[(number - 1) * size : number * size], len(shown), number, size)

    async def read(self, request: Request) -> Response:
        job, _ = await job_of(request, self._jobs)
        (row,) = await self._found(job, _number(request, "number"))
        return json_answer(version_shown(row, is_current=row.number == job.current_version))

    async def delete(self, request: Request) -> Response:
        job, _ = await job_of(request, self._jobs)
        number = _number(request, "number")
        if number in {1, job.current_version}:
            which = "first" if number == 1 else "current"
            raise ConflictError(
                f"The {which} version of a result is always kept; another one can be deleted.", code="version_kept"
            )
        if not await in_time(lambda: self._jobs.delete_version(job.id, number)):
            raise _no_version(job, number)
        return json_answer({"job_id": job.id, "number": number, "deleted": True})

    async def restore(self, request: Request) -> Response:
        job, wanted = await self._completed(request)
        (row,) = await self._found(job, _number(request, "number"))
        return await self._added(request, job, wanted, row.content)

    async def compare(self, request: Request) -> Response:
        job, _ = await job_of(request, self._jobs)
        before, after = await self._found(job, _number(request, "first"), _number(request, "second"))
        return json_answer({"job_id": job.id, **await asyncio.to_thread(_difference, before, after)})

    async def _completed(self, request: Request) -> tuple[JobRow, Wanted]:
        job, wanted = await job_of(request, self._jobs)
        if job.status != "completed":
            raise ConflictError(
                f"The job {job.id} is {job.status}: only the result of a completed one can be edited.",
                code="job_not_completed",
                details={"status": job.status},
            )
        return job, wanted

    async def _added(self, request: Request, job: JobRow, wanted: Wanted, content: str) -> Response:
        caller = exchange_of(request).caller
        by = caller.key_id or caller.kind
        row = await in_time(lambda: self._jobs.add_version(job.id, content, by, wanted))
        if row is None:
            raise no_job(job.id)
        return json_answer({"job_id": job.id, **version_shown(row, is_current=True)})

    async def _found(self, job: JobRow, *numbers: int) -> list[VersionRow]:
        rows = {row.number: row for row in await in_time(lambda: self._jobs.versions(job.id))}
        for number in numbers:
            if number not in rows:
                raise _no_version(job, number)
        return [rows[number] for number in numbers]


def _number(request: Request, name: str) -> int:
    return whole_number(request.path_params[name], ("path", name), _LARGEST_NUMBER)


def _no_version(job: JobRow, number: int) -> NotFoundError:
    return NotFoundError(
        f"The result of job {job.id} has no version {number}: the last ten and the first are kept. "
        f"GET /api/v1/jobs/{job.id}/versions lists them."
    )


def _difference(before: VersionRow, after: VersionRow) -> dict[str, Any]:
    """Tell two versions' difference by lines (the unified form of diff)."""
    old, new = before.content.splitlines(), after.content.splitlines()
    lines = _unified(before, after, old, new)
    added = sum(1 for line in lines[2:] if line.startswith("+"))
    deleted = sum(1 for line in lines[2:] if line.startswith("-"))
    return {
        "from": before.number,
        "to": after.number,
        "identical": before.content == after.content,
        "lines_added": added,
        "lines_removed": deleted,
        "diff": "\n".join(lines),
    }


def _unified(before: VersionRow, after: VersionRow, old: Sequence[str], new: Sequence[str]) -> list[str]:
    names = f"version {before.number}", f"version {after.number}"
    if len(old) + len(new) <= _MOST_COMPARED_LINES:
        return list(difflib.unified_diff(old, new, *names, lineterm=""))
    if old == new:
        return []
    hunk = f"@@ -1,{len(old)} +1,{len(new)} @@"
    return [f"--- {names[0]}", f"+++ {names[1]}", hunk, *(f"-{line}" for line in old), *(f"+{line}" for line in new)]
