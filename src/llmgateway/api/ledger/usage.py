"""Who used and spent what: the ledger summed up, as JSON or as a table for a spreadsheet."""

import asyncio
import csv
import io
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.ledger.asking import (
    EVERYTHING,
    FLUSH_LIMIT_S,
    LIMIT_S,
    Flush,
    Reach,
    answer_in_time,
    instant_asked,
    known_only,
    reach_of,
    rendered,
    short,
)
from llmgateway.api.ledger.shown import instant
from llmgateway.errors import InvalidRequestError, NotFoundError
from llmgateway.storage.queries import Group, TooManyGroupsError, UsageTotals

# From, to (not included), groups, and whose.
Usage = Callable[[datetime, datetime, Sequence[Group], Reach], Awaitable[Sequence[UsageTotals]]]

GROUPS: tuple[Group, ...] = get_args(Group)
LONGEST = timedelta(days=366)

_AT_ONCE = 2
_PARAMETERS = ("from", "to", "group_by", "organization_id")
_COUNTED = (
    *("requests", "errors", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"),
    *("total_tokens", "cost_usd", "unpriced_requests", "estimated_requests"),
)
_ORGANIZATION = re.compile(r"[A-Za-z0-9._-]{1,128}")
# What a spreadsheet takes for a formula (OWASP, CSV Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class _Asked(msgspec.Struct):
    start: datetime
    end: datetime
    groups: tuple[Group, ...]
    reach: Reach


def _now() -> datetime:
    return datetime.now(UTC)


def routes(usage: Usage, flush: Flush, *, limit_s: float = LIMIT_S, now: Callable[[], datetime] = _now) -> list[Route]:
    """Serve `/v1/usage`.

    Args:
        usage: Sums the ledger up; raises an `OSError` when the database is away.
        flush: So that callers find what they just did.
    """
    turns = asyncio.Semaphore(_AT_ONCE)

    async def read_usage(request: Request) -> Response:
        asked = _asked(request, now())
        await flush(FLUSH_LIMIT_S)
        question = partial(usage, asked.start, asked.end, asked.groups, asked.reach)
        try:
            totals = await answer_in_time(question, limit_s, turns)
        except TooManyGroupsError:
            raise InvalidRequestError(
                "More groups than one answer takes: ask for a shorter time, fewer groups or one organization.",
                param="group_by",
            ) from None
        if _wants_csv(request):
            answer = await rendered(lambda: _csv(asked.groups, totals), len(totals), "text/csv")
            answer.headers["content-disposition"] = 'attachment; filename="usage.csv"'
            return answer
        return await rendered(lambda: msgspec.json.encode(_shown(asked, totals)), len(totals))

    return [Route("/v1/usage", read_usage, methods=["GET"])]


def _asked(request: Request, now: datetime) -> _Asked:
    known_only(request, _PARAMETERS)
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = instant_asked(request, "from") or start
    end = instant_asked(request, "to") or now
    if not start < end:
        raise InvalidRequestError(
            f"`from` ({start.isoformat()}) must be before `to` ({end.isoformat()}), which is not part of the time.",
            param="from",
        )
    if end - start > LONGEST:
        raise InvalidRequestError(f"Ask for at most {LONGEST.days} days at once.", param="from")
    return _Asked(start, end, _groups(request), _reach(request))


def _groups(request: Request) -> tuple[Group, ...]:
    names = [name.strip() for text in request.query_params.getlist("group_by") for name in text.split(",")]
    groups = tuple(dict.fromkeys(name for name in names if name))
    for name in groups:
        if name not in GROUPS:
            raise InvalidRequestError(
                f"`group_by` has {short(name)}: take any of {', '.join(GROUPS)}, with commas between.", param="group_by"
            )
    return cast("tuple[Group, ...]", groups)


def _reach(request: Request) -> Reach:
    own, named = reach_of(request), request.query_params.get("organization_id")
    if not named:
        return own
    if not _ORGANIZATION.fullmatch(named):
        raise InvalidRequestError(
            f"`organization_id` is {short(named)}: it has 1 to 128 of A-Z a-z 0-9 . _ - .", param="organization_id"
        )
    if own not in {EVERYTHING, Reach(named)}:
        raise NotFoundError(f"No organization {short(named)} is known here, or it is not yours.")
    return Reach(named)


def _wants_csv(request: Request) -> bool:
    """Whether a table is asked for before JSON is."""
    kinds = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return next((kind for kind in kinds if kind in {"text/csv", "application/json"}), "") == "text/csv"


def _shown(asked: _Asked, totals: Sequence[UsageTotals]) -> dict[str, Any]:
    return {
        "object": "list",
        "from": instant(asked.start),
        "to": instant(asked.end),
        "group_by": asked.groups,
        "data": [{**_group(asked.groups, part), **_figures(part)} for part in totals],
        "total": _figures(_sum(totals)),
    }


def _group(groups: Sequence[Group], part: UsageTotals) -> dict[str, str | None]:
    return {name: part.group.get(name) for name in groups}


def _figures(part: UsageTotals) -> dict[str, int | float | None]:
    return {name: getattr(part, name, part.prompt_tokens + part.completion_tokens) for name in _COUNTED}


def _sum(totals: Sequence[UsageTotals]) -> UsageTotals:
    """Add groups up; the cost of what has none is not known rather than 0."""
    costs = [part.cost_usd for part in totals if part.cost_usd is not None]
    counted = {
        name: sum(getattr(part, name) for part in totals)
        for name in _COUNTED
        if name not in {"total_tokens", "cost_usd"}
    }
    # To the billionth of a dollar, as the ledger keeps it.
    return UsageTotals(group={}, cost_usd=round(sum(costs), 9) if costs else None, **counted)


def _csv(groups: Sequence[Group], totals: Sequence[UsageTotals]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow([*groups, *_COUNTED])
    for part in totals:
        figures = _figures(part)
        names = (_harmless(name) for name in _group(groups, part).values())
        table.writerow([*names, *(figures[name] for name in _COUNTED)])
    return text.getvalue().encode()


def _harmless(text: str | None) -> str:
    """Keep a spreadsheet from calculating what a client wrote."""
    text = text or ""
    return f"'{text}" if text.startswith(_FORMULA) else text
