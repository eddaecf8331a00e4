"""What several workers cost, and how evenly they share what comes (issue 7; the goals of docs/performance.md)."""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import psutil
import pytest

from bench.load import Load, Requests
from llmgateway.telemetry.metrics.figures import Figures
from tests.served import Served, served
from tests.upstreams.openai_wire import OpenAIWire

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
PATH = "/v1/chat/completions"
BODY = b'{"model":"chat","messages":[{"role":"user","content":"hi there"}]}'
EACH = 16
ROUNDS, ROUND_S = 5, 1.0


@asynccontextmanager
async def quick_provider(delay_ms: float = 40) -> AsyncIterator[str]:
    """The benchmark's provider: lean, and no load for this process. Its base address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bench.mock", "--port", str(port), "--delay-ms", str(delay_ms)]
    async with await anyio.open_process(command, cwd=ROOT, stdout=None, stderr=None) as child:
        try:
            with anyio.fail_after(20):
                while not await is_open(port):  # noqa: ASYNC110  another process opens it
                    await anyio.sleep(0.05)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            child.terminate()


async def is_open(port: int) -> bool:
    try:
        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


@asynccontextmanager
async def with_workers(folder: Path, provider: str, count: int) -> AsyncIterator[Served]:
    await anyio.Path(folder).mkdir()
    catalog = f"""
providers: {{main: {{provider: openai, api_key: {OpenAIWire().key}, api_base: "{provider}"}}}}
models: [{{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}]
"""
    async with served(folder, catalog, settings={"workers": count}) as gateway:
        with anyio.fail_after(20):
            while len(serving(gateway)) < count:  # noqa: ASYNC110  it starts them
                await anyio.sleep(0.05)
        yield gateway


def serving(gateway: Served) -> list[psutil.Process]:
    """The processes that answer: the only one, or those that listen beside the one that started them."""
    whole = psutil.Process(gateway.process_id)
    started = [child for child in whole.children() if "spawn_main" in " ".join(child.cmdline())]
    return [one for one in started if any(file.path.endswith("connections") for file in one.open_files())] or (
        [whole] if not started else []
    )


def cpu_s(processes: list[psutil.Process]) -> list[float]:
    """CPU seconds of each, to the nanosecond: /proc/PID/stat counts hundredths of a second only."""
    tasks = ([*Path(f"/proc/{one.pid}/task").glob("*/schedstat")] for one in processes)
    return [sum(int(task.read_text().split()[0]) for task in each) / 1e9 for each in tasks]


async def cost_s(gateway: Served, connections: int) -> float:
    """CPU seconds of one answer, all processes that serve taken together."""
    processes = serving(gateway)
    before = sum(cpu_s(processes))
    measured = await Load(port_of(gateway), Requests(PATH, [BODY])).closed_loop(connections, ROUND_S)
    assert not measured.faults
    return (sum(cpu_s(processes)) - before) / measured.answered


def port_of(gateway: Served) -> int:
    return int(gateway.url.rpartition(":")[2])


@pytest.mark.timeout(120)
async def test_a_request_costs_two_workers_no_more_than_one(tmp_path: Path) -> None:
    async with (
        quick_provider() as provider,
        with_workers(tmp_path / "one", provider, 1) as one,
        with_workers(tmp_path / "two", provider, 2) as two,
    ):
        await cost_s(one, EACH)
        await cost_s(two, 2 * EACH)
        costs_s = [(await cost_s(one, EACH), await cost_s(two, 2 * EACH)) for _ in range(ROUNDS)]

        assert min(of_two_s / of_one_s for of_one_s, of_two_s in costs_s) < 1.1, costs_s


@pytest.mark.timeout(120)
async def test_two_workers_share_connections_and_requests(tmp_path: Path) -> None:
    async with quick_provider() as provider, with_workers(tmp_path / "two", provider, 2) as gateway:
        for connections in (64, 200):
            early = answered_by_each(tmp_path)
            before = sum(early)
            measured = await Load(port_of(gateway), Requests(PATH, [BODY])).closed_loop(connections, 1.5)
            with anyio.fail_after(30):
                while sum(answered_by_each(tmp_path)) < before + measured.answered:  # noqa: ASYNC110  files tell it
                    await anyio.sleep(0.1)
            shares = [late - early for early, late in zip(early or [0, 0], answered_by_each(tmp_path), strict=True)]

            assert not measured.faults
            assert min(shares) >= 0.4 * sum(shares), (connections, shares)


def answered_by_each(folder: Path) -> list[int]:
    """How many calls each worker has counted, as they tell each other from time to time."""
    told = sorted(folder.glob("two/data/workers/*/*.metrics"))
    counted = (msgspec.msgpack.decode(file.read_bytes(), type=Figures).counters for file in told)
    return [int(sum(each.get("llm_requests_total", {}).values())) for each in counted]
