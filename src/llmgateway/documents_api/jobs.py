"""Jobs: listed, read, cancelled, repeated, resumed, deleted."""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, get_args

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import (
    Body,
    body_asked,
    content_of,
    digest_of,
    exchange_of,
    idempotency_asked,
    in_time,
    known_only,
    one_of,
    page_asked,
    text_in_query,
    wanted_of,
)
from llmgateway.documents_api.execute import accepted
from llmgateway.documents_api.ordering import of_exchange
from llmgateway.documents_api.shelves.viewer import administrator
from llmgateway.documents_api.shown import job_shown, json_answer, listed, pass_shown, removed, totals_shown
from llmgateway.errors import ConflictError
from llmgateway.jobs.desk import Desk, no_job
from llmgateway.jobs.order import Order
from llmgateway.storage.admin.rows import Deed
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import LIVE, JobRow, Status, Wanted

_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FORMATS = ("json", "text", "md")
_MEDIA_TYPES = {"text": "text/plain; charset=utf-8", "md": "text/markdown; charset=utf-8"}
_NO_SNIFF = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_AT_ONCE = 500


class Again(Body):
    """How a job is to be repeated; without a flavor with the one that was asked for then."""

    flavor_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    flavor_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    priority: Annotated[int, Field(ge=0, le=9)] | None = None


class Nothing(Body):
    """A body in which nothing is asked for."""


def routes(desk: Desk, jobs: JobStorage, note: Callable[[Deed], None]) -> list[Route]:
    """Serve `/api/v1/jobs`.

    Args:
        note: Writes down what administrators do.
    """
    pages = _Jobs(desk, jobs, note)
    one = "/api/v1/jobs/{job_id}"
    return [
        Route("/api/v1/jobs", pages.list, methods=["GET"]),
        Route("/api/v1/jobs/cleanup-expired", pages.clean_up, methods=["POST"]),
        Route(one, pages.read, methods=["GET"]),
        Route(one, pages.delete, methods=["DELETE"]),
        Route(f"{one}/metrics", pages.metrics, methods=["GET"]),
        Route(f"{one}/cancel", pages.cancel, methods=["POST"]),
        Route(f"{one}/rerun", pages.rerun, methods=["POST"]),
        Route(f"{one}/resume", pages.resume, methods=["POST"]),
    ]


def job_id_of(request: Request) -> str:
    """Give the job's id that a path names. Raises: NotFoundError: no job has such a one."""
    job_id: str = request.path_params["job_id"]
    if not _ID.fullmatch(job_id):
        raise no_job(job_id)
    return job_id.lower()


async def job_of(request: Request, jobs: JobStorage) -> tuple[JobRow, Wanted]:
    """Read the job that a path names, and say which jobs whoever asks may see.

    Raises:
        NotFoundError: There is none, or it is another's: the same text.
    """
    job_id, wanted = job_id_of(request), wanted_of(request)
    job = await in_time(lambda: jobs.job(job_id, wanted))
    if job is None:
        raise no_job(job_id)
    return job, wanted


class _Jobs:
    def __init__(self, desk: Desk, jobs: JobStorage, note: Callable[[Deed], None]) -> None:
        self._desk = desk
        self._jobs = jobs
        self._note = note

    async def list(self, request: Request) -> Response:
        number, size = page_asked(request, ("status", "service_id", "organization_id"))
        statuses: tuple[Status, ...] = get_args(Status)
        status = one_of(request, "status", statuses)
        wanted = wanted_of(
            request,
            organization_id=text_in_query(request, "organization_id"),
            status=next((one for one in statuses if one == status), None),
            service_id=text_in_query(request, "service_id"),
        )
        page = await in_time(lambda: self._jobs.jobs(wanted, number, size))
        return listed(map(job_shown, page.rows), page.total, number, size)

    async def read(self, request: Request) -> Response:
        known_only(request, ("format",))
        form = one_of(request, "format", _FORMATS, "json")
        job, _ = await job_of(request, self._jobs)
        if form != "json":
            return Response(_text_of(job), headers=_NO_SNIFF, media_type=_MEDIA_TYPES[form or ""])
        return json_answer(job_shown(job, await in_time(lambda: self._jobs.passes(job.id))))

    async def metrics(self, request: Request) -> Response:
        job, _ = await job_of(request, self._jobs)
        passes = await in_time(lambda: self._jobs.passes(job.id))
        shown = {"job_id": job.id, "status": job.status, "totals": totals_shown(job.totals)}
        return json_answer({**shown, "passes": [pass_shown(one) for one in passes]})

    async def cancel(self, request: Request) -> Response:
        body_asked(request, Nothing)
        return json_answer(job_shown(await self._desk.cancel(job_id_of(request), wanted_of(request))))

    async def delete(self, request: Request) -> Response:
        job_id, wanted = job_id_of(request), wanted_of(request)
        deleted = await in_time(lambda: self._jobs.delete(job_id, wanted))
        if deleted is None:
            raise no_job(job_id)
        if not deleted:
            raise ConflictError(
                f"The job {job_id} has not ended: POST /api/v1/jobs/{job_id}/cancel ends it.", code="job_not_ended"
            )
        return removed(job_id)

    async def rerun(self, request: Request) -> Response:
        body = body_asked(request, Again)
        return await self._again(request, self._desk.rerun, body.flavor_id or body.flavor_name, body.priority)

    async def resume(self, request: Request) -> Response:
        body_asked(request, Nothing)
        return await self._again(request, self._desk.resume)

    async def clean_up(self, request: Request) -> Response:
        viewer = administrator(request)
        body_asked(request, Nothing)
        deleted = 0
        while gone := await in_time(partial(self._jobs.delete_expired, _AT_ONCE)):
            deleted += len(gone)
        self._note(viewer.deed("jobs.cleanup", "expired", None, {"deleted": deleted}))
        return json_answer({"deleted": deleted})

    async def _again(
        self,
        request: Request,
        make: Callable[[str, Wanted, Order], Awaitable[tuple[JobRow, bool]]],
        flavor: str | None = None,
        priority: int | None = None,
    ) -> Response:
        wanted, key = wanted_of(request), idempotency_asked(request)
        order = Order(
            service="",
            text="",
            flavor=flavor,
            organization=wanted.organization_id,
            everyone=wanted.everyone,
            priority=priority,
            idempotency_key=key,
            body_digest=None if key is None else await digest_of(content_of(request)),
            **of_exchange(exchange_of(request)),
        )
        job, is_new = await make(job_id_of(request), wanted, order)
        return await accepted(self._jobs, job, is_new=is_new)


def _text_of(job: JobRow) -> str:
    """Give the result as it is. Raises: ConflictError: there is none yet."""
    if job.result is not None:
        return job.result
    if job.status in LIVE:
        raise ConflictError(
            f"The job {job.id} is {job.status}: its result is there when it has ended "
            f"(GET /api/v1/jobs/{job.id}/events tells).",
            code="job_not_ended",
            details={"status": job.status},
        )
    return job.partial
