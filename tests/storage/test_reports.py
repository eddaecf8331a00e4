import itertools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import text

from llmgateway.storage import queries, reports
from llmgateway.storage.address import locate
from llmgateway.storage.database import open_engine
from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.queries import Group, Spent, TooManyGroupsError, UsageTotals
from llmgateway.storage.storage import Storage
from tests.storage.databases import END, START, double, entry, fields_of, random_entries

VALUES: dict[Group, Callable[[LedgerEntry], str | None]] = {
    "model": lambda one: one.model,
    "key": lambda one: one.key_id,
    "organization": lambda one: one.organization_id,
    "provider": lambda one: one.provider,
    "day": lambda one: datetime.fromtimestamp(one.at_us // 1_000_000, UTC).date().isoformat(),
    "user": lambda one: one.user_label,
    "operation": lambda one: one.operation,
}
KINDS = list(VALUES)


def failed(one: LedgerEntry) -> bool:
    return one.status >= 400 or one.error_code is not None


def expected(entries: list[LedgerEntry], groups: tuple[Group, ...]) -> list[UsageTotals]:
    found: dict[tuple[str | None, ...], list[LedgerEntry]] = defaultdict(list)
    for one in entries:
        found[tuple(VALUES[group](one) for group in groups)].append(one)
    return [totals(dict(zip(groups, key, strict=True)), ones) for key, ones in found.items()]


def totals(group: dict[Any, str | None], entries: list[LedgerEntry]) -> UsageTotals:
    known = [cost for cost in fields_of(entries, "cost_nusd") if cost is not None]
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
    unpriced = [o for o in entries if o.cost_nusd is None and (o.prompt_tokens is not None or not failed(o))]
    return UsageTotals(
        group,
        len(entries),
        sum(map(failed, entries)),
        **{name: sum(tokens or 0 for tokens in fields_of(entries, name)) for name in names},
        cost_usd=sum(known) / 10**9 if known else None,
        unpriced_requests=len(unpriced),
        estimated_requests=sum(fields_of(entries, "estimated")),
    )


def by_group(rows: list[UsageTotals]) -> list[UsageTotals]:
    return sorted(rows, key=lambda one: [str(value) for value in one.group.values()])


async def test_totals_are_right_for_every_pair_of_groups(storage: Storage) -> None:
    entries = random_entries(700, seed=4)
    await storage.add(entries)

    combinations = [*itertools.chain(*(itertools.permutations(KINDS, count) for count in range(3))), tuple(KINDS)]
    for groups in combinations:
        found = await storage.usage(START, END, groups)

        assert by_group(found) == by_group(expected(entries, groups)), groups


async def test_totals_are_of_their_time_and_organization_alone(storage: Storage) -> None:
    entries = random_entries(300, seed=5)
    await storage.add(entries)
    first, last = START + timedelta(hours=7), START + timedelta(hours=44)
    limits = reports.microseconds(first), reports.microseconds(last)

    found = await storage.usage(first, last, ["model", "model"], organization_id="acme")

    own = [o for o in entries if o.organization_id == "acme" and limits[0] <= o.at_us < limits[1]]
    assert by_group(found) == by_group(expected(own, ("model",)))


async def test_totals_may_be_of_one_key_alone(storage: Storage) -> None:
    entries = random_entries(300, seed=6)
    await storage.add(entries)
    keys = {one.key_id for one in entries if one.key_id is not None}
    assert len(keys) > 1

    for key in keys:
        found = await storage.usage(START, END, ["model"], key_id=key)
        own = [one for one in entries if one.key_id == key]
        assert sum(part.requests for part in found) == len(own)
        both = await storage.usage(START, END, [], organization_id="acme", key_id=key)
        assert both[0].requests == sum(one.organization_id == "acme" for one in own)


async def test_unknown_cost_is_never_nothing(storage: Storage) -> None:
    await storage.add([entry(cost_nusd=None), entry(cost_nusd=None, provider="free", prompt_tokens=None)])
    await storage.add([entry(cost_nusd=0, provider="own"), entry(status=502, cost_nusd=None, prompt_tokens=None)])

    found = {one.group["provider"]: one for one in await storage.usage(START, END, ["provider"])}

    assert found["main"].cost_usd is None
    assert found["main"].unpriced_requests == 1
    assert found["free"].cost_usd is None
    assert found["free"].unpriced_requests == 1
    assert found["own"].cost_usd == 0.0
    assert found["own"].unpriced_requests == 0
    [nothing] = await storage.usage(END, END, [])
    assert nothing == UsageTotals({}, 0, 0, 0, 0, 0, 0, None, 0, 0)


async def test_sums_are_exact_and_do_not_overflow(storage: Storage) -> None:
    await storage.add([entry(cost_nusd=2**62, prompt_tokens=2**62) for _ in range(4)])
    await storage.add([entry(cost_nusd=1, model="cheap") for _ in range(10)])

    found = {one.group["model"]: one for one in await storage.usage(START, END, ["model"])}

    assert found["chat"].prompt_tokens == 2**64
    assert found["chat"].cost_usd == 2**64 / 10**9
    assert found["cheap"].cost_usd == 0.000_000_01


async def test_more_groups_than_one_answer_takes_are_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_GROUPS", 3)
    await storage.add([entry(user_label=f"user {number}") for number in range(4)])

    with pytest.raises(TooManyGroupsError, match="More than 3 groups"):
        await storage.usage(START, END, ["user"])
    assert storage.up
    assert queries.MOST_GROUPS == 5000


async def test_performance_shows_the_slowest_and_each_provider(storage: Storage) -> None:
    quick = [entry(duration_ms=float(ms), upstream_ms=10.0, completion_tokens=2) for ms in range(1, 99)]
    slow = [entry(duration_ms=5000.0), entry(duration_ms=9000.0, status=502, error_code="upstream_error")]
    left = entry(provider="backup", status=499, error_code="client_closed_request", duration_ms=3.0)
    refused = entry(provider=None, status=404, duration_ms=0.5)
    await storage.add([*quick, *slow, left, refused, entry(at_us=0, duration_ms=10**6)])

    found = await storage.performance(START, slow_s=5, count=2)

    assert found.slow_requests == [slow[1], slow[0]]
    assert found.threshold_seconds == 5
    backup, main, none = found.by_provider
    assert (main.provider, main.requests, main.p50_ms, main.p95_ms, main.p99_ms) == ("main", 100, 50, 95, 5000)
    assert main.success_rate == 0.99
    assert main.error_breakdown == {"upstream_error": 1}
    assert main.tokens_per_second == pytest.approx((98 * 2 + 7) / (0.98 + 0.1201))
    assert (backup.provider, backup.success_rate, backup.tokens_per_second) == ("backup", None, None)
    assert (none.provider, none.success_rate, none.error_breakdown) == (None, 0.0, {"404": 1})


async def test_trends_show_each_hour(storage: Storage) -> None:
    hour_us = 3_600_000_000
    first = reports.microseconds(START)
    await storage.add([entry(at_us=first - 1)])
    await storage.add([entry(at_us=first + 2 * hour_us + step, duration_ms=100.0 + step) for step in range(20)])
    await storage.add([entry(at_us=first, status=500, cost_nusd=None, prompt_tokens=None, completion_tokens=None)])

    early, late = await storage.trends(3, now=START + timedelta(hours=2, minutes=59))

    assert (early.hour, early.requests, early.errors, early.cost_usd) == ("2026-11-20T00:00:00Z", 1, 1, None)
    assert (late.hour, late.requests, late.errors) == ("2026-11-20T02:00:00Z", 20, 0)
    assert (late.prompt_tokens, late.completion_tokens, late.cost_usd) == (220, 140, 0.00195)
    assert late.average_ms == pytest.approx(109.5)
    assert late.p95_ms == 118.0


async def test_costs_show_who_and_what_the_money_went_to(storage: Storage) -> None:
    dear = entry(user_label="ann", cost_nusd=3 * 10**9, model="large")
    cheap = entry(user_label="bob", cost_nusd=10**9)
    unknown = entry(user_label="eve", cost_nusd=None, provider="backup")
    await storage.add([cheap, unknown, dear, entry(organization_id="acme")])

    found = await storage.costs(START, count=2)

    assert found.cost_usd == 4.0000975
    assert found.unpriced_requests == 1
    assert [(one.name, one.requests, one.cost_usd) for one in found.by_user] == [("ann", 1, 3.0), ("bob", 1, 1.0)]
    assert [(one.name, one.cost_usd, one.unpriced_requests) for one in found.by_provider] == [
        ("main", 4.0000975, 0),
        ("backup", None, 1),
    ]
    assert [one.name for one in found.by_model] == ["large", "chat"]
    assert found.most_expensive == [dear, cheap]
    assert (await storage.costs(START, organization_id="acme")).cost_usd == 0.0000975
    assert (await storage.costs(END)).cost_usd is None


async def test_costs_show_what_each_deployment_cost_by_the_length_of_the_prompts(storage: Storage) -> None:
    short = entry(prompt_tokens=128_000, completion_tokens=900, cache_write_tokens=40, cost_nusd=10**9)
    also_short = entry(prompt_tokens=100_001, completion_tokens=100, audio_tokens=7, cost_nusd=3 * 10**8)
    long = entry(prompt_tokens=128_001, completion_tokens=50, cost_nusd=5 * 10**8)
    elsewhere = entry(provider="backup", upstream_model="other-one", model="large", cost_nusd=2 * 10**8)
    kept = entry(cost_nusd=0, prompt_tokens=None, completion_tokens=None, cache="HIT")
    unknown, nowhere = entry(cost_nusd=None), entry(provider=None, upstream_model=None)
    await storage.add([short, also_short, long, elsewhere, kept, unknown, nowhere])

    found = (await storage.costs(START)).spent

    assert found == [
        Spent("chat", "main", "gpt-4o", 2, 1.3, 228_001, 1000, 6, 40, 4, 7, 0, 128_000, 900),
        Spent("chat", "main", "gpt-4o", 1, 0.5, 128_001, 50, 3, 0, 2, 0, 0, 128_001, 50),
        Spent("large", "backup", "other-one", 1, 0.2, 11, 7, 3, 0, 2, 0, 0, 11, 7),
    ]
    assert (await storage.costs(END)).spent == []


async def test_what_deployments_cost_is_bounded_and_does_not_overflow(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_MOST_SPENT", 2)
    await storage.add([entry(cost_nusd=2**62, prompt_tokens=2**62, upstream_model="dear") for _ in range(4)])
    await storage.add([entry(cost_nusd=number + 1, upstream_model=f"model-{number}") for number in range(3)])

    dear, cheap = (await storage.costs(START)).spent

    assert (dear.upstream_model, cheap.upstream_model) == ("dear", "model-2")
    assert (dear.prompt_tokens, dear.longest_prompt_tokens) == (2**64, 2**62)
    assert dear.cost_usd == 2**64 / 10**9


async def test_time_of_an_organization_is_looked_up_in_the_index(storage: Storage, url: str, tmp_path: Any) -> None:
    await storage.add(random_entries(2000, seed=6))
    database = open_engine(locate(url, tmp_path))
    explain = "EXPLAIN QUERY PLAN " if database.address.path else "EXPLAIN "
    query = reports.usage_query(START, START + timedelta(hours=1), ["model"], "acme")
    try:
        async with database.engine.connect() as connection:
            if database.address.dsn:
                await connection.execute(text("SET enable_seqscan = off"))
            literal = query.compile(database.engine.sync_engine, compile_kwargs={"literal_binds": True})
            plan = str((await connection.execute(text(explain + str(literal)))).all())
    finally:
        await database.engine.dispose()

    assert "ledger_organization_at_us" in plan


class Stalls:
    """How long the loop's thread was kept from everybody else, at worst, while one question was asked."""

    def __init__(self) -> None:
        self.worst_s = self.worst_cpu_s = 0.0

    async def during(self, question: Callable[[], Awaitable[Any]]) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(self._feel)
            await anyio.lowlevel.checkpoint()
            answer = await question()
            await anyio.sleep(0.002)  # what the answer's last step took is felt as well
            group.cancel_scope.cancel()
        return answer

    async def _feel(self) -> None:
        while True:
            began_s, used_s = time.perf_counter(), time.thread_time()
            await anyio.sleep(0.001)
            self.worst_cpu_s = max(self.worst_cpu_s, time.thread_time() - used_s)
            self.worst_s = max(self.worst_s, time.perf_counter() - began_s)


@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_wide_question_holds_up_no_other_request(storage: Storage, url: str, tmp_path: Path) -> None:
    """Pitfall 70: 100,000 rows are counted while the loop is free for everybody else."""
    await storage.add(random_entries(3125, seed=7))
    await double(locate(url, tmp_path), times=5)
    questions: dict[str, Callable[[], Awaitable[Any]]] = {
        "whole": lambda: storage.usage(START, END, []),
        "by all": lambda: storage.usage(START, END, KINDS),
        "performance": lambda: storage.performance(START, slow_s=1),
        "trends": lambda: storage.trends(72, now=END),
        "costs": lambda: storage.costs(START),
    }

    answers = {name: await answered_beside_others(question) for name, question in questions.items()}

    assert answers["whole"][0].requests == 100_000


async def answered_beside_others(question: Callable[[], Awaitable[Any]]) -> Any:
    """Give the answer. A question that waits on the loop does so whenever it is asked; a machine at work does not."""
    stood_s = list[float]()
    for _ in range(3):
        stalls = Stalls()
        answer = await stalls.during(question)
        assert stalls.worst_cpu_s < 0.05
        if stalls.worst_s < 0.05:
            return answer
        stood_s.append(stalls.worst_s)
    raise AssertionError(f"the loop stood still each time, seconds: {stood_s}")
