"""Documents for services: planned, or made a job of, from JSON or from a file."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import in_time
from llmgateway.documents_api.ordering import order_asked, order_of_file, order_of_json
from llmgateway.documents_api.shown import json_answer, moment
from llmgateway.errors import DocumentError
from llmgateway.jobs.desk import Desk
from llmgateway.jobs.order import Order
from llmgateway.jobs.work import work_from
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import JobRow

_NOT_CATEGORIZED = "The tags are kept with the job; results are not categorized yet."


def routes(desk: Desk, jobs: JobStorage) -> list[Route]:
    """Serve what runs a service, under `/api/v1/services/{service_id}`."""
    one = "/api/v1/services/{service_id}"

    def taking(read: Callable[[Request], Awaitable[Order]]) -> Callable[[Request], Awaitable[Response]]:
        async def submit(request: Request) -> Response:
            job, is_new = await desk.submit(await read(request))
            return await accepted(jobs, job, is_new=is_new)

        return submit

    return [
        Route(f"{one}/execute", taking(order_of_json), methods=["POST"]),
        Route(f"{one}/run", taking(order_of_file), methods=["POST"]),
        Route(f"{one}/validate-execution", partial(_validate, desk), methods=["POST"]),
    ]


async def accepted(jobs: JobStorage, job: JobRow, *, is_new: bool) -> Response:
    """Answer that a job is taken, or was before."""
    kept = await in_time(lambda: jobs.work(job.id))
    work = None if kept is None else work_from(kept)
    shown = accepted_shown(job, None if work is None else work.plan.available)
    if work is not None and work.tags:
        shown["warnings"] = [*shown["warnings"], _NOT_CATEGORIZED]
    headers = {"location": f"/api/v1/jobs/{job.id}", **({} if is_new else {"idempotent-replayed": "true"})}
    return json_answer(shown, 202, headers)


async def _validate(desk: Desk, request: Request) -> Response:
    order = await order_asked(request)
    try:
        shown = await desk.explained(order)
    except DocumentError as error:
        return json_answer(_invalid(error))
    return json_answer(shown)


def accepted_shown(job: JobRow, context_available: int | None) -> dict[str, Any]:
    """Show a job that was just ordered.

    Args:
        context_available: Tokens of the model's window that are left for the document, in one call.
    """
    return {
        "job_id": job.id,
        "status": job.status,
        "service_id": job.service_id,
        "service_name": job.service_name,
        "flavor_id": job.flavor_id,
        "flavor_name": job.flavor_name,
        "created_at": moment(job.created_at),
        "priority": job.priority,
        "fallback_applied": job.records.fallback_applied,
        "original_flavor_id": job.records.original_flavor_id,
        "original_flavor_name": job.records.original_flavor_name,
        "fallback_reason": job.records.fallback_reason,
        "input_tokens": job.input_tokens,
        "context_available": context_available,
        "warnings": list(job.warnings),
    }


_UNKNOWN = (
    *("mode", "service_id", "service_name", "flavor", "original_flavor_id", "original_flavor_name", "fallback_reason"),
    *("input_tokens", "prompt_tokens", "max_generation", "context_length", "context_estimated", "context_available"),
    *("batches", "turns", "calls", "estimated_cost", "estimated_seconds"),
)


def _invalid(error: DocumentError) -> dict[str, Any]:
    """Show why a run would be refused; what is not known then is null."""
    shown: dict[str, Any] = {"valid": False, "error_code": error.code.upper(), "warning": error.message}
    shown |= dict.fromkeys(_UNKNOWN) | {"fallback_applied": False, "failover_flavors": []}
    return {**shown, **(error.details or {})}
