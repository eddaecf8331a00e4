"""The whole benchmark: starts everybody, takes turns, prints one table, keeps the raw results."""

import argparse
import contextlib
import http.client
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench import accounting, machine, payloads, report, results, routing
from bench.contestants import ROOT, Contestant, Running, gateway, lineup, mock
from bench.scenarios import PATH, SCENARIOS, Repetition, Scenario, quiet, repeat

CACHE = ROOT / ".cache"
RESULTS = Path(__file__).with_name("results")
DOCUMENT = ROOT / "docs/performance.md"
# A repetition counts when others used the contestant's core for no more than this part of the time.
MAX_OTHERS_SHARE = 0.05
STARTS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often: `extra_rounds` make up for repetitions that others disturbed."""

    duration_s: float
    repetitions: int
    extra_rounds: int


QUICK, DEFAULT, FULL = Plan(1.0, 1, 0), Plan(3.0, 3, 3), Plan(10.0, 7, 7)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs the contestants, and which the load and the mock."""

    contestant: int
    load: int


@dataclass(slots=True)
class Memory:
    """Megabytes resident: once it serves, and after all its scenarios."""

    idle_mb: float
    loaded_mb: float = 0.0


def say(text: str) -> None:
    """Print at once, so that a pipe shows how far it is."""
    print(text, flush=True)


def check(running: Running) -> None:
    """Make sure a contestant answers what is asked before its speed is believed.

    Raises:
        RuntimeError: Its answer is not the mock's.
    """
    whole = _ask(running.port, payloads.question(payloads.SMALL))
    if b"ship on Friday" not in whole:
        raise RuntimeError(f"{running.contestant.name} gave another answer than the mock's: {whole[:300]!r}")
    if running.contestant.name == "null":
        return
    events = _ask(running.port, payloads.question(payloads.BURST, stream=True)).count(b"data: {")
    # LiteLLM's proxy may add an event of its own at the end.
    if not payloads.EVENTS <= events <= payloads.EVENTS + 2:
        raise RuntimeError(f"{running.contestant.name} handed on {events} events of {payloads.EVENTS}")


def _ask(port: int, body: bytes) -> bytes:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    link.request("POST", PATH, body, {"content-type": "application/json", "authorization": f"Bearer {payloads.KEY}"})
    answer = link.getresponse().read()
    link.close()
    return answer


def start(contestant: Contestant, cores: Cores, upstream_port: int, logs: Path) -> tuple[float, float]:
    """Start and end a contestant; give the seconds from exec until it served, and its megabytes then."""
    running = Running(contestant, cores.contestant, upstream_port, logs)
    resident_mb = accounting.rss_mb(running.pid)
    running.stop()
    return running.start_s, resident_mb


@contextlib.contextmanager
def everybody(
    chosen: Sequence[Contestant], cores: Cores, upstream_port: int, logs: Path
) -> Iterator[dict[str, Running]]:
    """Start the contestants one after the other, check their answers' contents, and pause them."""
    field: dict[str, Running] = {}
    try:
        for contestant in chosen:
            field[contestant.name] = running = Running(contestant, cores.contestant, upstream_port, logs)
            say(f"  {contestant.title}: serves after {running.start_s:.2f} s")
            running.pause()
        yield field
    finally:
        for running in field.values():
            running.stop()


def plays(scenario: Scenario, running: Running) -> bool:
    """Say whether a scenario means something for a contestant."""
    contestant = running.contestant
    if (scenario.only and contestant.name not in scenario.only) or (
        contestant.only and scenario.name not in contestant.only
    ):
        return False
    if contestant.name == "mock":
        return not scenario.chunks and not scenario.translated
    return contestant.name not in scenario.without and (contestant.translates or not scenario.translated)


def is_kept(repetition: Repetition) -> bool:
    """Say whether a repetition was undisturbed; the mock shares its core with the load, so it always counts."""
    return repetition.contestant == "mock" or repetition.others_share <= MAX_OTHERS_SHARE


async def in_turns(scenario: Scenario, field: Sequence[Running], cores: Cores, plan: Plan) -> list[Repetition]:
    """Measure everybody, then everybody again, until each has enough undisturbed repetitions or the rounds are over."""
    done: list[Repetition] = []
    for _ in range(plan.repetitions + plan.extra_rounds):
        for running in field:
            name = running.contestant.name
            if sum(is_kept(each) for each in done if each.contestant == name) >= plan.repetitions:
                continue
            core = cores.load if name == "mock" else cores.contestant
            await quiet(core)
            running.resume()
            repetition = await repeat(scenario, running, core, plan.duration_s)
            if name != "mock":
                running.pause()
            done.append(repetition)
            say(f"  {scenario.name:14} {name:10} {_one_line(scenario, repetition)}")
    return done


