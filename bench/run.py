"""The whole benchmark: starts everybody, takes turns, prints one table, keeps the raw results."""

import argparse
import contextlib
import json
import os
import signal
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench import (
    accounting,
    charts,
    gate,
    litellm_proxy,
    machine,
    nginx,
    page,
    portkey,
    report,
    results,
    routing,
    special,
)
from bench.answers import check
from bench.contestants import ROOT, Contestant, Running, mock
from bench.lineup import lineup
from bench.ours import gateway
from bench.scenarios import SCENARIOS, Repetition, Scenario, load, quiet, repeat

CACHE = ROOT / ".cache"
RESULTS = Path(__file__).with_name("results")
DOCUMENT = ROOT / "docs/performance.md"
CHARTS = ROOT / "docs/performance"
# A repetition counts when others used the contestant's core for no more than this part of the time.
MAX_OTHERS_SHARE = 0.05
STARTS, WARM_S = 3, 3.0
READY_LIMIT_S = 30.0
_PROGRAMS = {"nginx": "nginx", "node": "portkey"}
# What a stream of so many events may have more: a role before them, an end and the usage after them.
MORE_EVENTS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often: `extra_rounds` make up for repetitions that others disturbed."""

    duration_s: float
    repetitions: int
    extra_rounds: int

    @property
    def is_quick(self) -> bool:
        """Whether it is only to be seen that all works, however busy the machine is."""
        return self.repetitions == 1

    def lasting(self, scenario: Scenario) -> float:
        """Give the seconds of one repetition."""
        return self.duration_s if self.is_quick else max(self.duration_s, scenario.least_s)


QUICK, DEFAULT, FULL = Plan(1.0, 1, 0), Plan(3.0, 3, 3), Plan(10.0, 5, 5)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured: scenarios in repetitions, and by name those that are measured once."""

    scenarios: Sequence[Scenario]
    specials: Sequence[str]
    routing: bool

    @classmethod
    def of(cls, only: Sequence[str], *, full: bool) -> "Wanted":
        """Take what was named, or the core, or everything.

        Raises:
            ValueError: There is nothing of such a name.
        """
        known = [*(each.name for each in SCENARIOS), *special.NAMES, routing.NAME]
        if unknown := [name for name in only if name not in known]:
            raise ValueError(f"there is no scenario {unknown[0]!r}; there are {', '.join(known)}")
        scenarios = [each for each in SCENARIOS if each.name in only or (not only and (full or not each.in_full))]
        specials = [name for name in special.NAMES if name in only or (not only and (full or name in special.CORE))]
        return cls(scenarios, specials, routing.NAME in only or (full and not only))


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


def start(contestant: Contestant, cores: Cores, upstream_port: int, logs: Path) -> tuple[float, float]:
    """Start and end a contestant; give the seconds from exec until it served, and its megabytes then."""
    running = Running(contestant, cores.contestant, upstream_port, logs)
    resident_mb = accounting.rss_mb(running.pid)
    running.stop()
    return running.start_s, resident_mb


@contextlib.contextmanager
def everybody(
    chosen: Sequence[Contestant], cores: Cores, upstream_port: int, logs: Path
) -> Iterator[dict[str, tuple[Running, Memory]]]:
    """Start the contestants one after the other, check what they answer, and pause them; gives what each takes too."""
    field: dict[str, tuple[Running, Memory]] = {}
    try:
        for contestant in chosen:
            running = Running(contestant, cores.contestant, upstream_port, logs)
            field[contestant.name] = running, Memory(accounting.rss_mb(running.pid))
            say(f"  {contestant.title}: serves after {running.start_s:.2f} s")
            check(running)
            running.pause()
        yield field
    finally:
        for running, _ in field.values():
            running.stop()


async def warm(field: Sequence[Running], duration_s: float) -> None:
    """Put load on everybody before anything counts: compilers and caches that learn while they work have learnt."""
    for running in field:
        running.resume()
        await load(SCENARIOS[0], running, duration_s)
        running.pause()


def plays(scenario: Scenario, running: Running) -> bool:
    """Say whether a scenario means something for a contestant."""
    contestant = running.contestant
    if (scenario.only and contestant.name not in scenario.only) or (
        contestant.only and scenario.name not in contestant.only
    ):
        return False
    if contestant.name == "mock":
        return not scenario.chunks and not scenario.translated and len(scenario.bodies) == 1
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
            if not plan.is_quick:
                await quiet(core)
            running.resume()
            repetition = await repeat(scenario, running, core, plan.lasting(scenario))
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


