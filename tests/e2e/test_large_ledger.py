"""The ledger at full size and over full time: small in `make test`, whole in `make test-long` (pitfalls, H and K)."""

import time
from datetime import timedelta
from pathlib import Path

import anyio
import httpx2
import pytest
from anyio import to_thread

from llmgateway.storage.address import Address
from llmgateway.storage.retention import Retention
from llmgateway.storage.storage import Storage
from tests.e2e.test_ledger import Traffic, all_there, catalog_of, postgres, reached, ready, rows_of_server, told
from tests.lines import Lines
from tests.running import NO_TLS
from tests.served import Served, served
from tests.storage.databases import END, START, double, random_entries
from tests.upstreams.server import Player

MIB = 1024**2
FIRST = 2_500
# Rows are doubled so often: 20,000, and 10,240,000.
SIZES = [
    pytest.param(3, id="small", marks=pytest.mark.timeout(90)),
    pytest.param(12, id="whole", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
]
SECONDS = [
    pytest.param(3.0, id="short", marks=pytest.mark.timeout(90)),
    pytest.param(3600.0, id="whole", marks=[pytest.mark.long, pytest.mark.timeout(5400)]),
]


async def filled(folder: Path, doublings: int) -> int:
    """Make a ledger of so many rows in a data folder, and say how many."""
    lines = Lines()
    storage = Storage(None, folder, logger=lines.logger)
    await storage.open()
    await storage.add(random_entries(FIRST, seed=64))
    await storage.close()
    lines.close()
    await double(Address(path=folder / "llmgateway.db"), doublings)
    return FIRST << doublings


def memory_bytes(process_id: int | str = "self") -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * 4096


@pytest.mark.alone
@pytest.mark.parametrize("doublings", SIZES)
async def test_pitfall_064_old_rows_go_in_batches_with_flat_memory(tmp_path: Path, doublings: int) -> None:
    rows, lines = await filled(tmp_path, doublings), Lines()
    storage = Storage(None, tmp_path, logger=lines.logger)
    await storage.open()
    [before] = await storage.usage(START, END, [])
    begun_bytes = most_bytes = memory_bytes()
    over = anyio.Event()

    async def weigh() -> None:
        nonlocal most_bytes
        while not over.is_set():
            most_bytes = max(most_bytes, memory_bytes())
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(weigh)
        deleted = await Retention(storage, 1, lines.logger, pause_s=0, now=lambda: END + timedelta(days=2)).sweep()
        over.set()

    assert before.requests == deleted == rows
    assert most_bytes - begun_bytes < 50 * MIB
    await storage.close()
    lines.close()


async def paced(gateway: Served, path: str, took_s: list[float], over: anyio.Event, *, every_s: float) -> None:
    """Ask from time to time, and note how long each took."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=20, verify=NO_TLS) as client:
        while not over.is_set():
            began = time.perf_counter()
            answer = await (client.get(path) if path == "/health" else client.post(path, json=body))
            took_s.append(time.perf_counter() - began)
            assert answer.status_code == 200
            await anyio.sleep(every_s)


@pytest.mark.alone
@pytest.mark.parametrize("doublings", SIZES)
async def test_pitfall_070_the_widest_questions_hold_up_neither_calls_nor_probes(
    tmp_path: Path, provider: Player, doublings: int
) -> None:
    (tmp_path / "data").mkdir()
    await filled(tmp_path / "data", doublings)
    async with served(tmp_path, catalog_of(provider)) as gateway:
        await ready(gateway)

        async def watched(questions: bool) -> tuple[float, float]:
            calls, probes, over = list[float](), list[float](), anyio.Event()
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(lambda: paced(gateway, "/v1/chat/completions", calls, over, every_s=0.04))
                group.start_soon(lambda: paced(gateway, "/health", probes, over, every_s=0.01))
                await (ask_widely(gateway) if questions else anyio.sleep(2))
                over.set()
            return sorted(calls)[int(len(calls) * 0.99)], sorted(probes)[int(len(probes) * 0.99)]

        await watched(questions=False)  # what only the first calls need is loaded
        quiet, asked = await watched(questions=False), await watched(questions=True)

    for without, beside in zip(quiet, asked, strict=True):
        assert beside < 3 * without + 0.05, (quiet, asked)


async def ask_widely(gateway: Served) -> None:
    """Ask everything of everything, for two seconds at least; a question that takes too long is told to come again."""
    until = time.perf_counter() + 2
    groups = "model,key,organization,provider,day"
    span = {"from": START.isoformat(), "to": END.isoformat(), "group_by": groups}
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=120, verify=NO_TLS) as client:
        while True:
            for path, query in (
                ("/v1/usage", span),
                ("/metrics/costs", {"hours": 720}),
                ("/metrics/trends", {"hours": 720}),
            ):
                answer = await client.get(path, params=query)
                assert answer.status_code in {200, 503}, answer.text
            if time.perf_counter() > until:
                return


@pytest.mark.parametrize("seconds", SECONDS)
async def test_pitfall_084_a_database_that_is_away_for_an_hour_loses_nothing(
    provider: Player, tmp_path: Path, seconds: float
) -> None:
    traffic, over = Traffic(), anyio.Event()
    async with (
        postgres() as (server, settings),
        served(tmp_path, catalog_of(provider), settings=settings) as gateway,
        anyio.create_task_group() as group,
    ):

        async def ask() -> None:
            await traffic.run(gateway, over.is_set, pace_s=0.2)

        await ready(gateway)
        group.start_soon(ask)
        await reached(traffic, 100)
        await to_thread.run_sync(server.stop)
        await anyio.sleep(seconds)
        waited = len(traffic.finished)
        await to_thread.run_sync(server.start)
        await reached(traffic, waited + 100)
        over.set()

        await all_there(traffic, rows_of_server(server))
        assert traffic.failed == 0
        assert waited > 100 + 16 * seconds / 1.0
        events = await told(gateway, "ledger_database_back")
        assert (events["ledger_database_away"], events["ledger_database_back"]) == (1, 1)
        assert memory_bytes(gateway.process_id) < 300 * MIB
