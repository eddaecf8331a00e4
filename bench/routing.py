"""What choosing a deployment costs, and what a good choice is worth: this gateway alone, before mocks of its own."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bench import payloads
from bench.budgets import Budget
from bench.contestants import Contestant, Running, mock
from bench.ours import plain
from bench.report import grid, promises
from bench.results import Figure, summarise
from bench.scenarios import Repetition, Scenario, quiet, repeat

NAME = "routing"
# Three deployments, of which the last one is slow; so few arrivals that none of them would be busy with its share.
USUAL_MS, SLOW_MS, ARRIVALS_PER_S = 10.0, 200.0, 200.0
BESIDE = ("round_robin", "least_busy")
COUNTS = (1, 10, 100)
CHOOSING = ("round_robin", "least_busy", "balanced")
# Microseconds: what choosing may cost, by how many there are to choose from, and a relayed request with all around it.
ALLOWED_US: Mapping[int, float] = {10: 8.0, 100: 40.0}
REQUEST_US = 202.0


def _slow(strategy: str) -> str:
    return f"slow-{strategy}"


def _among(count: int, strategy: str) -> str:
    return f"{count}-{strategy}"


def _scenario(name: str, rate_per_s: float | None = None) -> Scenario:
    return Scenario(name, (payloads.question(name),), rate_per_s=rate_per_s)


# Each is the name of a model as well.
SCENARIOS = (
    *(_scenario(_slow(strategy), ARRIVALS_PER_S) for strategy in BESIDE),
    *(_scenario(_among(count, strategy)) for strategy in CHOOSING for count in COUNTS),
)


def catalog(fast_port: int, usual_port: int, slow_port: int) -> dict[str, object]:
    """Make a model for each scenario."""
    ports = {"fast": fast_port, "one": usual_port, "two": usual_port, "slow": slow_port}
    accounts = {
        name: {"provider": "openai", "api_key": "${BENCH_KEY}", "api_base": f"http://127.0.0.1:{port}/v1"}
        for name, port in ports.items()
    }
    three = [{"provider": name, "model": payloads.SMALL} for name in ("one", "two", "slow")]
    models = [{"name": _slow(strategy), "strategy": strategy, "deployments": three} for strategy in BESIDE]
    for strategy in CHOOSING:
        for count in COUNTS:
            many = [{"provider": "fast", "model": f"{payloads.SMALL}-{number}"} for number in range(count)]
            models.append({"name": _among(count, strategy), "strategy": strategy, "deployments": many})
    return {"providers": accounts, "models": models}


@contextmanager
def started(contestant: int, load: int, logs: Path) -> Iterator[Running]:
    """Start the mocks and the gateway, each on its core."""
    with ExitStack() as stack:

        def start(one: Contestant, core: int, upstream_port: int = 0) -> Running:
            running = Running(one, core, upstream_port, logs)
            stack.callback(running.stop)
            return running

        logs.mkdir(parents=True, exist_ok=True)
        ports = [start(mock(f"mock-{ms:.0f}-ms", ms), load).port for ms in (0.0, USUAL_MS, SLOW_MS)]
        yield start(_gateway(logs / NAME, ports), contestant, ports[0])


def _gateway(folder: Path, ports: Sequence[int]) -> Contestant:
    described = plain(folder)

    def command(port: int, upstream_port: int) -> list[str]:
        given = described.command(port, upstream_port)
        (folder / "gateway.yaml").write_text(json.dumps(catalog(*ports), indent=1))
        return given

    return replace(described, name=NAME, command=command)


async def measure(
    running: Running,
    core: int,
    *,
    duration_s: float,
    repetitions: int,
    rounds: int,
    is_kept: Callable[[Repetition], bool],
    say: Callable[[str], None],
) -> list[Repetition]:
    """Take turns until each scenario has enough undisturbed repetitions or the rounds are over."""
    done: list[Repetition] = []
    for _ in range(rounds):
        for scenario in SCENARIOS:
            if sum(is_kept(one) for one in done if one.scenario == scenario.name) >= repetitions:
                continue
            await quiet(core)
            done.append(one := await repeat(scenario, running, core, duration_s))
            note = "" if is_kept(one) else f"   thrown away: others used {one.others_share:.0%} of its core"
            say(f"  {scenario.name:18} {one.cpu_us:10.1f} CPU-us a request {one.per_s:9.1f} answers/s{note}")
    return done


def render(done: Sequence[Repetition], is_kept: Callable[[Repetition], bool], wanted: int) -> str:
    """Write what was measured as Markdown, and hold it against what was promised."""
    figures = {scenario: one for (scenario, _), one in summarise(done, is_kept, wanted).items()}
    return "\n".join([_beside(figures), _choosing(figures), promises(_budgets(figures))])


def _beside(figures: Mapping[str, Figure]) -> str:
    head = [
        f"one of three takes {SLOW_MS:.0f} ms, the others {USUAL_MS:.0f}; {ARRIVALS_PER_S:.0f}/s",
        "p50 ms",
        "p99 ms",
    ]
    rows = [
        [strategy, f"{figure.p50_ms:.1f}", f"{figure.p99_ms:.1f}"]
        for strategy in BESIDE
        for figure in (figures[_slow(strategy)],)
    ]
    return grid(head, rows)


def _choosing(figures: Mapping[str, Figure]) -> str:
    head = ["CPU-µs a request, by deployments", *map(str, COUNTS), *(f"{count}: times 1" for count in COUNTS[1:])]
    rows = []
    for strategy in CHOOSING:
        costs = [figures[_among(count, strategy)] for count in COUNTS]
        cells = [f"{one.cpu_us:.1f}{'~' if one.disturbed else ''}" for one in costs]
        rows.append([strategy, *cells, *(f"{one.cpu_us / costs[0].cpu_us:.3f}" for one in costs[1:])])
    return grid(head, rows)


def _budgets(figures: Mapping[str, Figure]) -> list[Budget]:
    slow = {strategy: figures[_slow(strategy)].p99_ms for strategy in BESIDE}
    found = [
        Budget(
            "one slow deployment of three: round_robin's p99 is least_busy's times",
            slow["round_robin"] / slow["least_busy"],
            2.0,
            at_least=True,
        )
    ]
    for strategy in CHOOSING:
        one = figures[_among(1, strategy)].cpu_us
        for count, allowed_us in ALLOWED_US.items():
            what = f"{strategy} among {count}: times one deployment (1 + {allowed_us:.0f} / {REQUEST_US:.0f})"
            found.append(Budget(what, figures[_among(count, strategy)].cpu_us / one, 1 + allowed_us / REQUEST_US))
    return found
