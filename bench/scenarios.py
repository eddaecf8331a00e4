"""What is asked of every contestant, and one repetition of it."""

import asyncio
import time
from dataclasses import dataclass

from bench import payloads
from bench.accounting import Reading, core_busy_s, others_share
from bench.contestants import Running
from bench.load import Load, Measured, Requests

PATH = "/v1/chat/completions"
BY_ITSELF = frozenset({"null"})
WITH_CACHE = frozenset({"gateway", "litellm-cache"})
# So many requests a second are more than these can take on one core: their latency would be the length of a queue.
OVER_100, OVER_1000 = frozenset({"litellm"}), frozenset({"litellm", "portkey"})
# Before a repetition: wait until others leave the core alone, but not for ever.
QUIET_SHARE, QUIET_LOOK_S, QUIET_LIMIT_S = 0.05, 0.2, 20.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load.

    Args:
        bodies: What is asked, in turn.
        connections: In a closed loop, how many requests are always under way.
        rate_per_s: In an open loop, how many arrive a second; `None`: closed loop.
        chunks: Events in one answer; 0 when it is not streamed.
        without: Names of contestants for whom it means nothing.
        only: Names of those for whom alone it means something; empty: everybody.
        provider: Whose wire the provider speaks, as contestants name it.
        least_s: The shortest repetition that says something, unless a quick look is enough.
        in_full: Whether only `--full` and `--only` measure it.
    """

    name: str
    bodies: tuple[bytes, ...]
    connections: int = 16
    rate_per_s: float | None = None
    chunks: int = 0
    without: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    provider: str = "openai"
    least_s: float = 0.0
    in_full: bool = False

    @property
    def translated(self) -> bool:
        """Whether the provider speaks another wire than the client."""
        return self.provider != "openai"

    def requests(self, running: Running) -> Requests:
        """Write its requests as a contestant wants them."""
        return Requests(PATH, self.bodies, running.headers(self.provider))


_SMALL = (payloads.question(payloads.SMALL),)


def _stream(name: str, model: str, connections: int, provider: str = "openai", least_s: float = 0.0) -> Scenario:
    bodies = (payloads.question(model, stream=True),)
    return Scenario(
        name, bodies, connections, chunks=payloads.EVENTS, without=BY_ITSELF, provider=provider, least_s=least_s
    )


SCENARIOS = (
    Scenario("small", _SMALL),
    # A second for each stream: three are too few of them.
    _stream("paced", payloads.PACED, 8, least_s=10.0),
    _stream("burst", payloads.BURST, 4),
    Scenario("hit", (payloads.question(payloads.SMALL, again=True),), only=WITH_CACHE),
    Scenario("translated", (payloads.question(payloads.TRANSLATED),), without=BY_ITSELF, provider="anthropic"),
    _stream("translated_stream", payloads.TRANSLATED_STREAM, 4, "anthropic"),
    Scenario("big", (payloads.question(payloads.SMALL, size_bytes=payloads.BIG_BYTES),), connections=4),
    Scenario("arrivals", _SMALL, rate_per_s=100, without=OVER_100, least_s=10.0),
    Scenario("slow_arrivals", _SMALL, rate_per_s=50, least_s=10.0, in_full=True),
    Scenario("many_arrivals", _SMALL, rate_per_s=1000, without=OVER_1000, in_full=True),
    Scenario("tools", tuple(payloads.tool_loop()), without=BY_ITSELF, in_full=True),
    Scenario("failover", (payloads.question(payloads.FAILOVER),), only=frozenset({"gateway"}), in_full=True),
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


async def load(scenario: Scenario, running: Running, duration_s: float) -> Measured:
    """Put the scenario's load on a contestant.

    Raises:
        RuntimeError: An answer was not 200, or broke off; the message shows its beginning.
    """
    generator = Load(running.port, scenario.requests(running))
    if scenario.rate_per_s is None:
        measured = await generator.closed_loop(scenario.connections, duration_s)
    else:
        measured = await generator.open_loop(scenario.rate_per_s, duration_s)
    if measured.faults:
        who = running.contestant.name
        raise RuntimeError(f"{scenario.name}, {who}: {len(measured.faults)} faults, the first: {measured.faults[0]}")
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
    await load(scenario, running, min(1.0, duration_s / 2))
    before = Reading.of(running.pid, core)
    measured = await load(scenario, running, duration_s)
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
