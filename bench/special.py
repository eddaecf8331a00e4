"""What is measured once and not in repetitions: many idle streams, clients that leave or do not read, two workers."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from typing_extensions import override

from bench import documents, payloads
from bench.accounting import PROC, cpu_s, own_cpu_s, rss_mb, tree
from bench.contestants import Running
from bench.figures import median
from bench.load import Load, Requests
from bench.scenarios import PATH

IDLE_STREAMS, LEAVERS, STALLED = 2000, 2000, 20
_LIMIT_S, _SETTLE_S, _STALLED_S = 120.0, 2.0, 5.0
_ROUNDS, _WARM_S, _ROUND_S, _WORKERS_CONNECTIONS = 3, 1.0, 3.0, 64


@dataclass(frozen=True, slots=True)
class Special:
    """One contestant in one of them: its figures by name, which ends with the unit where there is one."""

    scenario: str
    contestant: str
    figures: Mapping[str, float]


class Listener(asyncio.Protocol):
    """A client of one stream, who tells when the first event is there."""

    def __init__(self, request: bytes, began: Callable[["Listener"], None], *, reads: bool = True) -> None:
        self._request = request
        self._began = began
        self._reads = reads
        self._waits = True
        self.transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        if self._waits and b"data:" in data:
            self._waits = False
            if not self._reads and self.transport is not None:
                self.transport.pause_reading()
            self._began(self)


async def begin(
    running: Running, model: str, count: int, *, reads: bool = True, leaves: bool = False
) -> list[Listener]:
    """Open streams, 50 at a time, and wait for the first event of each.

    Args:
        running: Whom to ask.
        model: What to ask for.
        count: How many streams.
        reads: Whether the client reads on after the first event.
        leaves: Whether the client hangs up after the first event.

    Raises:
        TimeoutError: Some of them have not begun after two minutes.
    """
    loop = asyncio.get_running_loop()
    requests = Requests(PATH, [payloads.question(model, stream=True)], running.headers("openai"))
    room = asyncio.Semaphore(50)
    begun: list[Listener] = []
    whole = asyncio.Event()

    def began(listener: Listener) -> None:
        begun.append(listener)
        room.release()
        if leaves and listener.transport is not None:
            listener.transport.abort()
        if len(begun) == count:
            whole.set()

    async with asyncio.timeout(_LIMIT_S):
        for _ in range(count):
            await room.acquire()
            listener = partial(Listener, requests.next(), began, reads=reads)
            await loop.create_connection(listener, "127.0.0.1", running.port)
        await whole.wait()
    return begun


def hang_up(listeners: Sequence[Listener]) -> None:
    """Let all of them go."""
    for listener in listeners:
        if listener.transport is not None:
            listener.transport.abort()


async def idle_streams(running: Running, _: int) -> Mapping[str, float]:
    """Hold many streams in which nothing happens after the first event; what they take."""
    before_mb = rss_mb(running.pid)
    listeners = await begin(running, payloads.IDLE, IDLE_STREAMS)
    await asyncio.sleep(_SETTLE_S)
    during_mb, before_s = rss_mb(running.pid), cpu_s(running.pid)
    await asyncio.sleep(_SETTLE_S)
    burnt_s = cpu_s(running.pid) - before_s
    hang_up(listeners)
    await asyncio.sleep(_SETTLE_S)
    return {
        "before_mb": before_mb,
        "during_mb": during_mb,
        "kb_a_stream": (during_mb - before_mb) * 1024 / IDLE_STREAMS,
        "cpu_share": burnt_s / _SETTLE_S,
    }


async def leavers(running: Running, upstream_port: int) -> Mapping[str, float]:
    """Let clients hang up after their stream's first event, one after the other; what it costs and leaves behind."""
    before_mb, before_s = rss_mb(running.pid), cpu_s(running.pid)
    await begin(running, payloads.PACED, LEAVERS, leaves=True)
    await asyncio.sleep(_SETTLE_S)
    return {
        "cpu_us_a_leaver": (cpu_s(running.pid) - before_s) / LEAVERS * 1e6,
        "left_open": float(established(upstream_port, sockets_of(running.pid))),
        "grown_mb": rss_mb(running.pid) - before_mb,
    }


async def stalled_readers(running: Running, _: int) -> Mapping[str, float]:
    """Let clients read nothing of streams that never end; how much is kept for each of them."""
    before_mb = rss_mb(running.pid)
    listeners = await begin(running, payloads.FLOOD, STALLED, reads=False)
    await asyncio.sleep(_STALLED_S)
    during_mb = rss_mb(running.pid)
    hang_up(listeners)
    await asyncio.sleep(_SETTLE_S)
    return {"mb_a_reader": (during_mb - before_mb) / STALLED}


