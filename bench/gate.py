"""Says whether a change made the hot path dearer: CPU time as a multiple of a null ASGI app's in the same run.

Absolute times mean nothing on a machine that others use. A ratio holds better, and the least of several, measured in
turns, holds best: what disturbs a repetition makes it dearer and never cheaper.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.answers import check
from bench.contestants import ROOT, Contestant, Running, mock, prototype
from bench.ours import gateway
from bench.report import grid
from bench.scenarios import SCENARIOS, Repetition, repeat

ROUNDS, REPETITION_S = 6, 0.6
YARDSTICK = "small"  # the null app answers the small chat by itself


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one kind of call may take, in requests of the null app.

    Args:
        what: The kind of call.
        scenario: How it is measured.
        usual: What it took when the bound was set.
        allowed: The most, far enough above that other people's work on the machine does not reach it.
    """

    what: str
    scenario: str
    usual: float
    allowed: float


# The one place. Lower them when something became cheaper: `make gate` shows what it takes now.
BOUNDS = (
    Bound("relayed call", "small", 6.0, 9.0),
    Bound("chunk of a stream", "burst", 0.10, 0.17),
    Bound("cache hit", "hit", 4.3, 7.0),
    Bound("translated call", "translated", 9.4, 18.0),
)


def table(least: Mapping[str, float]) -> str:
    """Write what each kind of call took beside its bound, by the scenario's name."""
    rows = [
        [
            bound.what,
            f"{least[bound.scenario]:.2f}",
            f"{bound.usual:.2f}",
            f"{bound.allowed:.2f}",
            "pass" if least[bound.scenario] <= bound.allowed else "**over**",
        ]
        for bound in BOUNDS
    ]
    return grid(["CPU time, in requests of a null ASGI app", "now", "when set", "allowed", ""], rows)


def verdict(least: Mapping[str, float]) -> int:
    """Give the exit code: 1 when something is over its bound."""
    return int(any(least[bound.scenario] > bound.allowed for bound in BOUNDS))


def least_ratios(repetitions: Sequence[Repetition]) -> dict[str, float]:
    """Divide each round's costs by the null app's of the same round; keep the least for each scenario."""
    units = {each.name: each.chunks or 1 for each in SCENARIOS}
    yards = [each.cpu_us for each in repetitions if each.contestant == "null"]
    found = {}
    for bound in BOUNDS:
        ours = [each for each in repetitions if (each.scenario, each.contestant) == (bound.scenario, "gateway")]
        found[bound.scenario] = min(
            each.cpu_us / units[bound.scenario] / yard for each, yard in zip(ours, yards, strict=True)
        )
    return found


async def measure(null: Running, ours: Running, core: int) -> list[Repetition]:
    """Take turns: the null app, then the gateway in each scenario, and again."""
    scenarios = {each.name: each for each in SCENARIOS}
    done = []
    for _ in range(ROUNDS):
        done.append(await repeat(scenarios[YARDSTICK], null, core, REPETITION_S))
        done.extend([await repeat(scenarios[bound.scenario], ours, core, REPETITION_S) for bound in BOUNDS])
    return done


def main() -> int:
    """Measure, print the table, give the exit code."""
    available = sorted(os.sched_getaffinity(0))
    contestant, load = available[0], available[-1]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logs = ROOT / ".cache/gate-run"
    logs.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, {load})
    started: list[Running] = []
    try:
        provider = _start(started, mock(), load, 0, logs)
        null = _start(started, prototype("null", "null ASGI app"), contestant, provider.port, logs)
        ours = _start(started, gateway(logs / "gateway"), contestant, provider.port, logs)
        for running in (null, ours):
            check(running)
        least = least_ratios(uvloop.run(measure(null, ours, contestant)))
    finally:
        for running in reversed(started):
            running.stop()
        os.sched_setaffinity(0, available)
    print(table(least))
    return verdict(least)


def _start(started: list[Running], contestant: Contestant, core: int, upstream_port: int, logs: Path) -> Running:
    started.append(Running(contestant, core, upstream_port, logs))
    return started[-1]
