"""What of a budget is spent: the store counts it, and the ledger, which outlives the store, says where to begin."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from llmgateway.errors import GatewayError
from llmgateway.gateway.purses import BOUNDLESS
from llmgateway.ids import new_id
from llmgateway.stores.base import Ask, Purse, Reservation, Rules, Store, StoreAwayError

Scope = Literal["key", "organization"]
# What a key or an organization spent since then, in billionths of a dollar. Raises: GatewayError, OSError.
Ledger = Callable[[Scope, str, datetime], Awaitable[int]]
# A ledger that did not answer is left alone for so long: those who come meanwhile need not wait as well.
_REST_S = 1.0
_WITHIN_S = 5.0
_REREAD_S = 5.0


class LedgerSilentError(OSError):
    """What was spent so far cannot be found out now."""


class Spending:
    """Tells the store what the ledger knows.

    Args:
        ledger: Counts what has been written down until now.
    """

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._under_way: dict[str, asyncio.Event] = {}
        self._asked: dict[str, Purse] | None = None
        self._silent_until = 0.0

    async def seed(self, purses: Iterable[Purse]) -> None:
        """Tell the store what was spent of purses that it does not know. Of many at once only the first asks.

        Raises:
            LedgerSilentError: The ledger does not say.
            StoreAwayError: The store does not listen.
        """
        for purse in purses:
            event = self._under_way.get(purse.key)
            if event is not None:
                await event.wait()
                continue
            self._under_way[purse.key] = event = asyncio.Event()
            try:
                await self._store.limiter.seed(purse, await self._spent(purse))
            finally:
                del self._under_way[purse.key]
                event.set()

    def asked(self, purses: Iterable[Purse]) -> None:
        """Note that a call is charged to these, for `reread`."""
        if self._asked is not None:
            for purse in purses:
                self._asked[purse.key] = purse

    async def reread(self, needed: Callable[[], bool], every_s: float = _REREAD_S) -> None:
        """Tell a store that no other process sees what the others spent, again and again; cancel to end.

        So a budget is passed by at most what the other processes spend within `every_s`.

        Args:
            needed: Whether other processes count for themselves at this moment.
        """
        self._asked = {}
        while True:
            await asyncio.sleep(every_s)
            asked, self._asked = self._asked, {}
            if not needed():
                continue
            for purse in asked.values():
                try:
                    await self._catch_up(purse, await self._spent(purse))
                except (StoreAwayError, LedgerSilentError):
                    self._asked = asked | self._asked
                    break

    async def _spent(self, purse: Purse) -> int:
        if time.perf_counter() < self._silent_until:
            raise LedgerSilentError("the ledger does not answer")
        try:
            async with asyncio.timeout(_WITHIN_S):
                return await self._ledger(purse.scope, purse.owner, datetime.fromtimestamp(purse.starts_at, UTC))
        except (GatewayError, OSError) as error:
            self._silent_until = time.perf_counter() + _REST_S
            raise LedgerSilentError(str(error)) from error

    async def _catch_up(self, purse: Purse, spent_nusd: int) -> None:
        """Count what others spent, as a call that cost the difference and that no budget refuses."""
        limiter = self._store.limiter
        known_nusd = (await limiter.look(Rules(purses=(purse,)))).spent_nusd[0]
        if known_nusd is None or known_nusd >= spent_nusd:
            return
        difference_nusd = spent_nusd - known_nusd
        open_purse = msgspec.structs.replace(purse, hard_nusd=BOUNDLESS)
        ask = Ask(new_id("req"), Rules(purses=(open_purse,)), 0, difference_nusd, _REREAD_S)
        decision, _ = await limiter.reserve(ask)
        if decision.allowed:
            limiter.settle(Reservation(ask, 0), tokens=0, cost_nusd=difference_nusd)