async def measure(chosen: Sequence[Contestant], cores: Cores, plan: Plan, wanted: Wanted) -> results.Results:
    """Run all scenarios over all contestants."""
    scenarios = wanted.scenarios
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
        with everybody(chosen, cores, provider.port, logs) as started:
            field = {name: running for name, (running, _) in started.items()}
            memory = {name: size for name, (_, size) in started.items()}
            if "gateway" in memory:
                memory["gateway"].idle_mb = before_mb
            for name, running in field.items():
                starts.setdefault(name, []).append(running.start_s)
            await warm(list(field.values()), 0.3 if plan.is_quick else WARM_S)
            say(
                f"measuring: {len(scenarios)} scenarios, {plan.repetitions} repetitions of {plan.duration_s:.0f} s each"
            )
            repetitions: list[Repetition] = []
            for scenario in scenarios:
                takers = [running for running in (provider, *field.values()) if plays(scenario, running)]
                repetitions += await in_turns(scenario, takers, cores, plan)
            for name, running in field.items():
                memory[name].loaded_mb = accounting.rss_mb(running.pid)
            specials = await special.measure(field, provider, wanted.specials, say)
    finally:
        provider.stop()
    figures = results.summarise(repetitions, is_kept, plan.repetitions)
    sizes = {name: (each.idle_mb, each.loaded_mb) for name, each in memory.items()}
    titles = {each.name: each.title for each in chosen}
    return results.Results(machine.describe(), _versions(titles), titles, figures, sizes, starts, repetitions, specials)


def _versions(names: Container[str]) -> dict[str, str]:
    peers = {"litellm": litellm_proxy.VERSION, "portkey": portkey.VERSION}
    found = machine.versions(nginx.find(CACHE)) | {name: each for name, each in peers.items() if name in names}
    return {name: each for name, each in found.items() if name not in {"nginx", "node"} or _PROGRAMS[name] in names}


def main() -> int:
    """Parse the command line, measure, print."""
    given = _arguments()
    if given.gate:
        return gate.main()
    if given.render is not None:
        return show(given.render, in_docs=given.docs)
    plan = FULL if given.full else QUICK if given.quick else DEFAULT
    wanted = Wanted.of(given.only, full=given.full)
    available = sorted(os.sched_getaffinity(0))
    cores = Cores(available[0], available[-1])
    chosen = (
        lineup(set(given.without), CACHE, full=given.full or bool(given.only))
        if wanted.scenarios or wanted.specials
        else []
    )
    os.sched_setaffinity(0, {cores.load})
    # Told to end, it ends like one interrupted: whom it started, paused or not, does not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began_s = time.perf_counter()
    raw = dict[str, object]()
    if chosen:
        raw |= results.raw(uvloop.run(measure(chosen, cores, plan, wanted)))
    if wanted.routing:
        done = uvloop.run(measure_routing(cores, plan))
        raw |= {routing.NAME: routing.render(done, is_kept, plan.repetitions)}
        raw |= {f"{routing.NAME}_repetitions": results.raw_repetitions(done)}
    os.sched_setaffinity(0, available)
    path = keep(raw)
    say(f"Took {time.perf_counter() - began_s:.0f} s. Raw results: {path.relative_to(ROOT)}")
    return show(path, in_docs=given.docs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every scenario, five repetitions of 10 s")
    parser.add_argument("--quick", action="store_true", help="one repetition of 1 s: to see that it works")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave a contestant out")
    parser.add_argument("--only", action="append", default=[], metavar="SCENARIO", help="only these scenarios")
    parser.add_argument("--docs", action="store_true", help="put tables, charts and raw results into docs")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing: show these raw results")
    parser.add_argument("--gate", action="store_true", help="only hold CPU time against its bounds (under a minute)")
    return parser.parse_args()


def show(path: Path, *, in_docs: bool) -> int:
    """Print what a file of raw results says, and write the page; put it into the document where that is wanted."""
    raw = json.loads(path.read_text())
    texts = [raw[routing.NAME]] if routing.NAME in raw else []
    if "figures" in raw:
        measured = results.read(raw)
        drawn = charts.draw(measured)
        texts.insert(0, report.render(measured, drawn if in_docs else {}))
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "report.html").write_text(page.render(measured, drawn))
        if in_docs:
            CHARTS.mkdir(exist_ok=True)
            for name, chart in drawn.items():
                (CHARTS / f"{name}.svg").write_text(chart)
            (CHARTS / "results.json").write_text(path.read_text())
    text = "\n".join(texts)
    say(f"\n{text}")
    if in_docs:
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
    """Write the raw results down; give the file's path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(raw, indent=1))
    return path
