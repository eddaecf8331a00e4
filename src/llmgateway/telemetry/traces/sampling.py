"""Which traces are kept: OpenTelemetry's six samplers, decided before anything is made for a trace."""

from msgspec import Struct, structs

_LOW_64_BITS = (1 << 64) - 1


class Sampler(Struct, frozen=True):
    """How it is decided.

    Args:
        follows_parent: A client's own decision counts; the bound is for requests without one.
        bound: Traces whose id's lower 64 bits are below it are kept, so that every service on a trace's way that keeps
            the same share keeps the same ones (TraceIdRatioBased).
    """

    follows_parent: bool
    bound: int

    def of(self, ratio: float) -> "Sampler":
        """Keep this share of the traces, 0 to 1."""
        return structs.replace(self, bound=round(ratio * (1 << 64)))

    def keeps(self, trace_id: int, parent_sampled: bool | None) -> bool:
        """Decide for one trace.

        Args:
            parent_sampled: What the client decided; `None` if there is no client's span.
        """
        if self.follows_parent and parent_sampled is not None:
            return parent_sampled
        return trace_id & _LOW_64_BITS < self.bound


SAMPLERS = {
    "always_on": Sampler(follows_parent=False, bound=1 << 64),
    "always_off": Sampler(follows_parent=False, bound=0),
    "traceidratio": Sampler(follows_parent=False, bound=1 << 64),
    "parentbased_always_on": Sampler(follows_parent=True, bound=1 << 64),
    "parentbased_always_off": Sampler(follows_parent=True, bound=0),
    "parentbased_traceidratio": Sampler(follows_parent=True, bound=1 << 64),
}
