"""Upstreams that die while many clients ask, and clients that never notice (real processes, OpenAI's own SDK)."""

import asyncio
import itertools
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pytest

from tests.e2e.apart import Apart, apart
from tests.e2e.asking import Asked, Crowd, faults, percentile_s
from tests.served import Served, served
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Request, Step

pytestmark = pytest.mark.timeout(90)

STRATEGIES = ("weighted", "round_robin", "least_busy")
# The setting's default: who waits for a connection waits so long.
CONNECT_TIMEOUT_S = 5.0
NAMES = ("one", "two", "three")
BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
MIB = 1024 * 1024


class Mortal:
    """A provider that dies in one of several ways and comes to life again at the same place."""

    def __init__(self) -> None:
        # Bound and never listening, it keeps the port from all others while nobody plays there.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self.player = Player(OpenAIWire(), port=self.port)
        self._plays = False
        self._full: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        await self.live()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()
        self._place.close()

    async def live(self) -> None:
        """Answer as it should, from now on."""
        self._unblock()
        if not self._plays:
            self.player = Player(OpenAIWire(), port=self.port)
            await self.player.__aenter__()
            self._plays = True
        self.player.always(None)

    async def refuse(self) -> None:
        """Nobody listens any more, and all connections end."""
        await self._leave()

    async def drop(self) -> None:
        """Let nobody connect: a queue that is full answers no SYN, as a firewall that drops packets."""
        await self._leave()
        self._place.listen(0)
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))
            self._full.append(waiting)

    async def hang(self) -> None:
        """Accept, and never answer."""
        self.player.always(_never)

    async def hang_for_calls(self) -> None:
        """Answer whoever asks whether it lives, and no call."""
        self.player.always(lambda step: _never(step) if step.status == 200 else step)

    async def fail(self) -> None:
        self.player.always(OpenAIWire().error(500, "The server had an error"))

    def requests_since(self, moment: float) -> list[Request]:
        return [one for one in self.player.requests if one.at >= moment and one.method == "POST"]

    async def _leave(self) -> None:
        self._unblock()
        if self._plays:
            self._plays = False
            await self.player.__aexit__(None, None, None)

    def _unblock(self) -> None:
        if self._full:
            for one in (*self._full, self._place):
                one.close()
            self._full.clear()
            self._place = socket.socket()
            self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._place.bind(("127.0.0.1", self.port))


def _never(step: Step) -> Step:
    return step.delayed(600)


DEATHS = {
    "refusing": Mortal.refuse,
    "unreachable": Mortal.drop,
    "hanging": Mortal.hang,
    "hanging though its probes are answered": Mortal.hang_for_calls,
    "answering 500": Mortal.fail,
}


def catalog_of(bases: Sequence[str], *, provider: str = "openai", key: str = "sk-upstream", model: str = "") -> str:
    """One model at several accounts."""
    accounts = "\n".join(
        f'  {name}: {{provider: {provider}, api_key: {key}, api_base: "{base}"}}'
        for name, base in zip(NAMES, bases, strict=True)
    )
    deployments = ", ".join(f"{{provider: {name}, model: large, probe: {{interval_s: 0.5}}}}" for name in NAMES)
    return f"providers:\n{accounts}\nmodels:\n  - {{name: chat, {model} deployments: [{deployments}]}}\n"


@asynccontextmanager
async def crowd_at(url: str, *, words: str = "yes", strategies: Sequence[str] = STRATEGIES) -> AsyncIterator[Crowd]:
    crowd = Crowd(url, words=words, strategies=strategies)
    try:
        yield crowd
    finally:
        await crowd.close()


@pytest.mark.parametrize("death", DEATHS)
async def test_no_call_fails_while_one_of_three_is_dead(death: str, tmp_path: Path) -> None:
    await outage(tmp_path, death, times=1000, strategies=STRATEGIES)


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("death", DEATHS)
async def test_no_call_of_ten_thousand_fails_while_one_of_three_is_dead(
    death: str, strategy: str, tmp_path: Path
) -> None:
    await outage(tmp_path, death, times=10_000, strategies=(strategy,))


