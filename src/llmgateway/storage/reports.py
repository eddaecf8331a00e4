"""The questions to the ledger: one statement each, the same for SQLite and PostgreSQL, counted inside the database.

Sums are exact and cannot overflow: whole billions and what is left of them are summed apart, and put together here.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Select,
    String,
    and_,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    text,
)

from llmgateway.storage.database import Database
from llmgateway.storage.ledger import entry_from
from llmgateway.storage.migrations.tables import ledger
from llmgateway.storage.queries import (
    MOST_GROUPS,
    Costs,
    CostShare,
    Group,
    Performance,
    ProviderPerformance,
    Spent,
    TooManyGroupsError,
    Trend,
    UsageTotals,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_HOUR_US = 3_600_000_000
_BILLION = 1_000_000_000
_FIRST_ERROR = 400
_LEFT = 499
_LEFT_CODE = "client_closed_request"
_MOST_CODES = 1000
_MOST_SPENT = 1000
# From here on some model costs more for the whole of a request (LiteLLM's table: `_above_128k_tokens` and its like).
_LONG_PROMPTS = (32_000, 100_000, 128_000, 200_000, 256_000, 272_000, 512_000)


def _constant(number: int) -> ColumnElement[int]:
    """Write a number into the statement: PostgreSQL takes two parameters for two expressions, equal or not."""
    return literal_column(str(number), BigInteger)


_row = ledger.c
_failed = or_(_row.status >= _FIRST_ERROR, _row.error_code.is_not(None))
_left = or_(_row.status == _LEFT, func.coalesce(_row.error_code, "") == _LEFT_CODE)
# A request that failed before any token has no cost to know; nor has one that a job answered, whose calls have theirs.
_unpriced = and_(
    _row.cost_nusd.is_(None),
    or_(_row.prompt_tokens.is_not(None), and_(~_failed, _row.requested_model.not_like("service/%"))),
)
_day = _row.at_us // _constant(24 * _HOUR_US)
_hour = _row.at_us // _constant(_HOUR_US)
_length = case(
    *((_row.prompt_tokens <= _constant(tokens), _constant(tokens)) for tokens in _LONG_PROMPTS), else_=_constant(0)
)

_GROUPS: dict[Group, ColumnElement[Any]] = {
    "model": _row.model,
    "key": _row.key_id,
    "organization": _row.organization_id,
    "provider": _row.provider,
    "day": _day,
    "user": _row.user_label,
    "operation": _row.operation,
}

_SIDES = (_row.prompt_tokens, _row.completion_tokens)
_PARTS = (
    *(_row.cached_tokens, _row.cache_write_tokens, _row.reasoning_tokens),
    *(_row.audio_tokens, _row.image_tokens),
)


def microseconds(moment: datetime) -> int:
    """Write a moment as the ledger does."""
    return (moment - _EPOCH) // _US


def _within(
    start: datetime, organization_id: str | None, end: datetime | None = None, key_id: str | None = None
) -> ColumnElement[bool]:
    conditions = [_row.at_us >= microseconds(start)]
    if end is not None:
        conditions.append(_row.at_us < microseconds(end))
    if organization_id is not None:
        conditions.append(_row.organization_id == organization_id)
    if key_id is not None:
        conditions.append(_row.key_id == key_id)
    return and_(*conditions)


def _count_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _sum_of(column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return func.sum(column // _constant(_BILLION)), func.sum(column % _constant(_BILLION))


def _whole(billions: Any, rest: Any) -> int:
    return int(billions or 0) * _BILLION + int(rest or 0)


def _usd(billions: Any, rest: Any) -> float | None:
    """Read a sum of billionths; no sum at all is no known cost."""
    return None if billions is None else _whole(billions, rest) / _BILLION


def usage_query(
    start: datetime, end: datetime, groups: Sequence[Group], organization_id: str | None, key_id: str | None = None
) -> Select[Any]:
    """Ask for the totals of a time, `end` not included; few or many groups, in the order of their values."""
    keys = [_GROUPS[group] for group in groups]
    totals = (
        func.count(),
        _count_of(_failed),
        *_sum_of(_row.prompt_tokens),
        *_sum_of(_row.completion_tokens),
        *_sum_of(_row.cached_tokens),
        *_sum_of(_row.reasoning_tokens),
        *_sum_of(_row.cost_nusd),
        _count_of(_unpriced),
        _count_of(_row.estimated),
    )
    query = select(*keys, *totals).where(_within(start, organization_id, end, key_id))
    return query.group_by(*keys).order_by(*(key.nulls_first() for key in keys)).limit(MOST_GROUPS + 1)


async def usage(
    database: Database,
    start: datetime,
    end: datetime,
    groups: Sequence[Group],
    organization_id: str | None,
    *,
    key_id: str | None = None,
) -> list[UsageTotals]:
    """Read the totals; without groups one row, also for a time without requests.

    Raises:
        TooManyGroupsError: More than `MOST_GROUPS`.
    """
    groups = list(dict.fromkeys(groups))
    rows = await database.rows(usage_query(start, end, groups, organization_id, key_id))
    if len(rows) > MOST_GROUPS:
        raise TooManyGroupsError(f"More than {MOST_GROUPS} groups: ask for a shorter time or group by less")
    return [_totals(groups, row) for row in rows]


def _totals(groups: Sequence[Group], row: Sequence[Any]) -> UsageTotals:
    keys, numbers = row[: len(groups)], row[len(groups) :]
    shown: dict[str, str | None] = {}
    for group, key in zip(groups, keys, strict=True):
        shown[group] = _date(key) if group == "day" else key
    return UsageTotals(
        group=shown,
        requests=numbers[0],
        errors=numbers[1],
        prompt_tokens=_whole(*numbers[2:4]),
        completion_tokens=_whole(*numbers[4:6]),
        cached_tokens=_whole(*numbers[6:8]),
        reasoning_tokens=_whole(*numbers[8:10]),
        cost_usd=_usd(*numbers[10:12]),
        unpriced_requests=numbers[12],
        estimated_requests=numbers[13],
    )


def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=int(day))).date().isoformat()


def _ranked(group: ColumnElement[Any], condition: ColumnElement[bool]) -> Any:
    """Number the requests of each group by their duration."""
    return (
        select(
            group.label("group"),
            _row.duration_ms,
            func.row_number().over(partition_by=group, order_by=_row.duration_ms).label("place"),
            func.count().over(partition_by=group).label("total"),
        )
        .where(condition)
        .subquery()
    )


async def _percentiles(
    database: Database, group: ColumnElement[Any], condition: ColumnElement[bool], percents: Sequence[int]
) -> dict[Any, tuple[float, ...]]:
    """Read the nearest ranks: the shortest duration that so many percent of a group's requests do not exceed."""
    ranked = _ranked(group, condition).c
    picked = (
        func.max(case((ranked.place == (ranked.total * percent + 99) // _constant(100), ranked.duration_ms)))
        for percent in percents
    )
    rows = await database.rows(select(ranked.group, *picked).group_by(ranked.group).limit(MOST_GROUPS))
    return {row[0]: tuple(row[1:]) for row in rows}


async def performance(
    database: Database, start: datetime, slow_s: float, count: int, organization_id: str | None
) -> Performance:
    """Read the slowest requests and how each account served."""
    condition = _within(start, organization_id)
    slow = select(ledger).where(condition, _row.duration_ms >= slow_s * 1e3).order_by(_row.duration_ms.desc())
    slowest = [entry_from(row) for row in await database.rows(slow.limit(count))]
    percentiles = await _percentiles(database, _row.provider, condition, (50, 95, 99))
    codes = await _codes(database, condition)
    answered = and_(~_failed, _row.completion_tokens.is_not(None), _row.upstream_ms > 0)
    totals = select(
        _row.provider,
        func.count(),
        _count_of(_failed),
        _count_of(_left),
        *_sum_of(case((answered, _row.completion_tokens))),
        func.sum(case((answered, _row.upstream_ms))),
    )
    rows = await database.rows(
        totals.where(condition).group_by(_row.provider).order_by(_row.provider.nulls_last()).limit(MOST_GROUPS)
    )
    # Each statement sees its own moment: a provider may have come in between.
    served = [_served(row, percentiles[row[0]], codes.get(row[0], {})) for row in rows if row[0] in percentiles]
    return Performance(slowest, served, slow_s)


def _served(row: Sequence[Any], percentiles: tuple[float, ...], codes: dict[str, int]) -> ProviderPerformance:
    provider, requests, errors, left, billions, rest, upstream_ms = row
    waited = requests - left
    return ProviderPerformance(
        provider,
        requests,
        p50_ms=percentiles[0],
        p95_ms=percentiles[1],
        p99_ms=percentiles[2],
        success_rate=(requests - errors) / waited if waited else None,
        tokens_per_second=_whole(billions, rest) / upstream_ms * 1e3 if upstream_ms else None,
        error_breakdown=codes,
    )


async def _codes(database: Database, condition: ColumnElement[bool]) -> dict[str | None, dict[str, int]]:
    code = func.coalesce(_row.error_code, cast(_row.status, String)).label("code")
    query = select(_row.provider, code, func.count().label("requests")).where(condition, _failed)
    found: dict[str | None, dict[str, int]] = {}
    for provider, name, requests in await database.rows(
        query.group_by(_row.provider, text("code")).order_by(text("requests DESC"), text("code")).limit(_MOST_CODES)
    ):
        found.setdefault(provider, {})[name] = requests
    return found


async def trends(database: Database, start: datetime, organization_id: str | None) -> list[Trend]:
    """Read each hour that had requests."""
    condition = _within(start, organization_id)
    percentiles = await _percentiles(database, _hour, condition, (95,))
    totals = select(
        _hour,
        func.count(),
        _count_of(_failed),
        *_sum_of(_row.prompt_tokens),
        *_sum_of(_row.completion_tokens),
        *_sum_of(_row.cost_nusd),
        func.avg(_row.duration_ms),
    )
    rows = await database.rows(totals.where(condition).group_by(_hour).order_by(_hour).limit(MOST_GROUPS))
    return [_trend(row, percentiles[row[0]][0]) for row in rows if row[0] in percentiles]


def _trend(row: Sequence[Any], p95_ms: float) -> Trend:
    began = _EPOCH + timedelta(hours=int(row[0]))
    prompt_tokens, completion_tokens = _whole(*row[3:5]), _whole(*row[5:7])
    return Trend(
        began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        row[1],
        row[2],
        prompt_tokens,
        completion_tokens,
        _usd(*row[7:9]),
        float(row[9]),
        p95_ms,
    )


async def costs(database: Database, start: datetime, count: int, organization_id: str | None) -> Costs:
    """Read who and what the money went to."""
    condition = _within(start, organization_id)
    [whole] = await database.rows(select(*_sum_of(_row.cost_nusd), _count_of(_unpriced)).where(condition))
    dear = select(ledger).where(condition, _row.cost_nusd.is_not(None)).order_by(_row.cost_nusd.desc(), _row.id)
    return Costs(
        cost_usd=_usd(*whole[:2]),
        unpriced_requests=whole[2],
        by_provider=await _shares(database, _row.provider, condition, count),
        by_user=await _shares(database, _row.user_label, condition, count),
        by_model=await _shares(database, _row.model, condition, count),
        most_expensive=[entry_from(row) for row in await database.rows(dear.limit(count))],
        spent=await _spent(database, condition),
    )


async def _shares(
    database: Database, column: ColumnElement[Any], condition: ColumnElement[bool], count: int
) -> list[CostShare]:
    totals = select(
        column,
        func.count(),
        *_sum_of(_row.prompt_tokens),
        *_sum_of(_row.completion_tokens),
        *_sum_of(_row.cost_nusd),
        _count_of(_unpriced),
    )
    dearest = func.sum(cast(_row.cost_nusd, Double)).desc().nulls_last()  # near enough to sort by
    rows = await database.rows(totals.where(condition).group_by(column).order_by(dearest, column).limit(count))
    return [CostShare(row[0], row[1], _whole(*row[2:4]), _whole(*row[4:6]), _usd(*row[6:8]), row[8]) for row in rows]


async def _spent(database: Database, condition: ColumnElement[bool]) -> list[Spent]:
    """Read what each deployment cost, by model and length of the prompt. What cost nothing is left out."""
    # Near enough for an estimate, and half the work of exact sums.
    tokens = (func.sum(cast(column, Double)) for column in (*_SIDES, *_PARTS))
    keys = (_row.model, _row.provider, _row.upstream_model)
    totals = select(
        *keys,
        func.count(),
        *_sum_of(_row.cost_nusd),
        *tokens,
        func.max(_row.prompt_tokens),
        func.max(_row.completion_tokens),
    )
    known = and_(condition, _row.cost_nusd > 0, *(column.is_not(None) for column in (*keys[1:], *_SIDES)))
    dearest = func.sum(cast(_row.cost_nusd, Double)).desc()
    grouped = totals.where(known).group_by(*keys, _length).order_by(dearest, *keys)
    return [_deployment(row) for row in await database.rows(grouped.limit(_MOST_SPENT))]


def _deployment(row: Sequence[Any]) -> Spent:
    names, sums, longest = row[:4], row[6:13], row[13:]
    values: list[Any] = [*names, _whole(*row[4:6]) / _BILLION, *(round(tokens or 0) for tokens in sums), *longest]
    return Spent(*values)
