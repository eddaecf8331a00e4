import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio
import msgspec
from typing_extensions import override

from llmgateway.caller import Budget
from llmgateway.gateway.budgets import BudgetWatch
from llmgateway.gateway.purses import BOUNDLESS, purse_of
from llmgateway.stores.base import Values
from llmgateway.telemetry.logs import LineSink, build_logger
from tests.gateway.scripted_store import ScriptedValues
from tests.telemetry.exchanges import until

NOW = datetime.now(UTC)
PURSE = purse_of("key", "key_1", Budget(1), NOW)
HUNDREDTH = 10_000_000


@dataclass
class Watched:
    """A watch, and what it told."""

    watch: BudgetWatch
    sink: LineSink
    log: io.BytesIO
    sent: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    def lines(self) -> list[dict[str, object]]:
        self.sink.flush()
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def told(self, *thresholds: str) -> None:
        await until(lambda: [fields["threshold"] for _, fields in self.sent] == list(thresholds), within_s=3)


@asynccontextmanager
async def watched(values: Values | None = None) -> AsyncIterator[Watched]:
    log = io.BytesIO()
    sink = LineSink(log)
    sent: list[tuple[str, Mapping[str, object]]] = []
    watch = BudgetWatch(
        build_logger(sink, level="info", log_format="json"), lambda event, fields: sent.append((event, fields))
    )
    async with anyio.create_task_group() as group:
        group.start_soon(watch.run, values or ScriptedValues())
        yield Watched(watch, sink, log, sent)
        group.cancel_scope.cancel()
    sink.close()


async def test_each_threshold_is_told_once() -> None:
    async with watched() as seen:
        for used in (10, 49, 50, 51, 79, 80, 99, 100, 100):
            seen.watch.spent(PURSE, used * HUNDREDTH)

        await seen.told("50 %", "80 %", "100 %")

    lines = [line for line in seen.lines() if line["event"] == "budget_alert"]
    assert [(line["threshold"], line["used_usd"]) for line in lines] == [("50 %", 0.5), ("80 %", 0.8), ("100 %", 1.0)]
    event, fields = seen.sent[0]
    assert event == "budget.alert"
    assert fields == {
        "scope": "key",
        "owner": "key_1",
        "threshold": "50 %",
        "used_usd": 0.5,
        "budget_usd": 1.0,
        "soft_usd": None,
        "resets_at": datetime.fromtimestamp(PURSE.ends_at or 0, UTC).isoformat(),
    }


async def test_of_several_passed_at_once_the_highest_is_told() -> None:
    async with watched() as seen:
        seen.watch.spent(PURSE, 85 * HUNDREDTH)
        seen.watch.spent(PURSE, 100 * HUNDREDTH)

        await seen.told("80 %", "100 %")


async def test_the_soft_limit_has_an_alert_of_its_own() -> None:
    purse = purse_of("organization", "acme", Budget(1, soft_usd=0.6), NOW)
    async with watched() as seen:
        for used in (55, 65, 90):
            seen.watch.spent(purse, used * HUNDREDTH)

        await seen.told("50 %", "soft", "80 %")

    assert seen.sent[1][1]["soft_usd"] == 0.6
    assert seen.sent[1][1]["owner"] == "acme"


async def test_processes_that_share_a_store_tell_once_together() -> None:
    values = ScriptedValues()
    async with watched(values) as one, watched(values) as other:
        one.watch.spent(PURSE, 50 * HUNDREDTH)
        await one.told("50 %")
        other.watch.spent(PURSE, 51 * HUNDREDTH)
        other.watch.spent(PURSE, 81 * HUNDREDTH)

        await other.told("80 %")


class TimedValues(ScriptedValues):
    """Notes how long it is to keep a value."""

    ttl_s = 0.0

    @override
    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        self.ttl_s = ttl_s
        return await super().add(key, value, ttl_s)


async def test_what_was_told_is_known_until_the_period_is_over() -> None:
    values = TimedValues()
    async with watched(values) as seen:
        seen.watch.spent(PURSE, 50 * HUNDREDTH)
        await seen.told("50 %")

    assert datetime.now(UTC).timestamp() + values.ttl_s > (PURSE.ends_at or 0)


async def test_without_the_store_it_is_rather_told_twice_than_never() -> None:
    async with watched(ScriptedValues(away=True)) as seen:
        seen.watch.spent(PURSE, 50 * HUNDREDTH)

        await seen.told("50 %")


async def test_a_new_period_and_another_amount_begin_anew() -> None:
    async with watched() as seen:
        seen.watch.spent(PURSE, 50 * HUNDREDTH)
        seen.watch.spent(purse_of("key", "key_1", Budget(1), NOW + timedelta(days=40)), 50 * HUNDREDTH)
        raised = purse_of("key", "key_1", Budget(2), NOW)
        seen.watch.spent(raised, 90 * HUNDREDTH)
        seen.watch.spent(raised, 100 * HUNDREDTH)

        await seen.told("50 %", "50 %", "50 %")


async def test_a_budget_that_refuses_when_nearly_spent_counts_as_spent() -> None:
    async with watched() as seen:
        seen.watch.spent(PURSE, 40 * HUNDREDTH)
        seen.watch.refused("key.budget", (PURSE,))
        seen.watch.spent(PURSE, 95 * HUNDREDTH)
        seen.watch.refused("organization.budget", (PURSE,))
        await seen.told("80 %")

        seen.watch.refused("key.budget", (PURSE,))
        seen.watch.refused("key.budget", (PURSE,))

        await seen.told("80 %", "100 %")
        assert seen.sent[1][1]["used_usd"] == 0.95


async def test_the_highest_part_is_that_of_a_period_that_is_not_over() -> None:
    async with watched() as seen:
        assert seen.watch.highest() == 0
        seen.watch.spent(PURSE, 20 * HUNDREDTH)
        seen.watch.spent(purse_of("key", "key_2", Budget(1, "total"), NOW), 30 * HUNDREDTH)
        seen.watch.spent(purse_of("key", "key_3", Budget(1), NOW - timedelta(days=90)), 99 * HUNDREDTH)
        seen.watch.spent(purse_of("key", "key_4", Budget(0), NOW), 5)

        assert seen.watch.highest() == 0.3


async def test_what_is_only_caught_up_with_is_no_budget() -> None:
    async with watched() as seen:
        seen.watch.spent(PURSE, 20 * HUNDREDTH)
        seen.watch.spent(msgspec.structs.replace(PURSE, hard_nusd=BOUNDLESS), 60 * HUNDREDTH)

        assert seen.watch.highest() == 0.2


async def test_budgets_without_end_do_not_fill_the_memory() -> None:
    async with watched() as seen:
        for number in range(20_000):
            seen.watch.spent(purse_of("key", f"key_{number}", Budget(1), NOW), 1)

    assert len(seen.watch._known) <= 10_000  # noqa: SLF001  what is kept is seen nowhere else
