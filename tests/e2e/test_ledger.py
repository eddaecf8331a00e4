"""What a client saw finished is in the ledger once, whatever dies: the gateway, the database, both."""

import itertools
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import asyncpg  # type: ignore[import-untyped]
import httpx2
import pytest
from anyio import to_thread

from tests.served import Served, served
from tests.services import Server, postgres_server
from tests.upstreams.server import Player

pytestmark = pytest.mark.timeout(120)

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
AT_ONCE = 16
Rows = Callable[[], Awaitable[list[str]]]


@dataclass
class Traffic:
    """Clients that ask again and again; every third request is a stream.

    Args:
        finished: The ids of what they saw finished.
        durations_s: How long those took.
    """

    finished: list[str] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    failed: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def ask(self, client: httpx2.AsyncClient) -> None:
        stream = next(self._numbers) % 3 == 0
        started = time.perf_counter()
        try:
            answer = await client.post("/v1/chat/completions", json=CHAT | {"stream": stream})
        except httpx2.TransportError:
            self.failed += 1
            return
        assert answer.status_code == 200, answer.text
        assert not stream or answer.text.endswith("data: [DONE]\n\n")
        self.durations_s.append(time.perf_counter() - started)
        self.finished.append(answer.headers["x-gateway-request-id"])

    async def run(self, gateway: Served, until: Callable[[], bool], *, pace_s: float = 0.0) -> None:
        """Ask, many at once, until told to end or nobody answers any more."""
        before = self.failed

        async def client() -> None:
            while not until() and self.failed == before:
                await self.ask(gateway.client)
                await anyio.sleep(pace_s)

        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(client)

    def p99_s(self, start: int, end: int | None = None) -> float:
        durations_s = sorted(self.durations_s[start:end])
        return durations_s[int(len(durations_s) * 0.99)]


def catalog_of(provider: Player) -> str:
    return f"""
providers: {{main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}"}}}}
models: [{{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}]
"""


def rows_of_file(folder: Path) -> Rows:
    def read() -> list[str]:
        with closing(sqlite3.connect(folder / "data" / "llmgateway.db")) as database:
            # The tables are made while the gateway serves already.
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'ledger'").fetchone():
                return []
            return [row[0] for row in database.execute("SELECT id FROM ledger")]

    async def rows() -> list[str]:
        return await to_thread.run_sync(read)

    return rows


def rows_of_server(server: Server) -> Rows:
    async def rows() -> list[str]:
        connection = await asyncpg.connect(server.url)
        try:
            if not await connection.fetchval("SELECT to_regclass('ledger') IS NOT NULL"):
                return []
            return [row["id"] for row in await connection.fetch("SELECT id FROM ledger")]
        finally:
            await connection.close()

    return rows


async def all_there(traffic: Traffic, rows: Rows) -> None:
    """Wait until each finished request is in the ledger, and see that it is there once."""
    found: list[str] = []
    with anyio.move_on_after(20):
        while not set(traffic.finished) <= set(found):
            await anyio.sleep(0.1)
            found = await rows()

    assert set(traffic.finished) - set(found) == set()
    assert max(Counter(found).values()) == 1


async def reached(traffic: Traffic, goal: int) -> None:
    """Let so many requests finish."""
    with anyio.fail_after(40):
        while len(traffic.finished) < goal:  # noqa: ASYNC110  the count is the event
            await anyio.sleep(0.001)


async def kill_and_restart(folder: Path, provider: Player, settings: dict[str, object], rows: Rows) -> None:
    """Kill the gateway twice among a thousand requests, and look at what is in the books."""
    traffic = Traffic()
    for goal in (330, 660):
        async with (
            served(folder, catalog_of(provider), settings=settings, first=True, measured=False) as gateway,
            anyio.create_task_group() as group,
        ):
            group.start_soon(traffic.run, gateway, lambda: False)
            await reached(traffic, goal)
            gateway.signal(signal.SIGKILL)
            await gateway.ended(within_s=5)
    async with served(folder, catalog_of(provider), settings=settings) as gateway:
        await traffic.run(gateway, lambda: len(traffic.finished) >= 1000)

        assert traffic.failed > 0
        await all_there(traffic, rows)
        await told(gateway, "journal_adopted")  # the rows may be there a moment before the line is
        assert not list((folder / "data" / "journal").glob("*.broken"))


