"""Every model's candidates, made once for each catalog; its turns go on through all of them."""

import random
from collections.abc import Sequence

from llmgateway.catalog.model import Model
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.pool import Pool
from llmgateway.routing.health.book import HealthBook

_MOST = 8192  # names made up by clients must not fill the memory


class Route:
    """One model as routing sees it.

    Args:
        turn: Grows with each call: what a choice that is left to chance depends on.
        hedge_credit: How many calls may be hedged now.
    """

    __slots__ = ("hedge_credit", "model", "pool", "turn")

    def __init__(self, model: Model, candidates: Sequence[Candidate], turn: int) -> None:
        self.model = model
        self.pool = Pool(candidates, model.name)
        self.turn = turn
        self.hedge_credit = 1.0


class Routes:
    """Finds a model's route, or makes it.

    Args:
        first_turn: `None` is by chance: processes that share deployments must not walk in step.
    """

    def __init__(self, book: HealthBook, first_turn: int | None = None) -> None:
        self._book = book
        self._first_turn = first_turn
        self._kept: dict[str, Route] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, model: Model) -> Route:
        """Give the route of a model, a new one when the catalog has changed the model."""
        found = self._kept.get(model.name)
        if found is None or found.model is not model:
            found = self._made(model, None if found is None else found.turn)
        return found

    def _made(self, model: Model, turn: int | None) -> Route:
        if turn is None:
            turn = random.getrandbits(32) if self._first_turn is None else self._first_turn
        if len(self._kept) >= _MOST:
            self._kept.clear()
        candidates = [
            Candidate(one, self._book.of(one, lasting=model.in_catalog), place)
            for place, one in enumerate(model.deployments)
        ]
        route = self._kept[model.name] = Route(model, candidates, turn)
        return route
