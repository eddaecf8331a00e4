"""What was promised, as ratios in one run: absolute times differ between machines."""

from dataclasses import dataclass

from bench.figures import median
from bench.results import Results, ratio


@dataclass(frozen=True, slots=True)
class Budget:
    """One promise: what was measured against what was allowed; `None` when the run has no such figure."""

    what: str
    measured: float | None
    allowed: float
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Say `pass`, `miss` or `not measured`."""
        if self.measured is None:
            return "not measured"
        held = self.measured >= self.allowed if self.at_least else self.measured <= self.allowed
        return "pass" if held else "**miss**"


def numbers(results: Results) -> list[Budget]:
    """Hold the gateway, everything on, against what it is to be: every figure of the goal, in its order."""
    found = []
    for what, scenario, peer, allowed in (
        ("relay: LiteLLM's proxy takes times the CPU (best hoped for: 85)", "small", "litellm", 45),
        ("relay: Portkey takes times the CPU (best hoped for: 11)", "small", "portkey", 6),
        ("chunk of a paced stream: LiteLLM's proxy", "paced", "litellm", 10),
        ("chunk of a paced stream: Portkey", "paced", "portkey", 2),
        ("chunk of a burst: LiteLLM's proxy", "burst", "litellm", 250),
        ("call translated to Anthropic's wire: LiteLLM's proxy", "translated", "litellm", 13),
        ("chunk translated from Anthropic's wire: LiteLLM's proxy", "translated_stream", "litellm", 10),
    ):
        found.append(Budget(what, ratio(results, scenario, peer, "gateway"), allowed, at_least=True))
    hit, arrivals = (results.figures.get((scenario, "gateway")) for scenario in ("hit", "arrivals"))
    direct = results.figures.get(("arrivals", "mock"))
    found += [Budget("cache hit, CPU-µs", hit.cpu_us if hit else None, 140)]
    found += [Budget("memory after load: times LiteLLM's proxy", _memory(results), 0.5)]
    for what, name, most_ms in (("p50", "p50_ms", 1.0), ("p99", "p99_ms", 5.0)):
        added = getattr(arrivals, name) - getattr(direct, name) if arrivals and direct else None
        found.append(Budget(f"added at 100 requests a second, {what}, ms", added, most_ms))
    workers = results.special("workers", "two-workers")
    found += [
        Budget("MB with 2,000 idle streams", results.special("idle_streams", "gateway").get("during_mb"), 400),
        Budget("two workers: CPU a request, times one worker", workers.get("times_one"), 1.1),
        Budget("two workers, as many connections each: the same", workers.get("times_one_each"), 1.1),
        Budget("two workers: share of the one with less to do", workers.get("least_share"), 0.4, at_least=True),
    ]
    return found


def _memory(results: Results) -> float | None:
    ours, theirs = (results.memory_mb.get(name) for name in ("gateway", "litellm"))
    return ours[1] / theirs[1] if ours and theirs else None


def budgets(results: Results) -> list[Budget]:
    """Hold the gateway against the bare relay of this run; memory before LiteLLM is loaded, and start, as they are."""
    idle_mb, loaded_mb = results.memory_mb.get("gateway", (None, None))
    starts_s = results.starts_s.get("gateway")
    return [
        Budget("request, everything on: times the bare relay (220 / 140)", _over(results, "small"), 220 / 140),
        Budget("cache hit: times a bare relayed request (140 / 140)", _over(results, "hit"), 140 / 140),
        Budget(
            "cache hit: LiteLLM's proxy with its memory cache costs times",
            ratio(results, "hit", "litellm-cache", "gateway"),
            40,
            at_least=True,
        ),
        # The bare relay was seen at 49 to 73 µs a paced chunk: the middle of it.
        Budget("chunk, paced: times the bare relay (75 / 61)", ratio(results, "paced", "gateway", "raw"), 75 / 61),
        Budget("chunk, burst: times the bare relay (3 / 1.7)", ratio(results, "burst", "gateway", "raw"), 3 / 1.7),
        Budget("200 KB body: times the bare relay (670 / 552)", ratio(results, "big", "gateway", "raw"), 670 / 552),
        Budget("call translated: times a bare relayed request (900 / 140)", _over(results, "translated"), 900 / 140),
        Budget("MB idle, before LiteLLM is loaded", idle_mb, 90),
        Budget("MB after load, LiteLLM loaded", loaded_mb, 250),
        Budget("s from exec to /health", median(starts_s) if starts_s else None, 1.0),
    ]


def _over(results: Results, scenario: str) -> float | None:
    """Divide what the gateway takes in a scenario by what the bare relay takes for the small chat."""
    ours, bare = results.figures.get((scenario, "gateway")), results.figures.get(("small", "raw"))
    return ours.cpu_us / bare.cpu_us if ours and bare else None
