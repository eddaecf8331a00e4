"""How long an attempt may take before another deployment is asked beside it, and why."""

import time
from collections.abc import Sequence

from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.routes import Route
from llmgateway.routing.failover.race import Kind
from llmgateway.routing.health.begun import Begun

# So many times what it, or the slowest of its peers, usually takes.
_TIMES = 3.0
_LEAST_PROBE_S = 0.25
_MOST_HEDGES_AT_ONCE = 10.0
_LOOK_AGAIN_S = 2.5


class Patience:
    """Says when a second deployment is asked.

    Args:
        silence_s: The shortest silence that may mean that a deployment hangs; 0 is never. Below what a connection may
            take, so that a client waits less for one that hangs than for one that cannot be reached.
    """

    def __init__(self, silence_s: float = 2.5) -> None:
        self._silence_s = silence_s

    def seconds(self, route: Route, begun: Begun, among: Sequence[Candidate], *, stream: bool) -> float | None:
        """Give the time after which to look first; `None` is never."""
        if begun.is_probe:
            return self._probe_s(begun, among, stream=stream)
        hedge = route.model.hedge
        silence_s = self._silence_s or None
        if hedge is None:
            return silence_s
        route.hedge_credit = min(_MOST_HEDGES_AT_ONCE, route.hedge_credit + hedge.max_share)
        usual_s = begun.health.pace(stream=stream).percentile_s(hedge.percentile)
        if usual_s is None or silence_s is None:
            return usual_s or silence_s or _LOOK_AGAIN_S
        return min(usual_s, silence_s)

    def verdict(self, route: Route, among: Sequence[Candidate], begun: Begun, *, stream: bool) -> "Kind | float | None":
        """Say whether to ask another one now, or in how many seconds to look again."""
        if begun.is_probe:
            return "probe"
        waited_s = time.perf_counter() - begun.attempt.started
        hedge = route.model.hedge
        usual_s = None if hedge is None else begun.health.pace(stream=stream).percentile_s(hedge.percentile)
        if usual_s is not None and waited_s < usual_s:
            return usual_s - waited_s
        if usual_s is not None and route.hedge_credit >= 1.0:
            route.hedge_credit -= 1.0
            return "hedge"
        return self._of_silence(begun, among, stream=stream)

    def _of_silence(self, begun: Begun, among: Sequence[Candidate], *, stream: bool) -> "Kind | float | None":
        if not self._silence_s:
            return None
        now = time.perf_counter()
        slowest_s = max(one.health.pace(stream=stream).slowest_s(now) for one in among)
        if slowest_s == 0.0:
            return self._silence_s  # nobody knows yet how long such calls take
        limit_s = max(self._silence_s, _TIMES * slowest_s)
        # Who answers others lives, and this call only takes long; that it was heard once says nothing of it later.
        silent_s = now - max(begun.attempt.started, begun.health.heard_at)
        return "silence" if silent_s >= limit_s else limit_s - silent_s

    def _probe_s(self, begun: Begun, among: Sequence[Candidate], *, stream: bool) -> float:
        own_s = begun.health.pace(stream=stream).mean_s
        if own_s == 0.0:
            own_s = max(one.health.pace(stream=stream).mean_s for one in among)
        if own_s == 0.0:
            return self._silence_s or _LOOK_AGAIN_S
        # Who was not fast enough the last times gets longer: it may have become slow, and be well all the same. But a
        # client waits each time: for one that hangs hardly longer than for one that falls silent.
        usual_s = max(_LEAST_PROBE_S, _TIMES * own_s)
        grown_s = usual_s * 2.0 ** min(max(begun.health.rests - 1, 0), 4)
        return min(grown_s, max(2.0 * usual_s, self._silence_s or _LOOK_AGAIN_S))
