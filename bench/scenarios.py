"""What is asked of every contestant, and one repetition of it."""

import asyncio
import time
from dataclasses import dataclass

from bench import payloads
from bench.accounting import Reading, core_busy_s, others_share
from bench.contestants import Running
from bench.load import Load, Measured, post

PATH = "/v1/chat/completions"
BY_ITSELF = frozenset({"null"})
WITH_CACHE = frozenset({"gateway", "protected", "litellm-cache"})
# A thousand requests a second are more than LiteLLM's proxy can take on one core.
OVERWHELMED = frozenset({"litellm"})
# Before a repetition: wait until others leave the core alone, but not for ever.
QUIET_SHARE, QUIET_LOOK_S, QUIET_LIMIT_S = 0.05, 0.2, 20.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load.

    Args:
        request: The whole HTTP request.
        connections: In a closed loop, how many requests are always under way.
        rate_per_s: In an open loop, how many arrive a second; `None`: closed loop.
        chunks: Events in one answer; 0 when it is not streamed.
        without: Names of contestants for whom it means nothing.
        only: Names of those for whom alone it means something; empty: everybody.
    """

    name: str
    request: bytes
    connections: int = 16
    rate_per_s: float | None = None
    chunks: int = 0
    without: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    translated: bool = False


SCENARIOS = (
    Scenario("small", post(PATH, payloads.question(payloads.SMALL))),
    Scenario(
        "paced",
        post(PATH, payloads.question(payloads.PACED, stream=True)),
        connections=8,
        chunks=payloads.EVENTS,
        without=BY_ITSELF,
    ),
    Scenario(
        "burst",
        post(PATH, payloads.question(payloads.BURST, stream=True)),
        connections=4,
        chunks=payloads.EVENTS,
        without=BY_ITSELF,
    ),
    Scenario("big", post(PATH, payloads.question(payloads.SMALL, size_bytes=payloads.BIG_BYTES)), connections=4),
    Scenario("slow_arrivals", post(PATH, payloads.question(payloads.SMALL)), rate_per_s=50),
    Scenario("arrivals", post(PATH, payloads.question(payloads.SMALL)), rate_per_s=1000, without=OVERWHELMED),
    Scenario("hit", post(PATH, payloads.question(payloads.SMALL, may_be_kept=True)), only=WITH_CACHE),
    Scenario("translated", post(PATH, payloads.question(payloads.TRANSLATED)), translated=True),
)


@dataclass(frozen=True, slots=True)
class Repetition:
    """One measurement. `cpu_us` is per request; `others_share` the part of the time something else used the core."""

    scenario: str
    contestant: str
    answered: int
    elapsed_s: float
    cpu_s: float
    others_share: float
    latencies_s: list[float]
    chunk_delays_s: list[float]

    @property
    def cpu_us(self) -> float:
        """Give the contestant's CPU time per request, in microseconds."""
        return self.cpu_s / self.answered * 1e6

    @property
    def per_s(self) -> float:
        """Give answers a second."""
        return self.answered / self.elapsed_s


async def load(scenario: Scenario, port: int, duration_s: float) -> Measured:
    """Put the scenario's load on a port.

    Raises:
        RuntimeError: An answer was not 200, or broke off; the message shows its beginning.
    """
    generator = Load(port, scenario.request)
    if scenario.rate_per_s is None:
        measured = await generator.closed_loop(scenario.connections, duration_s)
    else:
        measured = await generator.open_loop(scenario.rate_per_s, duration_s)
    if measured.faults:
        raise RuntimeError(f"{scenario.name}: {len(measured.faults)} faults, the first: {measured.faults[0]}")
    return measured


async def quiet(core: int) -> None:
    """Wait until a core is idle; measure anyway when it is not after a while."""
    gives_up_s = time.perf_counter() + QUIET_LIMIT_S
    while time.perf_counter() < gives_up_s:
        before_s = core_busy_s(core)
        await asyncio.sleep(QUIET_LOOK_S)
        if core_busy_s(core) - before_s <= QUIET_SHARE * QUIET_LOOK_S:
            return


async def repeat(scenario: Scenario, running: Running, core: int, duration_s: float) -> Repetition:
    """Warm up, then measure once.

    Raises:
        RuntimeError: An answer was not 200, or broke off.
    """
    await load(scenario, running.port, min(1.0, duration_s / 2))
    before = Reading.of(running.pid, core)
    measured = await load(scenario, running.port, duration_s)
    after = Reading.of(running.pid, core)
    return Repetition(
        scenario=scenario.name,
        contestant=running.contestant.name,
        answered=measured.answered,
        elapsed_s=measured.elapsed_s,
        cpu_s=after.own_s - before.own_s,
        others_share=others_share(before, after, measured.elapsed_s),
        latencies_s=measured.latencies_s,
        chunk_delays_s=measured.chunk_delays_s,
    )
