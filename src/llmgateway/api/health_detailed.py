"""How everything is doing, for a person or a page that shows it. It asks only what readiness asks."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.health import Check, answer, readiness
from llmgateway.stores.base import ValuesStatus

# A part of the gateway, as it is now: its `status`, and its figures.
Part = Callable[[], Mapping[str, object]]

_PARTS = ("cache", "rate_limiter", "queue", "ledger", "catalog")
_NOT_CONFIGURED: Mapping[str, object] = {"status": "not configured"}


def routes(
    version: str,
    *,
    draining: Callable[[], bool],
    catalog_fault: Callable[[], str | None],
    catalog_whole: Callable[[], bool] = lambda: True,
    checks: Mapping[str, Check] | None = None,
    providers: Callable[[], Mapping[str, object]],
    parts: Mapping[str, Part],
) -> list[Route]:
    """Serve `/health/detailed`; 503 only when not ready.

    Args:
        version, draining, catalog_fault, catalog_whole, checks: As for the probes.
        providers: What is known of each account, by its name.
        parts: By name (`cache`, `rate_limiter`, `queue`, `ledger`, `catalog`); one that is not given is not configured.
    """
    started = time.perf_counter()

    async def detailed(_: Request) -> Response:
        status, shown = await readiness(
            draining=draining, catalog_fault=catalog_fault, catalog_whole=catalog_whole, checks=checks
        )
        return answer(
            {
                "status": status,
                "version": version,
                "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "uptime_seconds": round(time.perf_counter() - started, 3),
                "checks": shown,
                "providers": providers(),
                **{name: parts[name]() if name in parts else _NOT_CONFIGURED for name in _PARTS},
            }
        )

    return [Route(path, detailed, methods=["GET"]) for path in ("/health/detailed", "/v1/health/detailed")]


def catalog_part(version: str, *, has_fault: bool) -> dict[str, object]:
    """Say which catalog is served; why a newer one is not, only the log tells: it names files of the host."""
    status = "reload failed, the previous catalog is served" if has_fault else "ok"
    return {"status": status, "version": version}


def cache_part(kept: ValuesStatus, *, enabled: bool) -> dict[str, object]:
    """Say how many answers are kept, as of a few seconds ago."""
    if not enabled:
        return {"status": "off"}
    return {"status": "ok", "entries": kept.entries, "size_bytes": kept.size_bytes, "max_bytes": kept.max_bytes}


def limiter_part(*, enabled: bool, shared: bool, up: bool) -> dict[str, object]:
    """Say whether callers are limited, and by whom they are counted."""
    counted = "redis" if shared and up else "each process"
    return {"status": "off" if not enabled else "ok" if up else "redis is away", "counted_by": counted}


def ledger_part(backlog_bytes: int, backlog_s: float, lost: int) -> dict[str, object]:
    """Say what the ledger has still to bring to its database, and how many entries it never will."""
    status = "ok" if lost == 0 else "entries lost"
    return {"status": status, "backlog_bytes": backlog_bytes, "backlog_seconds": round(backlog_s, 3), "lost": lost}


def queue_part(*, broker: bool, here: bool, waiting: int, running: int) -> dict[str, object]:
    """Say what tells of jobs, whether this process runs them, how many wait (as of a few seconds ago), how many run."""
    told_by = "broker" if broker else "this process"
    return {"status": "ok", "told_by": told_by, "runs_jobs": here, "waiting": waiting, "running": running}
