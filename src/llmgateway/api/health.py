"""What probes ask: is the process alive, and may it be sent requests. `/health` and liveness touch nothing outside."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.errors import GatewayError

# True and any text is ready, the text saying more; False is not. One that raises OSError or GatewayError is not either.
Check = Callable[[], Awaitable[str | bool]]

CHECK_LIMIT_S = 1.0
_PARTS = ("database", "redis", "queue")
_LIVE = ("/health/live", "/v1/health/live", "/livez")
_READY = ("/health/ready", "/v1/health/ready", "/readyz")


def routes(
    version: str,
    *,
    draining: Callable[[], bool],
    catalog_fault: Callable[[], str | None],
    catalog_whole: Callable[[], bool] = lambda: True,
    checks: Mapping[str, Check] | None = None,
) -> list[Route]:
    """Serve the probes.

    Args:
        version: The gateway's.
        draining: Whether the process was told to end: then it is alive, but not ready.
        catalog_fault: Why the last reload failed, or `None`. The catalog of before goes on serving, so it stays ready.
        catalog_whole: Whether what administrators added to the catalog was read; until then it is not ready.
        checks: By the part's name (`database`, `redis`, `queue`); a part that is not given is not configured.
    """

    async def health(_: Request) -> Response:
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        return answer({"status": "ok", "version": version, "timestamp": timestamp})

    async def live(_: Request) -> Response:
        return answer({"status": "alive"})

    async def ready(_: Request) -> Response:
        status, shown = await readiness(
            draining=draining, catalog_fault=catalog_fault, catalog_whole=catalog_whole, checks=checks
        )
        return answer({"status": status, "checks": shown})

    return [
        Route("/health", health, methods=["GET"]),
        *(Route(path, live, methods=["GET"]) for path in _LIVE),
        *(Route(path, ready, methods=["GET"]) for path in _READY),
    ]


async def readiness(
    *,
    draining: Callable[[], bool],
    catalog_fault: Callable[[], str | None],
    catalog_whole: Callable[[], bool],
    checks: Mapping[str, Check] | None,
) -> tuple[str, dict[str, str]]:
    """Say whether requests may come, `ready`, `not_ready` or `draining`, and what each part said."""
    results = await run_checks(checks or {})
    shown = dict.fromkeys(_PARTS, "not configured") | {part: text for part, (_, text) in results.items()}
    # The reason names files of the host: it is in the log, for those who may read that.
    shown["config"] = "ok" if catalog_fault() is None else "reload failed, the previous catalog is served"
    if not catalog_whole():
        shown["config"] = "what administrators added is not read yet"
    is_ready = catalog_whole() and all(is_ready for is_ready, _ in results.values())
    status = "ready" if is_ready else "not_ready"
    return "draining" if draining() else status, shown


async def run_checks(checks: Mapping[str, Check]) -> dict[str, tuple[bool, str]]:
    """Ask all parts at once, each for `CHECK_LIMIT_S` at most: whether it lets requests come, and what it said."""
    results = dict.fromkeys(checks, (False, f"no answer within {CHECK_LIMIT_S:g} s"))

    async def ask(part: str, check: Check) -> None:
        with anyio.move_on_after(CHECK_LIMIT_S):
            results[part] = await _asked(check)

    async with anyio.create_task_group() as group:
        for part, check in checks.items():
            group.start_soon(ask, part, check)
    return results


async def _asked(check: Check) -> tuple[bool, str]:
    try:
        result = await check()
    except (OSError, GatewayError) as error:
        # Its message may name an internal address.
        return False, f"failed: {type(error).__name__}"
    if isinstance(result, str):
        return True, result
    return (True, "ok") if result else (False, "failed")


def answer(body: Mapping[str, object]) -> Response:
    """Render what a probe is told; 503 unless its `status` says that all is well."""
    headers = {"cache-control": "no-store"}
    up = body["status"] in {"ok", "alive", "ready"}
    if not up:
        headers |= {"retry-after": "1", "retry-after-ms": "1000"}
    return Response(
        msgspec.json.encode(body), status_code=200 if up else 503, headers=headers, media_type="application/json"
    )
