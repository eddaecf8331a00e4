"""How the last hours went: what was slow, what failed, what it cost. For whoever runs the gateway."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.ledger.advice import Recommendation, recommend
from llmgateway.api.ledger.asking import FLUSH_LIMIT_S, LIMIT_S, Flush, answer_in_time, as_json, known_only, short
from llmgateway.api.ledger.shown import shown
from llmgateway.caller import Caller
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import InvalidRequestError
from llmgateway.storage.queries import Costs, CostShare, Performance, ProviderPerformance, Trend

LONGEST_HOURS = 744  # a month
_AT_ONCE = 1
_HOURS = 24


class Reports(Protocol):
    """Asks the database about the last hours; each question raises an `OSError` when it is away."""

    async def performance(self, hours: int) -> Performance: ...

    async def trends(self, hours: int) -> Sequence[Trend]: ...

    async def costs(self, hours: int) -> Costs: ...


def routes(reports: Reports, flush: Flush, current: Callable[[], Catalog], *, limit_s: float = LIMIT_S) -> list[Route]:
    """Serve `/metrics/performance`, `/metrics/trends` and `/metrics/costs`.

    Args:
        flush: So that what just happened is part of it.
        current: Gives the catalog whose models are recommended.
    """
    turns = asyncio.Semaphore(_AT_ONCE)

    def report(path: str, tell: Callable[[int, Caller], Awaitable[Mapping[str, Any]]]) -> Route:
        async def read_report(request: Request) -> Response:
            hours = _hours(request)
            await flush(FLUSH_LIMIT_S)
            question = partial(tell, hours, request.scope["exchange"].caller)
            return await as_json({"hours": hours, **await answer_in_time(question, limit_s, turns)})

        return Route(path, read_report, methods=["GET"])

    async def performance(hours: int, _: Caller) -> Mapping[str, Any]:
        return _performance(await reports.performance(hours))

    async def trends(hours: int, _: Caller) -> Mapping[str, Any]:
        return {"data": await reports.trends(hours)}

    async def costs(hours: int, caller: Caller) -> Mapping[str, Any]:
        found = await reports.costs(hours)
        # In a thread: it looks through the whole catalog.
        return _costs(found, await to_thread.run_sync(recommend, found.spent, current(), caller.may_use))

    return [
        report("/metrics/performance", performance),
        report("/metrics/trends", trends),
        report("/metrics/costs", costs),
    ]


def _hours(request: Request) -> int:
    known_only(request, ("hours",))
    text = request.query_params.get("hours")
    if not text:
        return _HOURS
    hours = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(LONGEST_HOURS)) else 0
    if not 1 <= hours <= LONGEST_HOURS:
        raise InvalidRequestError(
            f"`hours` is {short(text)}: write a whole number from 1 to {LONGEST_HOURS}.", param="hours"
        )
    return hours


def _performance(found: Performance) -> dict[str, Any]:
    return {
        "slow_requests": [shown(entry) for entry in found.slow_requests],
        "by_provider": {part.provider or "none": _provider(part) for part in found.by_provider},
        "threshold_seconds": found.threshold_seconds,
    }


def _provider(part: ProviderPerformance) -> dict[str, Any]:
    """Give seconds, as all of `/metrics` does."""
    return {
        "requests": part.requests,
        "p50": round(part.p50_ms / 1e3, 6),
        "p95": round(part.p95_ms / 1e3, 6),
        "p99": round(part.p99_ms / 1e3, 6),
        "success_rate": _rounded(part.success_rate),
        "tokens_per_second": _rounded(part.tokens_per_second),
        "error_breakdown": part.error_breakdown,
    }


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 6)


def _costs(found: Costs, recommendations: Sequence[Recommendation]) -> dict[str, Any]:
    return {
        "total_cost_usd": found.cost_usd,
        "unpriced_requests": found.unpriced_requests,
        "by_provider": _shares(found.by_provider, "provider"),
        "by_user": _shares(found.by_user, "user"),
        "by_model": _shares(found.by_model, "model"),
        "most_expensive": [shown(entry) for entry in found.most_expensive],
        "recommendations": recommendations,
    }


def _shares(shares: Sequence[CostShare], kind: str) -> list[dict[str, Any]]:
    return [
        {
            kind: share.name,
            "requests": share.requests,
            "prompt_tokens": share.prompt_tokens,
            "completion_tokens": share.completion_tokens,
            "cost_usd": share.cost_usd,
            "unpriced_requests": share.unpriced_requests,
        }
        for share in shares
    ]
