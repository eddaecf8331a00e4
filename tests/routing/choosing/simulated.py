"""Deployments that behave as they are told, under load, in a time that only this simulation moves: no sockets."""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from llmgateway.catalog.model import Account, Deployment, Prices
from llmgateway.routing.choosing.candidate import Candidate, Weighing
from llmgateway.routing.choosing.strategies import STRATEGIES, choose
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Change, Health, HealthPolicy

Outcome = Literal["answers", "fails", "rate_limit", "auth", "quota", "client_error", "hang_up"]


@dataclass(frozen=True, slots=True)
class Play:
    """How one call goes: what comes, after how long, and how long the provider asks to be left alone."""

    outcome: Outcome = "answers"
    after_s: float = 0.1
    rest_s: float | None = None


Script = Callable[[float, int], Play]  # seconds since the beginning, and how many calls came before


def always(outcome: Outcome = "answers", after_s: float = 0.1, rest_s: float | None = None) -> Script:
    play = Play(outcome, after_s, rest_s)
    return lambda _now, _turn: play


def between(begin_s: float, end_s: float, then: Script, otherwise: Script | None = None) -> Script:
    usual = otherwise or always()
    return lambda now, turn: (then if begin_s <= now < end_s else usual)(now, turn)


@dataclass(slots=True)
class Asked:
    """One call at one deployment; `at` and `ended` are seconds since the beginning."""

    at: float
    who: int
    probe: int
    share: float
    play: Play
    ended: float = math.inf


@dataclass(slots=True)
class Call:
    """What a client sees of a call."""

    at: float
    ended: float = math.inf
    well: bool = False
    tried: set[int] = field(default_factory=set)


def deployment(at: int, *, weight: float = 1.0, prices: Prices | None = None) -> Deployment:
    return Deployment(Account(f"account-{at}", "openai", "openai"), "model", weight=weight, prices=prices)


class World:
    """Plays a model with these deployments: calls come at a steady rate, whatever becomes of them (open loop).

    Each call asks whom its strategy picks, and after a failure whom it picks among the others.
    """

    # Zero is no time at all in a health, as nowhere in reality.
    begin_s = 1000.0

    def __init__(
        self,
        strategy: str,
        scripts: Sequence[Script],
        *,
        weights: Sequence[float] = (),
        prices: Sequence[Prices | None] = (),
        policy: HealthPolicy | None = None,
    ) -> None:
        self.now = self.begin_s
        self.asked: list[Asked] = []
        self.calls: list[Call] = []
        self._strategy = STRATEGIES[strategy]
        self._scripts = scripts
        self.changes: list[tuple[float, int, Change]] = []
        self._book = HealthBook(policy, clock=lambda: self.now)
        self._book.listeners.append(self._changed)
        deployments = [
            deployment(at, weight=weights[at] if weights else 1.0, prices=prices[at] if prices else None)
            for at in range(len(scripts))
        ]
        self.candidates = tuple(Candidate(one, self._book.of(one), at) for at, one in enumerate(deployments))
        self._turns = [0] * len(scripts)
        self._turn = 0
        self._number = count()
        self._to_come: list[tuple[float, int, Callable[[], None]]] = []

    def health(self, who: int) -> Health:
        return self.candidates[who].health

    def run(self, until_s: float, *, rate: float) -> "World":
        """Let calls come until then, at this many a second, and play all that comes of them before."""
        end = self.begin_s + until_s
        first = self.now
        for number in range(round((end - first) * rate)):
            self._later(first + number / rate, self._call)
        while self._to_come and self._to_come[0][0] < end:
            self.now, _, act = heapq.heappop(self._to_come)
            act()
        self.now = end
        return self

    def between(self, begin_s: float, end_s: float) -> list[Asked]:
        return [one for one in self.asked if begin_s <= one.at < end_s]

    def shares(self, begin_s: float = 0.0, end_s: float = math.inf) -> list[float]:
        """What part of the calls of this time each deployment got."""
        asked = self.between(begin_s, end_s)
        return [sum(one.who == who for one in asked) / len(asked) for who in range(len(self.candidates))]

    def failed(self) -> int:
        return sum(call.ended < math.inf and not call.well for call in self.calls)

    def percentile_s(self, percentile: float) -> float:
        """How long calls took; those that have no answer yet took longer than any other."""
        took = sorted(call.ended - call.at for call in self.calls)
        return took[math.ceil(len(took) * percentile / 100) - 1]

    def most_probes_at_once(self, who: int) -> int:
        probes = [one for one in self.asked if one.who == who and one.probe]
        return max((sum(other.at <= one.at < other.ended for other in probes) for one in probes), default=0)

    def _changed(self, health: Health, change: Change) -> None:
        who = next(one.place for one in self.candidates if one.health is health)
        self.changes.append((self.now - self.begin_s, who, change))

    def _later(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._to_come, (at, next(self._number), act))

    def _call(self) -> None:
        call = Call(self.now - self.begin_s)
        self.calls.append(call)
        weighing = Weighing(self.now, self._turn, prompt_tokens=1000, answer_tokens=500)
        self._turn += 1
        self._ask(call, weighing)

    def _ask(self, call: Call, weighing: Weighing) -> None:
        among = [one for one in self.candidates if one.place not in call.tried and one.health.available(self.now)]
        if not among:
            call.ended = self.now - self.begin_s
            return
        one = among[choose(self._strategy, among, weighing)]
        who, health, began = one.place, one.health, self.now
        share = health.share(began)
        probe = health.begin(began)
        play = self._scripts[who](began - self.begin_s, self._turns[who])
        self._turns[who] += 1
        call.tried.add(who)
        asked = Asked(began - self.begin_s, who, probe, share, play)
        self.asked.append(asked)

        def end() -> None:
            asked.ended = self.now - self.begin_s
            health.end()
            self._tell(health, began, play, probe=probe)
            if play.outcome in {"answers", "client_error", "hang_up"}:
                call.ended, call.well = asked.ended, True
            else:
                weighing.now = self.now
                self._ask(call, weighing)

        self._later(began + play.after_s, end)

    def _tell(self, health: Health, began: float, play: Play, *, probe: int) -> None:
        now = self.now
        match play.outcome:
            case "answers":
                health.answered(now, began, stream=False, probe=probe)
            case "client_error":
                health.well(now, began, probe=probe)
            case "hang_up":
                health.left(probe=probe)
            case "fails":
                health.failed(now, began, "failures", rest_s=play.rest_s, probe=probe)
            case other:
                health.failed(now, began, other, rest_s=play.rest_s, probe=probe)
