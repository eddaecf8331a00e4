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


def budgets(results: Results) -> list[Budget]:
    """Hold the gateway against what was promised, as ratios in this run; memory and start as they are."""
    idle_mb, loaded_mb = results.memory_mb.get("gateway", (None, None))
    starts_s = results.starts_s.get("gateway")
    return [
        Budget("request: times the bare relay (202 / 140)", ratio(results, "small", "gateway", "raw"), 202 / 140),
        Budget(
            "request with key and limits: times the bare relay (212 / 140)",
            ratio(results, "small", "protected", "raw"),
            212 / 140,
        ),
        Budget("cache hit with key and limits: times a bare relayed request (140 / 140)", _hit(results), 140 / 140),
        Budget(
            "cache hit: LiteLLM's proxy with its memory cache costs times",
            ratio(results, "hit", "litellm-cache", "gateway"),
            40,
            at_least=True,
        ),
        Budget(
            "request: LiteLLM's proxy costs times", ratio(results, "small", "litellm", "gateway"), 50, at_least=True
        ),
        # The bare relay was seen at 49 to 73 µs a paced chunk: the middle of it.
        Budget("chunk, paced: times the bare relay (80 / 61)", ratio(results, "paced", "gateway", "raw"), 80 / 61),
        Budget(
            "chunk, paced: LiteLLM's proxy costs times", ratio(results, "paced", "litellm", "gateway"), 9, at_least=True
        ),
        Budget("chunk, burst: times the bare relay (4 / 1.7)", ratio(results, "burst", "gateway", "raw"), 4 / 1.7),
        Budget("200 KB body: times the bare relay (700 / 552)", ratio(results, "big", "gateway", "raw"), 700 / 552),
        Budget("MB idle, before LiteLLM is loaded", idle_mb, 90),
        Budget("MB after load, LiteLLM loaded", loaded_mb, 250),
        Budget("s from exec to /health", median(starts_s) if starts_s else None, 1.0),
    ]


def _hit(results: Results) -> float | None:
    hit, bare = results.figures.get(("hit", "protected")), results.figures.get(("small", "raw"))
    return hit.cpu_us / bare.cpu_us if hit and bare else None
