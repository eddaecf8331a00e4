"""From repetitions to one figure for each contestant and scenario, and to the raw results that are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import payloads
from bench.figures import median, percentile, spread
from bench.scenarios import Repetition
from bench.special import Special

CHUNKED = ("paced", "burst", "translated_stream")
LATENCIES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Figure:
    """One contestant in one scenario: medians of the repetitions that counted.

    Args:
        cpu_us: CPU microseconds a request, or a chunk where answers are streamed.
        spread: (largest - smallest) / median of `cpu_us`.
        p50_ms, p90_ms, p99_ms, p999_ms: Latency of a request, or from a chunk's sending to its arrival where they are
            paced: the medians of the repetitions' percentiles.
        disturbed: Too few repetitions were undisturbed; the least disturbed ones were taken.
    """

    cpu_us: float
    spread: float
    per_s: float
    busy: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    disturbed: bool


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured.

    Args:
        memory_mb: Once it served, and after all scenarios.
        starts_s: Seconds from exec until it served.
    """

    machine: Mapping[str, str]
    versions: Mapping[str, str]
    titles: Mapping[str, str]
    figures: Mapping[tuple[str, str], Figure]
    memory_mb: Mapping[str, tuple[float, float]]
    starts_s: Mapping[str, Sequence[float]]
    repetitions: Sequence[Repetition]
    specials: Sequence[Special] = ()

    def special(self, scenario: str, contestant: str) -> Mapping[str, float]:
        """Give what was measured once; empty when it was not."""
        found = (each.figures for each in self.specials if (each.scenario, each.contestant) == (scenario, contestant))
        return next(found, {})


def summarise(
    repetitions: Sequence[Repetition], is_kept: Callable[[Repetition], bool], wanted: int
) -> dict[tuple[str, str], Figure]:
    """Fold repetitions into one figure for each scenario and contestant."""
    pairs = dict.fromkeys((each.scenario, each.contestant) for each in repetitions)
    return {
        pair: _figure([each for each in repetitions if (each.scenario, each.contestant) == pair], is_kept, wanted)
        for pair in pairs
    }


def _figure(all_of_them: Sequence[Repetition], is_kept: Callable[[Repetition], bool], wanted: int) -> Figure:
    kept = [each for each in all_of_them if is_kept(each)]
    disturbed = len(kept) < min(wanted, len(all_of_them))
    counted = sorted(all_of_them, key=lambda each: each.others_share)[:wanted] if disturbed else kept
    units = payloads.EVENTS if counted[0].scenario in CHUNKED else 1
    times = [each.chunk_delays_s or each.latencies_s for each in counted]
    costs = [each.cpu_us / units for each in counted]
    p50_ms, p90_ms, p99_ms, p999_ms = (
        median([percentile(each, share) for each in times]) * 1000 for share in LATENCIES
    )
    return Figure(
        cpu_us=median(costs),
        spread=spread(costs),
        per_s=median([each.per_s for each in counted]),
        busy=median([each.cpu_s / each.elapsed_s for each in counted]),
        p50_ms=p50_ms,
        p90_ms=p90_ms,
        p99_ms=p99_ms,
        p999_ms=p999_ms,
        disturbed=disturbed,
    )


def ratio(results: Results, scenario: str, one: str, other: str) -> float | None:
    """Divide two contestants' CPU costs in one scenario; `None` when one of them was not measured."""
    above, below = results.figures.get((scenario, one)), results.figures.get((scenario, other))
    return above.cpu_us / below.cpu_us if above and below else None


def raw(results: Results) -> dict[str, object]:
    """Give every repetition, kept or not, as JSON's values; latencies as percentiles in milliseconds."""
    return {
        "machine": dict(results.machine),
        "versions": dict(results.versions),
        "titles": dict(results.titles),
        "figures": [
            {"scenario": scenario, "contestant": name} | asdict(figure)
            for (scenario, name), figure in results.figures.items()
        ],
        "specials": [asdict(each) for each in results.specials],
        "memory_mb": dict(results.memory_mb),
        "starts_s": {name: list(times) for name, times in results.starts_s.items()},
        "repetitions": raw_repetitions(results.repetitions),
    }


def read(kept: Mapping[str, Any]) -> Results:
    """Make results of what `raw` gave, without the single repetitions.

    Raises:
        KeyError: It was written by another version.
    """
    figures = {}
    for one in kept["figures"]:
        pair = one["scenario"], one["contestant"]
        figures[pair] = Figure(**{name: each for name, each in one.items() if name not in {"scenario", "contestant"}})
    return Results(
        machine=kept["machine"],
        versions=kept["versions"],
        titles=kept["titles"],
        figures=figures,
        memory_mb={name: (idle, loaded) for name, (idle, loaded) in kept["memory_mb"].items()},
        starts_s=kept["starts_s"],
        repetitions=(),
        specials=[Special(**each) for each in kept["specials"]],
    )


def raw_repetitions(repetitions: Sequence[Repetition]) -> list[dict[str, object]]:
    """Give repetitions as JSON's values."""
    return [_raw_repetition(each) for each in repetitions]


def _raw_repetition(repetition: Repetition) -> dict[str, object]:
    return {
        "scenario": repetition.scenario,
        "contestant": repetition.contestant,
        "answered": repetition.answered,
        "elapsed_s": round(repetition.elapsed_s, 3),
        "cpu_us_per_request": round(repetition.cpu_us, 2),
        "others_share": round(repetition.others_share, 4),
        "latency_ms": _percentiles(repetition.latencies_s),
        "chunk_delay_ms": _percentiles(repetition.chunk_delays_s),
    }


def _percentiles(times_s: Sequence[float]) -> dict[str, float]:
    return {f"p{share * 100:g}": round(percentile(times_s, share) * 1000, 3) for share in LATENCIES} if times_s else {}
