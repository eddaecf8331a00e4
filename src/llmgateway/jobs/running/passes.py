"""What a call has cost and brought: the row of its pass, its figures for those who watch, and the sum of all."""

import re
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, structs

from llmgateway.documents.question import Answer, Question
from llmgateway.exchange import Exchange
from llmgateway.storage.jobs.rows import Claimed, PassRow, Totals

_NANO = 1e9
_REJECTED, _ANEW = "!", "@"
_ANEW_END = re.compile(rf"{_ANEW}\d+\Z")


class Said(Struct, frozen=True, kw_only=True):
    """An answer of a model, and the exchange that tells what it took.

    Args:
        demo: It came from the built-in demo models.
    """

    answer: Answer
    exchange: Exchange
    began: datetime
    duration_ms: float
    demo: bool = False


def free_step(step: str, taken: Container[str], *, number: int, rejected: bool) -> str:
    """Name a pass after its question; where there is one of that name, or the answer was none, with its number."""
    if rejected:
        return f"{step}{_REJECTED}{number}"
    return f"{step}{_ANEW}{number}" if step in taken else step


def question_step(step: str) -> str:
    """Give the step of the question that a pass answers; of an answer that was none, a name that no question has."""
    return _ANEW_END.sub("", step)


def pass_of(question: Question, said: Said, answer: Answer, *, step: str, number: int, flavor: str) -> PassRow:
    """Write an answer down as a pass.

    Args:
        answer: As it counts: with what was there of it before.
    """
    exchange = said.exchange
    usage = exchange.usage
    return PassRow(
        step=step,
        number=number,
        type=question.type,
        started_at=said.began,
        completed_at=datetime.now(UTC),
        duration_ms=round(said.duration_ms, 1),
        prompt_tokens=0 if usage is None else usage.prompt_tokens,
        completion_tokens=0 if usage is None else usage.completion_tokens,
        cached_tokens=0 if usage is None else usage.cached_tokens,
        reasoning_tokens=0 if usage is None else usage.reasoning_tokens,
        cost_nusd=_nusd(exchange),
        model=exchange.upstream_model,
        provider=exchange.provider,
        attempts=max(len(exchange.attempts), 1),
        flavor_name=flavor,
        request_id=exchange.id,
        output=answer.text,
        finish_reason=answer.finish_reason,
        refusal=answer.refusal,
    )


def figures(row: PassRow) -> dict[str, Any]:
    """Give the figures of a pass in the contract's shape."""
    return {
        "pass_number": row.number,
        "pass_type": row.type,
        "started_at": _shown(row.started_at),
        "completed_at": _shown(row.completed_at),
        "duration_ms": row.duration_ms,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cached_tokens": row.cached_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "cost": None if row.cost_nusd is None else row.cost_nusd / _NANO,
        "model": row.model,
        "provider": row.provider,
        "attempts": row.attempts,
    }


def added(totals: Totals, row: PassRow) -> Totals:
    """Add a pass to the sum of those before it."""
    return Totals(
        passes=totals.passes + 1,
        prompt_tokens=totals.prompt_tokens + row.prompt_tokens,
        completion_tokens=totals.completion_tokens + row.completion_tokens,
        cached_tokens=totals.cached_tokens + row.cached_tokens,
        reasoning_tokens=totals.reasoning_tokens + row.reasoning_tokens,
        duration_ms=round(totals.duration_ms + row.duration_ms, 1),
        cost_nusd=_sum(totals, row.cost_nusd),
    )


def wasted(totals: Totals, exchange: Exchange) -> Totals:
    """Add what a call has cost that brought no answer: it is paid for all the same."""
    cost_nusd, usage = _nusd(exchange), exchange.usage
    if usage is None:
        return totals
    return structs.replace(
        totals,
        prompt_tokens=totals.prompt_tokens + usage.prompt_tokens,
        completion_tokens=totals.completion_tokens + usage.completion_tokens,
        cost_nusd=_sum(totals, cost_nusd),
    )


def totals_of(claimed: Claimed) -> Totals:
    """Give what a job has cost so far: a resumed one begins with the passes of the job before it."""
    totals = claimed.job.totals
    return totals if totals.passes >= len(claimed.passes) else sum_of(claimed.passes)


def sum_of(rows: Iterable[PassRow]) -> Totals:
    """Add passes up."""
    totals = Totals()
    for row in rows:
        totals = added(totals, row)
    return totals


def _sum(totals: Totals, cost_nusd: int | None) -> int | None:
    """Sum up what is known; `None` only while no price is."""
    if cost_nusd is None:
        return totals.cost_nusd if totals.passes else None
    return (totals.cost_nusd or 0) + cost_nusd


def _nusd(exchange: Exchange) -> int | None:
    return None if exchange.cost_usd is None else round(exchange.cost_usd * _NANO)


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