async def outage(folder: Path, death: str, *, times: int, strategies: Sequence[str]) -> None:
    """Ask while all are well, while one is dead, and when it lives again."""
    async with AsyncExitStack() as stack:
        three = [await stack.enter_async_context(Mortal()) for _ in NAMES]
        gateway = await stack.enter_async_context(served(folder, catalog_of([one.player.base for one in three])))
        crowd = await stack.enter_async_context(crowd_at(gateway.url, strategies=strategies))
        await crowd.ask(100)
        well = await crowd.ask(max(500, times // 3))
        await DEATHS[death](three[1])

        asked = await crowd.ask(times)

        assert faults(crowd.asked) == []
        assert max(one.took_s for one in asked) < CONNECT_TIMEOUT_S
        later = asked[max(300, times // 5) :]
        # Who finds out whether it is back is asked for beside it; everybody else never meets it.
        assert sum(one.attempts > 1 for one in later) <= len(later) // 100
        assert percentile_s(later, 99) < 3 * percentile_s(well, 99), summary(well, asked, later)
        await comes_back(crowd, three)


async def comes_back(crowd: Crowd, three: Sequence[Mortal]) -> None:
    """The second one lives again: it gets calls soon, and not all at once."""
    began = time.perf_counter()
    await three[1].live()

    def first_at() -> float | None:
        found = three[1].requests_since(began)
        return found[0].at if found else None

    await crowd.ask_while(lambda: (at := first_at()) is None or time.perf_counter() < at + 1.0, within_s=15)

    at = first_at()
    assert faults(crowd.asked) == []
    assert at is not None
    assert at - began < 10
    counts = [sum(request.at < at + 1.0 for request in one.requests_since(at)) for one in three]
    # Its share grows from a tenth of a third; in the first second it is a quarter of a third.
    assert counts[1] <= 2 + sum(counts) / 6, counts


def summary(*groups: Sequence[Asked]) -> str:
    return ", ".join(f"p50 {percentile_s(one, 50):.3f} p99 {percentile_s(one, 99):.3f}" for one in groups)


@asynccontextmanager
async def three_apart(folder: Path) -> AsyncIterator[tuple[Crowd, list[Apart]]]:
    """Three providers in processes of their own, and a model whose streams go on when one of them dies."""
    async with AsyncExitStack() as stack:
        three = [await stack.enter_async_context(apart()) for _ in NAMES]
        catalog = catalog_of(
            [one.base for one in three], provider="mistral", key="mistral-upstream", model="rescue: true,"
        )
        gateway = await stack.enter_async_context(served(folder, catalog, settings={"stream_idle_timeout_s": 1}))
        yield await stack.enter_async_context(crowd_at(gateway.url, words="one two three four")), three


async def test_upstreams_that_are_killed_and_started_again_under_load_fail_nobody(tmp_path: Path) -> None:
    async def die(upstream: Apart) -> None:
        await upstream.kill()

    async def live(upstream: Apart) -> None:
        await upstream.start()

    asked = await one_after_the_other(tmp_path, die, live)

    assert faults(asked) == []
    assert sum(one.attempts > 1 for one in asked) > 0, "some were under way"


async def test_upstreams_that_are_stopped_with_open_connections_fail_nobody(tmp_path: Path) -> None:
    async def die(upstream: Apart) -> None:
        upstream.signal(signal.SIGSTOP)

    async def live(upstream: Apart) -> None:
        upstream.signal(signal.SIGCONT)

    asked = await one_after_the_other(tmp_path, die, live)

    assert faults(asked) == []
    assert max(one.took_s for one in asked) < CONNECT_TIMEOUT_S
    assert sum(one.attempts > 1 for one in asked) > 0, "some were under way"


async def one_after_the_other(
    folder: Path, die: Callable[[Apart], Awaitable[None]], live: Callable[[Apart], Awaitable[None]]
) -> list[Asked]:
    """Let each of three die and live again while many ask; no call meets two deaths, and some meet each."""
    async with three_apart(folder) as (crowd, three), asyncio.TaskGroup() as group:
        over = asyncio.Event()
        asking = group.create_task(crowd.ask_while(lambda: not over.is_set(), within_s=60))
        for name, upstream in zip(NAMES, three, strict=True):
            await crowd.until(answers_of(crowd, name, 20))
            await die(upstream)
            others = [other for other in NAMES if other != name]
            await crowd.until_ended()
            for other in others:
                await crowd.until(answers_of(crowd, other, 40))
            await live(upstream)
            await crowd.until_ended()
        await crowd.until(answers_of(crowd, NAMES[-1], 20))
        over.set()
        return await asking


def answers_of(crowd: Crowd, provider: str, count: int) -> Callable[[], bool]:
    """Whether a provider has given so many answers more than it has by now."""
    before = len(crowd.asked)
    return lambda: sum(one.provider == provider for one in crowd.asked[before:]) >= count


@pytest.mark.alone
async def test_pitfall_058_a_provider_that_asks_for_a_pause_under_load_gets_it(tmp_path: Path) -> None:
    """One call is told so; of all that come in the next two seconds none is sent there."""
    async with AsyncExitStack() as stack:
        three = [await stack.enter_async_context(Player(OpenAIWire())) for _ in NAMES]
        gateway = await stack.enter_async_context(served(tmp_path, catalog_of([one.base for one in three])))
        crowd = await stack.enter_async_context(crowd_at(gateway.url))
        limited = three[0]
        limited.script(OpenAIWire().error(429, "Rate limit reached", retry_after="2"))
        first = await crowd.one(stream=True, headers={"X-Route-Strategy": "priority"})

        await crowd.ask_while(lambda: len(calls_of(limited)) < 2)

        assert (first.fault, first.attempts) == (None, 2)
        assert faults(crowd.asked) == []
        told, again = calls_of(limited)[:2]
        assert 2.0 <= again.at - told.at < 4.0


def calls_of(player: Player) -> list[Request]:
    return [one for one in player.requests if one.method == "POST"]


@pytest.mark.timeout(180)
async def test_pitfall_063_three_providers_that_answer_429_under_load_leave_no_crumbs(tmp_path: Path) -> None:
    """Each refusal is an attempt, an error, a rest and a retry; none of them stays."""
    settings = {"retry__max_retries": 1, "retry__min_delay_s": 0.001, "retry__max_delay_s": 0.002}
    async with AsyncExitStack() as stack:
        three = [await stack.enter_async_context(Player(OpenAIWire())) for _ in NAMES]
        for player in three:
            player.always(OpenAIWire().error(429, "slow down " * 200).with_headers(retry_after_ms="2"))
        catalog = catalog_of([one.base for one in three])
        gateway = await stack.enter_async_context(served(tmp_path, catalog, settings=settings, measured=False))

        async def ask(times: int) -> None:
            for _ in range(times):
                answer = await gateway.client.post("/v1/chat/completions", json=BODY)
                assert answer.status_code == 429

        await asyncio.gather(*(ask(20) for _ in range(8)))
        held = [memory_bytes(gateway)]
        for _ in range(4):
            await asyncio.gather(*(ask(25) for _ in range(8)))
            held.append(memory_bytes(gateway))

        assert all(calls_of(player) for player in three)
        growth = [after - before for before, after in itertools.pairwise(held)]
        # What 200 refusals leave is left each time; the rings that fill, and the allocator, take theirs once.
        assert min(growth) < 2 * MIB, held


def memory_bytes(gateway: Served) -> int:
    return int(psutil.Process(gateway.process_id).memory_info().rss)
