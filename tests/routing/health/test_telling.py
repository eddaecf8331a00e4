from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from typing_extensions import override

from llmgateway.catalog.model import Model
from llmgateway.catalog.snapshot import Catalog
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.telling import Telling
from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.telemetry.provider_health import CLOSED, Rest
from tests.deployments import deployment
from tests.lines import Lines
from tests.stores.waiting import until

MAIN = deployment("main", api_key="sk-of-main")
SPARE = deployment("spare", "claude")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Told:
    """A book, and what is told of it."""

    def __init__(self, lines: Lines) -> None:
        self.clock = Clock()
        self.book = HealthBook(clock=self.clock)
        self.sent: list[tuple[str, Mapping[str, object]]] = []
        self.telling = Telling(self.book, lines.logger, lambda event, fields: self.sent.append((event, fields)))
        self._lines = lines

    def fail(self, cause: Any, rest_s: float | None = None, of: Any = MAIN) -> None:
        now = self.clock.now_s
        for _ in range(5):
            self.book.of(of).failed(now, now, cause, rest_s=rest_s)

    def answer(self, of: Any = MAIN) -> None:
        health, now = self.book.of(of), self.clock.now_s
        health.answered(now, now, stream=False, probe=health.begin(now))

    def lines(self) -> list[dict[str, Any]]:
        return [line for line in self._lines.all() if line["event"].startswith("circuit_")]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture
def told(lines: Lines) -> Told:
    return Told(lines)


def catalog(*models: Model) -> Catalog:
    accounts = {each.account.name: each.account for model in models for each in model.deployments}
    return Catalog({model.name: model for model in models}, accounts, "1")


def test_each_change_is_a_line_in_the_log(told: Told) -> None:
    told.fail("failures", rest_s=4.0)
    told.clock.now_s += 5.0
    told.answer()

    opened, closed = told.lines()
    assert (opened["event"], opened["level"]) == ("circuit_opened", "warning")
    assert (opened["provider"], opened["model"], opened["cause"], opened["rest_s"]) == ("main", "gpt-4o", "failures", 4)
    assert (closed["event"], closed["level"], closed["provider"]) == ("circuit_closed", "info", "main")
    assert told.sent == []


@asynccontextmanager
async def sending(*all_told: Told) -> AsyncIterator[MemoryValues]:
    """Let processes that share a store send their alerts."""
    values = MemoryValues()
    async with anyio.create_task_group() as group:
        for told in all_told:
            group.start_soon(told.telling.run, values)
        yield values
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("cause", "event"), [("auth", "deployment.auth_failed"), ("quota", "deployment.quota_exhausted")]
)
async def test_what_only_the_operator_can_mend_is_an_alert_once_for_each_rest(
    told: Told, cause: Any, event: str
) -> None:
    async with sending(told) as values:
        told.fail(cause)
        told.clock.now_s += 1.0
        told.fail(cause)
        told.fail(cause, of=deployment("main", "another-model", api_key="sk-of-main"))
        await anyio.wait_all_tasks_blocked()
        assert [sent for sent, _ in told.sent] == [event]

        told.clock.now_s += 1000.0
        await values.remove(f"alert:{cause}:main")  # its time is over as well
        told.fail(cause)
        await anyio.wait_all_tasks_blocked()

    assert [sent for sent, _ in told.sent] == [event, event]
    fields = told.sent[0][1]
    assert (fields["provider"], fields["model"]) == ("main", "gpt-4o")
    assert "sk-of-main" not in repr(told.sent)


async def test_of_two_processes_that_find_out_at_once_one_sends_the_alert(told: Told, lines: Lines) -> None:
    other = Told(lines)

    async with sending(told, other):
        told.fail("auth")
        other.fail("auth")
        await anyio.wait_all_tasks_blocked()

    assert [event for event, _ in told.sent + other.sent] == ["deployment.auth_failed"]


async def test_while_the_store_is_away_an_alert_is_sent_rather_twice_than_never(told: Told) -> None:
    class Away(MemoryValues):
        @override
        async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
            raise StoreAwayError

    async with anyio.create_task_group() as group:
        group.start_soon(told.telling.run, Away())
        told.fail("quota")
        await until(lambda: len(told.sent) == 1)
        group.cancel_scope.cancel()


def test_many_calls_that_are_held_back_at_once_open_it_once(told: Told) -> None:
    told.fail("rate_limit", rest_s=5.0)
    told.clock.now_s += 0.1
    told.fail("rate_limit", rest_s=6.0)
    told.fail("auth")

    assert [line["cause"] for line in told.lines()] == ["rate_limit", "auth"]
    assert told.telling.openings == {("main", "rate_limit"): 1, ("main", "auth"): 1}


def test_metrics_name_the_worst_by_the_catalogs_name_and_others_together(told: Told) -> None:
    served = catalog(Model("chat", (MAIN, SPARE)), Model("alias", (MAIN,)))
    told.fail("rate_limit", rest_s=5.0)
    told.fail("failures", rest_s=5.0, of=deployment("main", "named-by-a-client", api_key="sk-of-main"))
    told.fail("failures", rest_s=5.0, of=deployment("gone", "x"))

    assert told.telling.states(served) == {("main", "chat"): 2.0, ("main", "other"): 2.0, ("spare", "chat"): 0.0}
    told.clock.now_s += 6.0
    assert told.telling.states(served) == {("main", "chat"): 0.0, ("main", "other"): 1.0, ("spare", "chat"): 0.0}


def test_circuits_say_what_rests_and_whether_anything_may_be_asked(told: Told) -> None:
    told.book.of(deployment("main", "gpt-4.1", api_key="sk-of-main"))
    told.fail("rate_limit", rest_s=5.0)
    told.fail("quota", of=SPARE)
    told.clock.now_s += 1.0

    served = catalog(Model("chat", (MAIN, SPARE, deployment("third"))))
    circuits = told.telling.circuits(served)

    assert (circuits["main"].state, circuits["main"].available) == ("open", True)
    assert circuits["main"].resting == (Rest("gpt-4o", "rate_limit", 4.0),)
    assert (circuits["spare"].state, circuits["spare"].available) == ("open", False)
    assert circuits["third"] == CLOSED
    told.clock.now_s += 5000.0
    assert told.telling.circuits(served)["spare"].state == "half_open"


def test_what_rests_with_a_key_that_is_no_longer_used_is_not_told(told: Told) -> None:
    told.fail("auth")
    served = catalog(Model("chat", (deployment("main", api_key="the new key"),)))

    assert told.telling.states(served) == {("main", "chat"): 0.0}
    assert told.telling.circuits(served) == {"main": CLOSED}
