"""Leave to ask: a flavor's calls at once across all workers, and what a job may cost."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llmgateway.documents.recipe import Recipe
from llmgateway.errors import MaxCostError
from llmgateway.exchange import Exchange
from llmgateway.jobs.running.means import Means
from llmgateway.storage.jobs.rows import Lease
from llmgateway.stores.base import Ask, Reservation, Rules, Slots, StoreAwayError

Check = Callable[[], None]

_NANO = 1e9
# A slot that is given back is told of; news can be missed.
_POLL_S = 0.5
_LEASE_BEYOND_S = 60.0
# Workers that died with this job gave nothing back; a job that has outlived more of them has failed.
_MOST_DEAD = 4


class Room:
    """Slots of one job's flavor: `max_concurrent_requests` holds for all jobs of it, in all workers.

    Args:
        check: Raises when nothing is to be waited for any longer.
    """

    def __init__(self, means: Means, lease: Lease, recipe: Recipe, check: Check) -> None:
        self._limiter = means.limiter
        self._bell = means.bell
        self._lease = lease
        self._lease_s = means.times.request_s + _LEASE_BEYOND_S
        self._check = check
        limit = recipe.settings.max_concurrent_requests
        self._name = f"slots:flavor:{recipe.flavor_id}"
        self._rules = None if limit is None else Rules(slots=(Slots("flavor.concurrent", self._name, limit),))

    async def enter(self, step: str) -> Reservation | None:
        """Wait for a slot; `None`: none is needed."""
        rules = self._rules
        if rules is None:
            return None
        self._free_dead(step, rules)
        ask = self._ask(step, self._lease.fence, rules)
        while True:
            self._check()
            try:
                decision, _ = await self._limiter.reserve(ask)
            except StoreAwayError:
                await asyncio.sleep(_POLL_S)
                continue
            if decision.allowed:
                return Reservation(ask, 0)
            await self._bell.wait(self._name, _POLL_S)

    def leave(self, reservation: Reservation | None) -> None:
        """Give a slot back."""
        if reservation is not None:
            self._limiter.settle(reservation, tokens=0, cost_nusd=0)
            self._bell.ring(self._name)

    def _ask(self, step: str, fence: int, rules: Rules) -> Ask:
        return Ask(f"{self._lease.job_id}/{fence}/{step}", rules, 0, 0, self._lease_s)

    def _free_dead(self, step: str, rules: Rules) -> None:
        """Give back what workers before this one held for the same question: they are gone, the slot is not."""
        fence = self._lease.fence
        for earlier in range(max(1, fence - _MOST_DEAD), fence):
            self._limiter.settle(Reservation(self._ask(step, earlier, rules), 0), tokens=0, cost_nusd=0)


class Purse:
    """What a job may still cost: no call begins that could pass its flavor's `max_cost_usd`.

    Args:
        recipe: Says the most, and what a token costs.
        spent_nusd: What the job has cost so far, in billionths of a dollar.
        check: Raises when nothing is to be waited for any longer.
    """

    def __init__(self, recipe: Recipe, spent_nusd: int, check: Check) -> None:
        self._recipe = recipe
        self._check = check
        self._spent_nusd = spent_nusd
        self._held_nusd = 0
        self._freed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether nothing has to be counted."""
        return self._recipe.settings.max_cost_usd is None or self._nusd(1, 1) is None

    @property
    def is_blind(self) -> bool:
        """Whether there is a most, and nobody knows what the model costs."""
        return self._recipe.settings.max_cost_usd is not None and self._nusd(1, 1) is None

    async def has_room(self, cost_nusd: int) -> bool:
        """Whether a call may begin now; if not, calls in flight have ended meanwhile, perhaps for less: ask again.

        Raises:
            MaxCostError: It would pass the most, whatever becomes of the others.
        """
        if self.is_open:
            return True
        most_usd = self._recipe.settings.max_cost_usd or 0.0
        left_nusd = most_usd * _NANO - self._spent_nusd - cost_nusd
        if left_nusd >= self._held_nusd:
            return True
        if left_nusd < 0:
            raise MaxCostError(
                f"The job has cost ${self._spent_nusd / _NANO:.6f}, and its next call may cost "
                f"${cost_nusd / _NANO:.6f}: more than the ${most_usd:.6f} that it may cost (max_cost_usd)."
            )
        self._freed.clear()
        try:
            async with asyncio.timeout(_POLL_S):
                await self._freed.wait()
        except TimeoutError:
            self._check()
        return False

    @contextmanager
    def holding(self, cost_nusd: int) -> Iterator[None]:
        """Keep room for a call in flight."""
        self._held_nusd += cost_nusd
        try:
            yield
        finally:
            self._held_nusd -= cost_nusd
            self._freed.set()

    def spend(self, exchange: Exchange) -> None:
        """Count what a call has cost."""
        self._spent_nusd += round((exchange.cost_usd or 0.0) * _NANO)

    def estimate(self, prompt_tokens: int, answer_tokens: int) -> int:
        """Give the most that a call can cost, in billionths of a dollar."""
        return self._nusd(prompt_tokens, answer_tokens) or 0

    def _nusd(self, prompt_tokens: int, answer_tokens: int) -> int | None:
        recipe = self._recipe
        if recipe.input_usd is None or recipe.output_usd is None:
            return None
        return round((prompt_tokens * recipe.input_usd + answer_tokens * recipe.output_usd) * _NANO)
