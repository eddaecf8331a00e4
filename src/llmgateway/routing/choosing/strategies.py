"""The order in which a model's deployments are asked: seven strategies, and what holds for each of them.

Whatever the strategy, a deployment whose rest is over is asked at once, by one call, and who has just come back gets
its turns bit by bit. All chance comes from the call's turn, so that a dry run foretells the call.
"""

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from msgspec.structs import replace

from llmgateway.routing.choosing.candidate import Candidate, Weighing

Among = Sequence[Candidate]

_GOLDEN = (math.sqrt(5) - 1) / 2
# Kinds of chance: with the turn each makes numbers that have nothing to do with the others'.
_PAIR, _EXPLORED, _WARMING, _GIVEN_AWAY = 1, 2, 3, 4
_BITS = 0xFFFFFF
_EXPLORED_ONE_IN = 50
# In `balanced`: what a call counts as costing at least, so that what is free does not win however slow it is; and how
# much more a deployment counts that fails always. One that does is resting: in truth this reaches 2.
_LEAST_USD = 0.0001
_FAILURES_WEIGH = 4.0


class Strategy(Protocol):
    """A way to choose among those who may be asked."""

    def pick(self, among: Among, weighing: Weighing) -> int:
        """Give the index of the one to ask first."""
        ...

    def scores(self, among: Among, weighing: Weighing) -> list[float]:
        """Give a figure for each, lower is better: the order of the others, and what a dry run shows.

        Infinity is for who comes last because nobody knows its figure.
        """
        ...


def choose(strategy: Strategy, among: Among, weighing: Weighing) -> int:
    """Give the index of the candidate to ask first; all of them may be asked."""
    if len(among) == 1:
        return 0
    now = weighing.now
    for at, one in enumerate(among):
        if one.health.until and one.health.is_due(now):
            return at
    at = strategy.pick(among, weighing)
    share = among[at].health.share(now)
    return at if share >= 1.0 or _chance(weighing.turn, at) < share else _steady(strategy, among, weighing, at)


def ordered(strategy: Strategy, among: Among, weighing: Weighing) -> list[Candidate]:
    """Give the candidate to ask first, then the others by score; who rested and has not answered since comes last."""
    first = choose(strategy, among, weighing)
    if len(among) == 1:
        return [among[0]]
    order = sorted(range(len(among)), key=strategy.scores(among, weighing).__getitem__)
    order.sort(key=[one.health.until != 0.0 for one in among].__getitem__)
    order.remove(first)
    return [among[first], *[among[at] for at in order]]


def _steady(strategy: Strategy, among: Among, weighing: Weighing, otherwise: int) -> int:
    """Pick among those that did not just come back; when all did, somebody must answer."""
    steady = [at for at, one in enumerate(among) if one.health.share(weighing.now) >= 1.0]
    if not steady:
        return otherwise
    # With its own turn, all that one gives away would go to the same other.
    turn = hash((weighing.turn, _GIVEN_AWAY)) & _BITS
    return steady[strategy.pick([among[at] for at in steady], replace(weighing, turn=turn))]


def _chance(turn: int, at: int) -> float:
    return (hash((turn, at, _WARMING)) & _BITS) / (_BITS + 1)


class Priority:
    """The first in the catalog."""

    def pick(self, among: Among, weighing: Weighing) -> int:
        return 0

    def scores(self, among: Among, weighing: Weighing) -> list[float]:
        return [float(at) for at in range(len(among))]


class Weighted:
    """Each as often as its weight says."""

    def pick(self, among: Among, weighing: Weighing) -> int:
        # Multiples of the golden ratio, modulo 1, spread evenly whatever their number (Weyl): no luck in the shares.
        sums = list(accumulate([one.weight for one in among]))
        return bisect(sums, weighing.turn * _GOLDEN % 1.0 * sums[-1], 0, len(sums) - 1)

    def scores(self, among: Among, weighing: Weighing) -> list[float]:
        whole = math.fsum(one.weight for one in among)
        return [1.0 - one.weight / whole for one in among]


class RoundRobin:
    """Each in turn."""

    def pick(self, among: Among, weighing: Weighing) -> int:
        return weighing.turn % len(among)

    def scores(self, among: Among, weighing: Weighing) -> list[float]:
        return [float((at - weighing.turn) % len(among)) for at in range(len(among))]


class LeastBusy:
    """The one of two with less to do: slowest recent answer (peak EWMA) times calls in flight.

    The better of two is nearly as good as the best of all, and calls at the same time seldom look at the same two
    (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
    """

    def pick(self, among: Among, weighing: Weighing) -> int:
        count = len(among)
        if count == 1:
            return 0
        chance = hash((weighing.turn, _PAIR))
        at, other = chance % count, (chance >> 24) % (count - 1)
        other += other >= at
        one, two = among[at].health, among[other].health
        now, stream = weighing.now, weighing.stream
        one_s = (one.streamed if stream else one.whole).peak_now_s(now)
        two_s = (two.streamed if stream else two.whole).peak_now_s(now)
        return other if _load(two_s, two.inflight, one_s) < _load(one_s, one.inflight, two_s) else at

    def scores(self, among: Among, weighing: Weighing) -> list[float]:
        peaks = [one.health.pace(stream=weighing.stream).peak_now_s(weighing.now) for one in among]
        usual_s = min(filter(None, peaks), default=0.0)
        return [_load(peak_s, one.health.inflight, usual_s) for one, peak_s in zip(among, peaks, strict=True)]


