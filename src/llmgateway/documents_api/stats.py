"""What services have done: how many jobs, how they ended, how long they took, what they cost."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import exchange_of, in_time, known_only, one_of, short, wanted_of
from llmgateway.documents_api.shown import json_answer, moment, usd
from llmgateway.errors import NotFoundError
from llmgateway.jobs.services import Service, Services
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import JobRow, Totals, Wanted

_PERIODS: Mapping[str, timedelta | None] = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}
_USUAL = "7d"
# From here on adding up takes longer than a thread costs.
_MANY_ROWS = 500


def _now() -> datetime:
    return datetime.now(UTC)


def routes(services: Services, jobs: JobStorage, *, now: Callable[[], datetime] = _now) -> list[Route]:
    """Serve the figures of services and flavors, and all together."""
    pages = _Stats(services, jobs, now)
    return [
        Route("/api/v1/services/{service_id}/stats", pages.service, methods=["GET"]),
        Route("/api/v1/flavors/{flavor_id}/stats", pages.flavor, methods=["GET"]),
        Route("/api/v1/analytics/dashboard", pages.dashboard, methods=["GET"]),
    ]


class _Stats:
    def __init__(self, services: Services, jobs: JobStorage, now: Callable[[], datetime]) -> None:
        self._services = services
        self._jobs = jobs
        self._now = now

    async def service(self, request: Request) -> Response:
        wanted, period = wanted_of(request), _period(request)
        service = await self._service(request.path_params["service_id"], wanted)
        rows = await self._rows(period, structs.replace(wanted, service_id=service.row.id))
        shown = {"service_id": service.row.id, "service_name": service.row.name, "period": period}
        return json_answer({**shown, **await _apart(_of_service, rows)})

    async def flavor(self, request: Request) -> Response:
        wanted, period = wanted_of(request), _period(request)
        flavor_id: str = request.path_params["flavor_id"]
        service = await in_time(lambda: self._services.service_of(flavor_id))
        if service is None or not service.is_seen_by(wanted.organization_id, everyone=wanted.everyone):
            raise NotFoundError(f"There is no flavor {short(flavor_id)}. GET /api/v1/services lists what there is.")
        flavor = next(one for one in service.flavors if one.id == flavor_id)
        rows = await self._rows(period, wanted, flavor_id)
        shown = {"flavor_id": flavor.id, "flavor_name": flavor.name, "service_id": service.row.id, "period": period}
        return json_answer({**shown, **await _apart(_figures, rows)})

    async def dashboard(self, request: Request) -> Response:
        wanted, period = wanted_of(request), _period(request)
        rows = await self._rows(period, wanted)
        shown = {"period": period, **await _apart(_of_all, rows)}
        if wanted.everyone or exchange_of(request).caller.kind == "anyone":
            depth = await in_time(self._jobs.depth)
            shown["queued"] = {str(priority): count for priority, count in sorted(depth.items())}
        return json_answer(shown)

    async def _service(self, name: str, wanted: Wanted) -> Service:
        service = await in_time(lambda: self._services.service(name, wanted.organization_id, everyone=wanted.everyone))
        if service is None:
            raise NotFoundError(f"There is no service {short(name)}. GET /api/v1/services lists what there is.")
        return service

    async def _rows(self, period: str, wanted: Wanted, flavor_id: str | None = None) -> Sequence[JobRow]:
        length = _PERIODS[period]
        since = None if length is None else self._now() - length
        return await in_time(lambda: self._jobs.spans(since, wanted, flavor_id))


def _period(request: Request) -> str:
    known_only(request, ("period",))
    return one_of(request, "period", list(_PERIODS), _USUAL) or _USUAL


async def _apart(add_up: Callable[[Sequence[JobRow]], dict[str, Any]], rows: Sequence[JobRow]) -> dict[str, Any]:
    return add_up(rows) if len(rows) < _MANY_ROWS else await asyncio.to_thread(add_up, rows)


def _of_service(rows: Sequence[JobRow]) -> dict[str, Any]:
    flavors = _grouped(rows, lambda row: (row.flavor_id, row.flavor_name))
    shown = [{"flavor_id": one, "flavor_name": name, **_figures(its)} for (one, name), its in flavors]
    return {**_figures(rows), "flavors": shown}


def _of_all(rows: Sequence[JobRow]) -> dict[str, Any]:
    services = _grouped(rows, lambda row: (row.service_id, row.service_name))
    shown = [{"service_id": one, "service_name": name, **_figures(its)} for (one, name), its in services]
    failures = [row for row in rows if row.status == "failed"][:10]
    return {**_figures(rows), "services": shown, "recent_failures": [_failure(row) for row in failures]}


def _grouped(
    rows: Iterable[JobRow], key: Callable[[JobRow], tuple[str, str]]
) -> list[tuple[tuple[str, str], list[JobRow]]]:
    """Put rows together that are of one thing; those with most come first."""
    found: dict[str, tuple[tuple[str, str], list[JobRow]]] = {}
    for row in rows:
        # By the id alone: a thing may have had another name before.
        found.setdefault(key(row)[0], (key(row), []))[1].append(row)
    return sorted(found.values(), key=lambda group: -len(group[1]))


def _figures(rows: Sequence[JobRow]) -> dict[str, Any]:
    ended = _count(rows, "completed") + _count(rows, "failed")
    took = [_took(row) for row in rows]
    prompt, completion = (
        sum(one.prompt_tokens for one in took),
        sum(one.completion_tokens for one in took),
    )
    costs = [one.cost_nusd for one in took if one.cost_nusd is not None]
    return {
        "jobs": {
            "total": len(rows),
            **{status: _count(rows, status) for status in ("completed", "failed", "cancelled")},
        },
        "success_rate": round(_count(rows, "completed") / ended, 4) if ended else None,
        "fallbacks": sum(row.records.fallback_applied for row in rows),
        "failovers": sum(row.records.failover_applied for row in rows),
        "duration_ms": _spread([_ran_ms(row) for row in rows if row.status == "completed"]),
        "waited_ms": _spread([_waited_ms(row) for row in rows]),
        "tokens": {
            "input": sum(row.input_tokens for row in rows),
            "prompt": prompt,
            "completion": completion,
            "total": prompt + completion,
        },
        # Of jobs whose price is known.
        "cost": {"total": usd(sum(costs)), "average": usd(round(sum(costs) / len(costs))) if costs else None},
        "passes": sum(one.passes for one in took),
        "last_used_at": moment(max((row.created_at for row in rows), default=None)),
    }


def _took(row: JobRow) -> Totals:
    """Give what a job itself has taken: what it began with is counted with the job that it resumes."""
    totals, before = row.totals, row.origin.inherited
    if totals.passes < max(before.passes, 1):
        return totals  # it has not begun
    return Totals(
        passes=totals.passes - before.passes,
        prompt_tokens=totals.prompt_tokens - before.prompt_tokens,
        completion_tokens=totals.completion_tokens - before.completion_tokens,
        cost_nusd=None if totals.cost_nusd is None else totals.cost_nusd - (before.cost_nusd or 0),
    )


def _count(rows: Sequence[JobRow], status: str) -> int:
    return sum(row.status == status for row in rows)


def _ran_ms(row: JobRow) -> float | None:
    return _between_ms(row.started_at, row.completed_at)


def _waited_ms(row: JobRow) -> float | None:
    return _between_ms(row.created_at, row.started_at)


def _between_ms(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max(0.0, (end - start).total_seconds() * 1000)


def _spread(measured: Iterable[float | None]) -> dict[str, float | None]:
    """Give the mean, the median and the 95th percentile."""
    known = sorted(one for one in measured if one is not None)
    if not known:
        return {"average": None, "p50": None, "p95": None}
    return {
        "average": round(sum(known) / len(known), 1),
        "p50": round(known[(len(known) - 1) // 2], 1),
        "p95": round(known[min(len(known) - 1, int(len(known) * 0.95))], 1),
    }


def _failure(row: JobRow) -> dict[str, Any]:
    fault = row.fault
    return {
        "job_id": row.id,
        "service_name": row.service_name,
        "flavor_name": row.flavor_name,
        "completed_at": moment(row.completed_at),
        "error": None if fault is None else {"code": fault.code, "message": fault.message},
    }
