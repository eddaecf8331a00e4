"""Makes the purse of a budget: how much, and from when to when. The periods are the calendar's, in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Literal

from llmgateway.caller import Budget, Period
from llmgateway.stores.base import Purse

NANO = 1_000_000_000
# The hard limit of a purse that refuses nothing.
BOUNDLESS = 2**60
_MONTHS = 12


def purse_of(scope: Literal["key", "organization"], owner: str, budget: Budget, now: datetime) -> Purse:
    """Make the purse of the period that `now` lies in.

    Args:
        owner: The id of the key or the organization.
    """
    label, start, end = period_of(budget.period, now)
    return Purse(
        name=f"{scope}.budget",
        key=f"budget:{scope}:{owner}:{budget.period}:{label}",
        scope=scope,
        owner=owner,
        hard_nusd=round(budget.usd * NANO),
        soft_nusd=None if budget.soft_usd is None else round(budget.soft_usd * NANO),
        starts_at=0.0 if start is None else start.timestamp(),
        ends_at=None if end is None else end.timestamp(),
    )


def period_of(period: Period, now: datetime) -> tuple[str, datetime | None, datetime | None]:
    """Give a period's name, its start and its end, which is the next one's start; `None` is without either."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case "day":
            return f"{midnight:%Y-%m-%d}", midnight, midnight + timedelta(days=1)
        case "week":
            monday = midnight - timedelta(days=midnight.weekday())
            return f"{monday:%G-W%V}", monday, monday + timedelta(weeks=1)
        case "month":
            first = midnight.replace(day=1)
            return f"{first:%Y-%m}", first, _next_month(first)
        case "total":
            return "total", None, None


def _next_month(first: datetime) -> datetime:
    if first.month == _MONTHS:
        return first.replace(year=first.year + 1, month=1)
    return first.replace(month=first.month + 1)