class Fastest:
    """The one that began to answer soonest lately; who was not measured yet is asked by one call, to find out."""

    def pick(self, among: Among, weighing: Weighing) -> int:
        if (explored := _explored(among, weighing)) is not None:
            return explored
        stream = weighing.stream
        best, best_s = -1, math.inf
        for at, one in enumerate(among):
            health = one.health
            pace = health.streamed if stream else health.whole
            if pace.samples:
                if pace.mean_s < best_s:
                    best, best_s = at, pace.mean_s
            elif not health.inflight:
                return at
        return best if best >= 0 else _least(self.scores(among, weighing))

    def scores(self, among: Among, weighing: Weighing) -> list[float]:
        means = [one.health.pace(stream=weighing.stream).mean_s for one in among]
        usual_s = min(filter(None, means), default=0.0)
        return [mean_s or _load(0.0, one.health.inflight, usual_s) for one, mean_s in zip(among, means, strict=True)]


class Cheapest:
    """The one where this call is likely to cost least; those without a price come last."""

    def pick(self, among: Among, weighing: Weighing) -> int:
        return _least(self.scores(among, weighing))

    def scores(self, among: Among, weighing: Weighing) -> list[float]:
        prompt, answer = weighing.prompt_tokens, weighing.answer_tokens
        return [
            prompt * one.input_usd + answer * one.output_usd if one.is_plain else one.cost_usd(prompt, answer)
            for one in among
        ]


class Balanced:
    """The least product of cost, seconds, calls in flight and failures: twice as dear weighs like twice as slow.

    The scores are how many times worse than the best each is. A product asks for no common scale, and no figure of one
    deployment changes how two others compare (weighted product model).
    """

    def pick(self, among: Among, weighing: Weighing) -> int:
        if (explored := _explored(among, weighing)) is not None:
            return explored
        stream = weighing.stream
        best, best_score = None, math.inf
        for one, cost in zip(among, _costs(among, weighing), strict=True):
            health = one.health
            took_s = health.streamed.mean_s if stream else health.whole.mean_s
            score = (cost + _LEAST_USD) * took_s * (health.inflight + 1)
            if score >= best_score:  # failures only add to it
                continue
            if took_s == 0.0:  # nobody knows how fast it is: one call finds out
                if not health.inflight:
                    return among.index(one)
                continue
            score *= 1.0 + _FAILURES_WEIGH * health.failed_share
            if score < best_score:
                best, best_score = one, score
        return _least(self.scores(among, weighing)) if best is None else among.index(best)

    def scores(self, among: Among, weighing: Weighing) -> list[float]:
        costs, speeds = _costs(among, weighing), STRATEGIES["fastest"].scores(among, weighing)
        scores = [
            # Nobody knows what infinity times nothing is.
            (cost + _LEAST_USD)
            * (took_s if cost < math.inf else 1.0)
            * (one.health.inflight + 1)
            * (1.0 + _FAILURES_WEIGH * one.health.failed_share)
            for one, cost, took_s in zip(among, costs, speeds, strict=True)
        ]
        best = min((score for score in scores if 0.0 < score < math.inf), default=1.0)
        return [score / best for score in scores]


def _costs(among: Among, weighing: Weighing) -> list[float]:
    """Give what a call costs at each; where nobody has a price, all cost the same."""
    costs = STRATEGIES["cheapest"].scores(among, weighing)
    return costs if min(costs) < math.inf else [0.0] * len(among)


def _load(took_s: float, inflight: int, usual_s: float) -> float:
    """Seconds of work that wait there. Nobody knows the unmeasured: one call finds out, for more it is like others."""
    if took_s == 0.0:
        took_s = (usual_s or 1.0) if inflight else 0.0
    return took_s * (inflight + 1)


def _explored(among: Among, weighing: Weighing) -> int | None:
    """Give who was measured longest ago, in few turns and to one call at a time: who is never asked would stay slow."""
    if hash((weighing.turn, _EXPLORED)) % _EXPLORED_ONE_IN:
        return None
    stream = weighing.stream
    idle = [at for at, one in enumerate(among) if not one.health.inflight]
    return min(idle, key=lambda at: among[at].health.pace(stream=stream).measured_at, default=None)


def _least(scores: list[float]) -> int:
    return scores.index(min(scores))


STRATEGIES: Mapping[str, Strategy] = {
    "priority": Priority(),
    "weighted": Weighted(),
    "round_robin": RoundRobin(),
    "least_busy": LeastBusy(),
    "fastest": Fastest(),
    "cheapest": Cheapest(),
    "balanced": Balanced(),
}