def _one_line(scenario: Scenario, repetition: Repetition) -> str:
    units = scenario.chunks or 1
    unit = "a chunk" if scenario.chunks else "a request"
    note = "" if is_kept(repetition) else f"   thrown away: others used {repetition.others_share:.0%} of its core"
    return f"{repetition.cpu_us / units:10.1f} CPU-us {unit:9} {repetition.per_s:9.1f} answers/s{note}"


async def measure(
    chosen: Sequence[Contestant], cores: Cores, plan: Plan, scenarios: Sequence[Scenario]
) -> results.Results:
    """Run all scenarios over all contestants."""
    logs = CACHE / "bench-run"
    logs.mkdir(parents=True, exist_ok=True)
    provider = Running(mock(), cores.load, 0, logs)
    try:
        say("starting")
        starts = {
            each.name: [start(each, cores, provider.port, logs)[0] for _ in range(STARTS)]
            for each in chosen
            if each.name == "gateway"
        }
        # It loads LiteLLM in the background once its catalog needs it: what it takes before is seen without that.
        _, before_mb = start(gateway(logs / "gateway-relay", translates=False), cores, provider.port, logs)
        with everybody(chosen, cores, provider.port, logs) as field:
            memory = {}
            for name, running in field.items():
                memory[name] = Memory(before_mb if name == "gateway" else accounting.rss_mb(running.pid))
                running.resume()
                check(running)
                running.pause()
                starts.setdefault(name, []).append(running.start_s)
            say(
                f"measuring: {len(scenarios)} scenarios, {plan.repetitions} repetitions of {plan.duration_s:.0f} s each"
            )
            repetitions: list[Repetition] = []
            for scenario in scenarios:
                takers = [running for running in (provider, *field.values()) if plays(scenario, running)]
                repetitions += await in_turns(scenario, takers, cores, plan)
            for name, running in field.items():
                memory[name].loaded_mb = accounting.rss_mb(running.pid)
    finally:
        provider.stop()
    figures = results.summarise(repetitions, is_kept, plan.repetitions)
    sizes = {name: (each.idle_mb, each.loaded_mb) for name, each in memory.items()}
    titles = {each.name: each.title for each in chosen}
    return results.Results(machine.describe(), titles, figures, sizes, starts, repetitions)


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="seven repetitions of 10 s instead of three of 3 s")
    parser.add_argument("--quick", action="store_true", help="one repetition of 1 s: to see that it works")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave a contestant out")
    parser.add_argument("--only", action="append", default=[], metavar="SCENARIO", help="only these scenarios")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/performance.md")
    given = parser.parse_args()
    plan = FULL if given.full else QUICK if given.quick else DEFAULT
    scenarios = [each for each in SCENARIOS if not given.only or each.name in given.only]
    available = sorted(os.sched_getaffinity(0))
    cores = Cores(available[0], available[-1])
    chosen = lineup(set(given.without), CACHE) if scenarios else []
    os.sched_setaffinity(0, {cores.load})
    # Told to end, it ends like one interrupted: whom it started, paused or not, does not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began_s = time.perf_counter()
    texts, raw = [], dict[str, object]()
    if scenarios:
        measured = uvloop.run(measure(chosen, cores, plan, scenarios))
        texts.append(report.render(measured))
        raw |= results.raw(measured)
    if not given.only or routing.NAME in given.only:
        done = uvloop.run(measure_routing(cores, plan))
        texts.append(routing.render(done, is_kept, plan.repetitions))
        raw |= {routing.NAME: results.raw_repetitions(done)}
    os.sched_setaffinity(0, available)
    text = "\n".join(texts)
    say(f"\n{text}\nTook {time.perf_counter() - began_s:.0f} s. Raw results: {keep(raw)}")
    if given.docs:
        report.into_document(DOCUMENT, text)
    return 0


async def measure_routing(cores: Cores, plan: Plan) -> list[Repetition]:
    """Measure this gateway's choices of deployments."""
    say("starting what is routed")
    with routing.started(cores.contestant, cores.load, CACHE / "bench-run") as running:
        return await routing.measure(
            running,
            cores.contestant,
            duration_s=plan.duration_s,
            repetitions=plan.repetitions,
            rounds=plan.repetitions + plan.extra_rounds,
            is_kept=is_kept,
            say=say,
        )


def keep(raw: Mapping[str, object]) -> Path:
    """Write the raw results down; give the file's path from the project's folder."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(raw, indent=1))
    return path.relative_to(ROOT)
