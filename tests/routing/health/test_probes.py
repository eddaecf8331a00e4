from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from llmgateway.catalog.model import Deployment, Model, Wire
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import UpstreamAuthError, UpstreamError
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Cause, Health
from llmgateway.routing.health.probes import Probes
from llmgateway.upstream.base import Probed
from tests.deployments import deployment
from tests.lines import Lines
from tests.stores.waiting import until

MAIN = deployment("main", probe_s=0.01)


def serving(*deployments: Deployment) -> Catalog:
    accounts = {each.account.name: each.account for each in deployments}
    return Catalog({"chat": Model("chat", deployments), "alias": Model("alias", deployments)}, accounts, "1")


class Scripted:
    """Answers probes as a test says: let in or not, or with an error."""

    def __init__(self) -> None:
        self.verdict: bool | Exception = True
        self.asked: list[str] = []
        self.running = self.most = 0
        self.hangs = False

    async def probe(self, deployment: Deployment) -> bool:
        self.asked.append(deployment.account.name)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.hangs:
                await anyio.sleep_forever()
            if isinstance(self.verdict, Exception):
                raise self.verdict
            return self.verdict
        finally:
            self.running -= 1


class Bench:
    """Probes that look all the time, and what they ask."""

    def __init__(self, lines: Lines) -> None:
        self.book = HealthBook()
        self.scripted = Scripted()
        self.catalog = serving(MAIN)
        upstreams: dict[Wire, Probed] = {"openai": self.scripted}
        self.probes = Probes(
            self.book, lambda: self.catalog, upstreams, lines.logger, answer_within_s=0.05, look_every_s=0.001
        )

    @property
    def health(self) -> Health:
        return self.book.of(MAIN)

    def rest(self, cause: Cause) -> None:
        for _ in range(self.book.policy.failures_in_a_row):
            self.health.failed(self.book.clock(), self.book.clock(), cause, rest_s=60.0)

    def state(self) -> str:
        return self.health.state(self.book.clock())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(self.probes.run)
            yield
            group.cancel_scope.cancel()

    async def asked(self, more: int = 3) -> None:
        """Wait for further probes, the last but one of which has ended."""
        count = len(self.scripted.asked)
        await until(lambda: len(self.scripted.asked) >= count + more)


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture
def bench(lines: Lines) -> Bench:
    return Bench(lines)


@pytest.mark.parametrize("cause", ["failures", "auth"])
async def test_a_good_answer_ends_a_rest_and_the_next_call_decides(bench: Bench, cause: Cause) -> None:
    bench.rest(cause)
    assert bench.state() == "open"

    async with bench.running():
        await until(lambda: bench.state() == "half_open")
        await bench.asked()

    assert bench.state() == "half_open", "a probe closes nothing"


@pytest.mark.parametrize("cause", ["rate_limit", "quota"])
async def test_rests_that_the_provider_asks_for_are_kept(bench: Bench, cause: Cause) -> None:
    bench.rest(cause)

    async with bench.running():
        await bench.asked()

    assert bench.state() == "open"


async def test_an_answer_that_does_not_tell_of_the_key_ends_no_rest_for_it(bench: Bench) -> None:
    bench.scripted.verdict = False
    bench.rest("auth")

    async with bench.running():
        await bench.asked()

    assert bench.state() == "open"


async def test_failing_probes_open_the_circuit_as_failing_calls_do(bench: Bench) -> None:
    bench.scripted.verdict = UpstreamError("no connection")

    async with bench.running():
        await until(lambda: bench.state() == "open")

    assert bench.health.cause == "failures"
    assert len(bench.scripted.asked) >= bench.book.policy.failures_in_a_row


async def test_no_answer_in_time_is_a_failure(bench: Bench) -> None:
    bench.scripted.hangs = True

    async with bench.running():
        await until(lambda: bench.state() == "open")

    assert bench.health.cause == "failures"


async def test_a_refused_key_rests_at_once(bench: Bench) -> None:
    bench.scripted.verdict = UpstreamAuthError("main refuses the key")

    async with bench.running():
        await until(lambda: bench.state() == "open")

    assert bench.health.cause == "auth"


async def test_a_good_answer_says_nothing_of_a_deployment_that_serves_and_hides_no_failures(bench: Bench) -> None:
    bench.health.failed(bench.book.clock(), bench.book.clock(), "failures")

    async with bench.running():
        await bench.asked()

    assert (bench.state(), bench.health.in_a_row) == ("closed", 1)


async def test_who_answers_calls_is_not_asked(bench: Bench) -> None:
    other = deployment("other", probe_s=0.01)
    bench.catalog = serving(replace(MAIN, probe_s=60.0), other)
    bench.health.answered(bench.book.clock(), bench.book.clock(), stream=False)

    async with bench.running():
        await bench.asked()

    assert set(bench.scripted.asked) == {"other"}


async def test_a_changed_catalog_is_followed_and_each_is_asked_once_for_all_its_models(bench: Bench) -> None:
    async with bench.running():
        await bench.asked()
        bench.catalog = serving(deployment("later", probe_s=0.01), deployment("never"))
        await until(lambda: "later" in bench.scripted.asked)
        count = bench.scripted.asked.count("main")
        await bench.asked()

    assert bench.scripted.asked.count("main") == count
    assert "never" not in bench.scripted.asked


async def test_not_all_are_asked_at_once(bench: Bench) -> None:
    bench.scripted.hangs = True
    bench.catalog = serving(*(deployment(f"a{n}", probe_s=0.01) for n in range(30)))

    async with bench.running():
        await until(lambda: len(bench.scripted.asked) > 16)

    assert bench.scripted.most == 8


async def test_who_cannot_be_probed_is_told_once(bench: Bench, lines: Lines) -> None:
    translated = deployment("claude", provider="anthropic", wire="litellm", probe_s=0.01)
    bench.catalog = serving(MAIN, translated, replace(translated, model="other"))

    async with bench.running():
        await bench.asked()
        bench.catalog = serving(MAIN, translated)
        await bench.asked()

    assert set(bench.scripted.asked) == {"main"}
    assert [line["provider"] for line in lines.all() if line["event"] == "probe_impossible"] == ["claude"]