async def test_a_gateway_killed_among_a_thousand_requests_loses_none_that_a_client_saw_finished(
    provider: Player, tmp_path: Path
) -> None:
    await kill_and_restart(tmp_path, provider, {}, rows_of_file(tmp_path))


@asynccontextmanager
async def postgres() -> AsyncIterator[tuple[Server, dict[str, object]]]:
    """A server, and the settings of a gateway that uses it."""
    with postgres_server() as server:
        key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="  # of no worth: 32 digits in base64
        yield server, {"database_url": server.url, "encryption_keys": key}


async def test_a_gateway_killed_with_postgresql_loses_none_either(provider: Player, tmp_path: Path) -> None:
    async with postgres() as (server, settings):
        await kill_and_restart(tmp_path, provider, settings, rows_of_server(server))


@pytest.mark.alone
async def test_pitfall_084_requests_do_not_feel_that_the_database_stops_and_starts(
    provider: Player, tmp_path: Path
) -> None:
    traffic, over = Traffic(), anyio.Event()
    async with (
        postgres() as (server, settings),
        served(tmp_path, catalog_of(provider), settings=settings) as gateway,
        anyio.create_task_group() as group,
    ):

        async def ask() -> None:
            await traffic.run(gateway, over.is_set, pace_s=0.02)

        await ready(gateway)  # before that entries wait for the first time, which is no outage
        group.start_soon(ask)
        await reached(traffic, len(traffic.finished) + 600)
        before = len(traffic.finished)
        await to_thread.run_sync(server.stop)
        stopped = len(traffic.finished)
        await reached(traffic, len(traffic.finished) + 1500)
        away = len(traffic.finished)
        await to_thread.run_sync(server.start)
        await reached(traffic, len(traffic.finished) + 300)
        over.set()

        await all_there(traffic, rows_of_server(server))
        events = await told(gateway, "ledger_database_back")
        assert traffic.failed == 0
        # Five milliseconds are within the noise of client, provider and gateway on the same cores.
        assert traffic.p99_s(stopped, away) < 3 * traffic.p99_s(100, before) + 0.005
        assert (events["ledger_database_away"], events["ledger_database_back"]) == (1, 1)
        assert (await gateway.client.get("/health/ready")).status_code == 200


async def ready(gateway: Served) -> None:
    """Wait until the database was reached."""
    with anyio.fail_after(20):
        while (await gateway.client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110  the probe is the event
            await anyio.sleep(0.05)


async def told(gateway: Served, event: str) -> Counter[str]:
    """Wait for a log line, and count them all."""
    events: Counter[str] = Counter()
    with anyio.move_on_after(20):
        while (events := Counter(line["event"] for line in gateway.logs()))[event] == 0:  # noqa: ASYNC110  the line is the event
            await anyio.sleep(0.05)
    assert events[event], [line for line in gateway.logs() if line["event"] != "llm_request_complete"][-20:]
    return events


async def test_two_workers_share_the_journals_folder(provider: Player, tmp_path: Path) -> None:
    traffic = Traffic()
    async with served(tmp_path, catalog_of(provider), settings={"workers": 2}) as gateway:
        await traffic.run(gateway, lambda: len(traffic.finished) >= 300)
        await all_there(traffic, rows_of_file(tmp_path))

        assert not [line for line in gateway.logs() if line["event"].startswith("journal_")]


async def test_an_orderly_end_leaves_nothing_in_the_journal(provider: Player, tmp_path: Path) -> None:
    traffic = Traffic()
    async with served(tmp_path, catalog_of(provider)) as gateway:
        await traffic.run(gateway, lambda: len(traffic.finished) >= 50)
        await all_there(traffic, rows_of_file(tmp_path))  # the database is there now
        await traffic.run(gateway, lambda: len(traffic.finished) >= 100)
        gateway.signal(signal.SIGTERM)
        await gateway.ended(within_s=10)

    assert list((tmp_path / "data" / "journal").iterdir()) == []
    assert sorted(traffic.finished) == sorted(await rows_of_file(tmp_path)())
