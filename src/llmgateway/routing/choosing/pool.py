"""The candidates of a model, and how the filters are asked: at no cost where they would drop nobody."""

import math
from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct

from llmgateway.errors import GatewayError
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.filters import FILTERS, LEVELS, STREAMING, Among, FilterName, Wanted, lacking
from llmgateway.routing.choosing.refusals import refusal

_NOTHING: frozenset[str] = frozenset()
_WHO: tuple[FilterName, ...] = ("provider_key", "security", "capability")
_ROOM: tuple[FilterName, ...] = ("context_window", "max_cost")


class Drop(Struct, frozen=True):
    """Who may not answer, and why in words."""

    candidate: Candidate
    filter: FilterName
    reason: str


class Sieved(Struct, frozen=True):
    """What the filters say of all candidates.

    Args:
        refusal: What the call is answered with when nobody is left.
    """

    left: Among
    drops: tuple[Drop, ...]
    refusal: GatewayError | None = None


class Pool:
    """A model's candidates and what is the same for every call: made once for each model of a catalog.

    Args:
        name: The model's, for messages.

    Args of the state: `knows_windows` says whether how much a prompt holds can matter to anybody; `only` is the one
    candidate, where there is no other.
    """

    __slots__ = (
        *("_able", "_certain", "_lacked", "_least_level", "_smallest_window", "_windows"),
        *("candidates", "knows_windows", "name", "only"),
    )

    def __init__(self, candidates: Sequence[Candidate], name: str) -> None:
        self.candidates = tuple(candidates)
        self.only = self.candidates[0] if len(self.candidates) == 1 else None
        self.name = name
        deployments = [one.deployment for one in self.candidates]
        self._windows = sorted({one.context_length for one in deployments if one.context_length is not None})
        self._smallest_window: float = self._windows[0] if self._windows else math.inf
        self.knows_windows = bool(self._windows)
        self._least_level = min((LEVELS[one.account.security_level] for one in deployments), default=0)
        # What all are known to do; and what some cannot do.
        self._certain = frozenset.intersection(*(one.capabilities for one in deployments)) if deployments else _NOTHING
        self._lacked = _NOTHING.union(*(lacking(one) for one in self.candidates))
        # By what is needed, of which there is a handful of combinations.
        self._able: dict[frozenset[str], Among] = {}

    def left(self, wanted: Wanted, *, forced: bool = False) -> Among:
        """Give those who may answer, in their order; the very same sequence when that is everybody.

        Args:
            forced: When all rest, give all of them.

        Raises:
            GatewayError: Nobody may; `details.filter` names the filter that left nobody.
        """
        found: Among = self._narrowed(wanted) if self._may_narrow(wanted) else self.candidates
        for one in found:
            if one.health.until != 0.0:
                return self._awake(found, wanted, forced=forced)
        return found or self._kept("circuit", found, wanted)

    def sieved(self, wanted: Wanted) -> Sieved:
        """Give the same, with all who were dropped and why; it raises nothing."""
        left: Among = self.candidates
        drops: list[Drop] = []
        for name, (keep, reason) in FILTERS.items():
            kept = keep(left, wanted)
            if len(kept) < len(left):
                places = {one.place for one in kept}
                drops += [Drop(one, name, reason(one, wanted)) for one in left if one.place not in places]
            if not kept:
                return Sieved((), tuple(drops), refusal(name, self.name, left, wanted))
            left = kept
        return Sieved(left, tuple(drops))

    def must_count(self, fewest_tokens: int, most_tokens: int) -> bool:
        """Whether the exact length of a prompt, somewhere between these, decides who has room for it."""
        if most_tokens <= self._smallest_window:
            return False
        return bisect_left(self._windows, fewest_tokens) != bisect_left(self._windows, most_tokens)

    def suits(self, needs: frozenset[str], most_tokens: int, *, stream: bool) -> bool:
        """Whether everybody has room for a prompt with its answer, and surely can do what a call needs."""
        return (
            most_tokens <= self._smallest_window
            and (not needs or needs <= self._certain)
            and not (stream and "streaming" in self._lacked)
        )

    def _may_narrow(self, wanted: Wanted) -> bool:
        """Whether a filter other than the circuit's could drop anybody."""
        most_tokens = wanted.most_prompt_tokens + (wanted.max_answer_tokens or 0)
        return (
            wanted.max_cost_usd is not None
            or not self.suits(wanted.needs, most_tokens, stream=wanted.stream)
            or wanted.own_provider is not None
            or (wanted.min_security is not None and LEVELS[wanted.min_security] > self._least_level)
        )

    def _narrowed(self, wanted: Wanted) -> Among:
        if wanted.own_provider is None and wanted.min_security is None:
            found = self._able_to(wanted)
        else:
            found = self.candidates
            for name in _WHO:
                found = self._kept(name, found, wanted)
        for name in _ROOM:
            found = self._kept(name, found, wanted)
        return found

    def _able_to(self, wanted: Wanted) -> Among:
        needs = wanted.needs | STREAMING if wanted.stream else wanted.needs
        found = self._able.get(needs)
        if found is None:
            found = self._able[needs] = self._kept("capability", self.candidates, wanted)
        return found

    def _awake(self, among: Among, wanted: Wanted, *, forced: bool) -> Among:
        if not forced:
            return self._kept("circuit", among, wanted)
        return FILTERS["circuit"][0](among, wanted) or among

    def _kept(self, name: FilterName, among: Among, wanted: Wanted) -> Among:
        kept = FILTERS[name][0](among, wanted)
        if not kept:
            raise refusal(name, self.name, among, wanted)
        return kept if len(kept) < len(among) else among