ALONE: Mapping[str, Callable[[Running, int], Awaitable[Mapping[str, float]]]] = {
    "idle_streams": idle_streams,
    "leavers": leavers,
    "stalled_readers": stalled_readers,
    "jobs": documents.throughput,
}
WHO: Mapping[str, Sequence[str]] = dict.fromkeys(ALONE, ("gateway", "portkey", "litellm")) | {"jobs": ("plain",)}
NAMES = (*ALONE, "workers")
CORE = ("idle_streams", "workers")


def established(port: int, sockets: Collection[str], table: str | None = None) -> int:
    """Count the connections to a port of this machine that some sockets hold (/proc/net/tcp, proc_net_tcp(5)).

    Args:
        port: Whom they lead to.
        sockets: The inodes of those that count.
        table: The text of /proc/net/tcp; `None` reads it now.
    """
    text = (PROC / "net/tcp").read_text() if table is None else table
    rows = (line.split() for line in text.splitlines()[1:])
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" and row[9] in sockets for row in rows)


def sockets_of(pid: int) -> set[str]:
    """Give the inodes of all sockets that a program and its children hold."""
    found = set()
    for link in (link for member in tree(pid) for link in (PROC / str(member) / "fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


async def measure(
    field: Mapping[str, Running], provider: Running, wanted: Sequence[str], say: Callable[[str], None]
) -> list[Special]:
    """Measure those that are wanted, for everybody who takes part in them."""
    done = []
    for scenario in (name for name in ALONE if name in wanted):
        for name in (name for name in WHO[scenario] if name in field):
            field[name].resume()
            figures = await _tried(ALONE[scenario], field[name], provider.port, say)
            field[name].pause()
            done.append(Special(scenario, name, figures))
            say(f"  {scenario:16} {name:10} {_told(figures)}")
    if "workers" in wanted and {"one-worker", "two-workers"} <= set(field):
        done.append(Special("workers", "two-workers", await workers(field["one-worker"], field["two-workers"])))
        say(f"  {'workers':16} {'':10} {_told(done[-1].figures)}")
    return done


async def _tried(
    measured: Callable[[Running, int], Awaitable[Mapping[str, float]]],
    running: Running,
    upstream_port: int,
    say: Callable[[str], None],
) -> Mapping[str, float]:
    """Measure; who cannot do it has that in the table, and what was measured of others is not lost."""
    try:
        return await measured(running, upstream_port)
    except (TimeoutError, OSError, RuntimeError) as error:
        say(f"  {running.contestant.name} failed: {error!r}")
        return {"failed": 1.0}


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in figures.items())


async def workers(one: Running, two: Running) -> Mapping[str, float]:
    """Compare two worker processes with one, on all cores.

    Returns:
        The ratio of CPU time a request where both have the same connections, and where each of two has as many as the
        one: fewer connections a worker are fewer calls that are written down together. The share of the idler worker.
    """
    ratios, ratios_each, shares = [], [], []
    for running in (one, two):
        free(running)
    for _ in range(_ROUNDS):
        single_us, _ = await _costs(one, _WORKERS_CONNECTIONS)
        double_us, parts = await _costs(two, _WORKERS_CONNECTIONS)
        half_us, _ = await _costs(one, _WORKERS_CONNECTIONS // 2)
        ratios.append(double_us / single_us)
        ratios_each.append(double_us / half_us)
        busiest = sorted(parts, reverse=True)[:2]
        shares.append(min(busiest) / sum(busiest))
    return {"times_one": median(ratios), "times_one_each": median(ratios_each), "least_share": median(shares)}


async def _costs(running: Running, connections: int) -> tuple[float, list[float]]:
    """Give the microseconds a request, and the seconds of each process."""
    running.resume()
    requests = Requests(PATH, [payloads.question(payloads.SMALL)], running.headers("openai"))
    await Load(running.port, requests).closed_loop(connections, _WARM_S)
    before = {pid: own_cpu_s(pid) for pid in tree(running.pid)}
    measured = await Load(running.port, requests).closed_loop(connections, _ROUND_S)
    parts = [own_cpu_s(pid) - begun_s for pid, begun_s in before.items()]
    running.pause()
    if measured.faults:
        raise RuntimeError(f"workers: {measured.faults[0]}")
    return sum(parts) / measured.answered * 1e6, parts


def free(running: Running) -> None:
    """Let a contestant's threads use every core."""
    every = set(range(os.cpu_count() or 1))
    for pid in tree(running.pid):
        for task in Path(PROC / str(pid) / "task").iterdir():
            os.sched_setaffinity(int(task.name), every)
