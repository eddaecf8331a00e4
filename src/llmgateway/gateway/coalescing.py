"""Identical questions at the same time make one upstream call: one leads, the others wait for its answer.

Within a process those who wait are told at once; between processes the leader holds a claim in the shared store under a
lease, so that the death of its process frees the rest. A process claims what it asks in the round trip that finds
nothing kept, before it asks here.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from llmgateway.errors import ProviderTimeoutError
from llmgateway.gateway.answers.entry import Kept
from llmgateway.ids import new_id
from llmgateway.stores.base import Claim, StoreAwayError, Values

# What a claim says once its leader has ended: the answer is kept, or it was none to keep.
_KEPT, _NOTHING = b"kept", b"nothing"
_NOTES = frozenset((_KEPT, _NOTHING))
_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.02, 0.2
# Longer than anybody's poll, and than a question takes that missed the answer by a moment.
_NOTE_S = 2.0
# A leader whose client has left frees the claim by letting it run out.
_LEFT_S = 0.05
# A leader whose own client does not read holds nobody up for longer than this.
_STALLED_S = 2.0
_ENDLESS_S = 3600.0

Read = Callable[[bytes], "Kept | None"]


class Passing(Protocol):
    """A stream that passes: whether it waits for its upstream, not its reader, and how many chunks have come."""

    waits: bool

    @property
    def moves(self) -> int: ...


class Lead(Struct, eq=False):
    """The right, and the duty, to ask upstream for all who wait: ends in `land`, `fail` or `leave`, and `done`.

    Without a flight nobody waits, and all of that does nothing. `stream` is its answer while that passes, so that a
    client that does not read holds nobody up.
    """

    flight: "_Flight | None" = None
    stream: Passing | None = None

    def watch(self, stream: Passing) -> None:
        """Say that the answer passes as a stream."""
        if self.flight is not None:  # which lets go of it at its end
            self.stream = stream

    def standing(self) -> int | None:
        """How many chunks its client has read, when it is the client that is waited for; else `None`."""
        return None if self.stream is None or self.stream.waits else self.stream.moves

    def land(self, kept: Kept) -> None:
        """Give the answer to all who wait, and to all who come until `done`."""
        flight = self.flight
        if flight is not None and flight.kept is None:
            flight.kept = kept
            if flight.waiting:
                flight.tell(kept)

    def fail(self) -> None:
        """Say that there is no answer to share: each asks for itself. After `land` it does nothing."""
        flight = self.flight
        if flight is not None and flight.kept is None and flight.lead is self:
            flight.tell(None)
            self.done(kept=False)

    def leave(self) -> None:
        """Say that nobody asks any more: one of those who wait takes over. After `land` it does nothing."""
        if self.flight is not None:
            self.flight.leave(self)

    def done(self, *, kept: bool) -> None:
        """Say whether the answer can be read from the store now; a second call does nothing."""
        flight = self.flight
        if flight is not None and (flight.lead is self or (kept and flight.kept is not None)):
            flight.flights.gone(flight, _KEPT if kept else _NOTHING)


Joined = Lead | Kept | None


class Flights:
    """The questions that are being asked right now.

    Args:
        values: Where claims are kept.
        read: Reads a kept answer.
        shared: Whether other processes see those values; else there are no claims. `None` is that none ever does.
        lease_s: Seconds after which a claim that nobody renews is free.
    """

    def __init__(
        self, values: Values, read: Read, *, shared: Callable[[], bool] | None = None, lease_s: float = 5.0
    ) -> None:
        self._values = values
        self._read = read
        self._shared = shared
        self._lease_s = lease_s
        self._flights: dict[str, _Flight] = {}

    def claim(self, key: str, name: str) -> Claim | None:
        """Give the claim to an answer that is to be taken before `join`; `None` where there are none."""
        return Claim("flight:" + key, name.encode(), self._lease_s) if self._is_shared() else None

    def release(self, claim: Claim) -> None:
        """Give a claim back, if it was taken at all, for nobody will join."""
        self._values.release(claim.key, claim.holder)

    def lead(self, key: str) -> Lead | None:
        """Lead at once, where nobody else asks this and there are no other processes to be heard; else `join`."""
        if key in self._flights or (self._shared is not None and self._shared()):
            return None
        lead = Lead()
        lead.flight = self._flights[key] = _Flight(key, self, lead)
        return lead

    async def join(
        self, key: str, deadline: float | None = None, *, name: str | None = None, holder: bytes | None = None
    ) -> Joined:
        """Lead, or wait for whoever leads: gives the leadership, the answer, or `None`: ask for yourself.

        Args:
            key: Of the answer.
            deadline: `time.perf_counter` seconds.
            name: Of the one who asks, as in its claim: no other has it.
            holder: Who holds the claim, if that was learned when no answer was kept.

        Raises:
            ProviderTimeoutError: The deadline passed while waiting.
        """
        mine = None if name is None else name.encode()
        flight = self._flights.get(key)
        if flight is None:
            lead = Lead()
            flight = lead.flight = self._flights[key] = _Flight(key, self, lead)
            if holder in _NOTES:
                return lead
            return await self._claimed(flight, lead, deadline, mine, holder)
        if holder is not None and holder == mine:
            flight.claim = mine  # whoever leads it need not wait for another process any more
        if flight.kept is not None:
            return flight.kept
        joined = await flight.follow(deadline)
        if isinstance(joined, Lead) and flight.claim is None:
            return await self._claimed(flight, joined, deadline, mine, None)
        return joined

    async def run(self) -> None:
        """Renew the claims of this process, for ever; cancel to end."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            for flight in list(self._flights.values()):
                if flight.claim is not None and not flight.stalled():
                    await self._renew(flight, flight.claim)

    def __len__(self) -> int:
        return len(self._flights)

    async def _renew(self, flight: "_Flight", claim: bytes) -> None:
        try:
            await self._values.renew("flight:" + flight.key, claim, self._lease_s)
        except StoreAwayError:
            # Whoever sees no claim asks for itself: dearer, and right.
            return

    async def _claimed(
        self, flight: "_Flight", lead: Lead, deadline: float | None, mine: bytes | None, holder: bytes | None
    ) -> Joined:
        if holder is not None and holder == mine:
            flight.claim = mine
            return lead
        if not self._is_shared():
            return lead
        try:
            joined = await self._wait(flight, lead, deadline, mine or new_id("flight").encode(), holder)
        except BaseException:
            lead.leave()
            raise
        if isinstance(joined, Kept):
            lead.land(joined)
            lead.done(kept=True)
        return joined

    async def _wait(
        self, flight: "_Flight", lead: Lead, deadline: float | None, mine: bytes, holder: bytes | None
    ) -> Lead | Kept:
        """Claim the flight among processes, or wait for the one that has."""
        wait_s, first = _SHORTEST_POLL_S, holder is None
        key = "flight:" + flight.key
        try:
            if holder is None:
                holder = await self._values.add(key, mine, self._lease_s)
            while holder is not None and flight.claim is None:
                if holder in _NOTES:
                    return (await self._kept(flight.key) if holder == _KEPT else None) or lead
                first = False
                await asyncio.sleep(min(wait_s, _left_s(deadline)))
                wait_s = min(wait_s * 1.5, _LONGEST_POLL_S)
                holder = await self._values.add(key, mine, self._lease_s)
            flight.claim = flight.claim or mine
            # Its leader may have come to an end, and its note as well, between two looks.
            return lead if first else await self._kept(flight.key) or lead
        except StoreAwayError:
            return lead

    async def _kept(self, key: str) -> Kept | None:
        value = await self._values.get(key)
        return None if value is None else await asyncio.to_thread(self._read, value)

    def _is_shared(self) -> bool:
        return self._shared is not None and self._shared()

    def gone(self, flight: "_Flight", note: bytes | None) -> None:
        """Forget a flight, and tell other processes how it ended; `None` is that its leader left."""
        # Each of those who waited holds the lead: with it the answer would wait for the collector.
        lead = flight.lead
        lead.flight = lead.stream = None
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        claim = flight.claim
        if claim is not None:
            flight.claim = None
            value, ttl_s = (claim, _LEFT_S) if note is None else (note, _NOTE_S)
            self._values.put("flight:" + flight.key, value, ttl_s)


class _Flight(Struct, eq=False):
    """One question: who leads, who waits, and the answer once it is there."""

    key: str
    flights: Flights
    lead: Lead
    kept: Kept | None = None
    claim: bytes | None = None
    waiting: dict["asyncio.Future[Joined]", Literal[True]] = {}
    _seen: int | None = None

    async def follow(self, deadline: float | None) -> Joined:
        waiter: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        self.waiting[waiter] = True
        try:
            while not waiter.done():
                lead, standing = self.lead, self.lead.standing()
                await asyncio.wait((waiter,), timeout=min(_STALLED_S, _left_s(deadline)))
                if not waiter.done() and standing is not None and lead is self.lead and standing == lead.standing():
                    self._hand_over()
        except BaseException:
            if waiter.done() and isinstance(chosen := waiter.result(), Lead):
                chosen.leave()
            raise
        finally:
            self.waiting.pop(waiter, None)
        return waiter.result()

    def stalled(self) -> bool:
        """Whether its leader's client has read nothing since the last look."""
        seen, self._seen = self._seen, self.lead.standing()
        return seen is not None and seen == self._seen

    def tell(self, kept: Kept | None) -> None:
        waiting, self.waiting = self.waiting, {}
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(kept)

    def leave(self, lead: Lead) -> None:
        if lead is self.lead and self.kept is None and not self._hand_over():
            self.flights.gone(self, None)

    def _hand_over(self) -> bool:
        """Let the first who still waits lead; whether there was one."""
        while self.waiting:
            waiter = next(iter(self.waiting))
            del self.waiting[waiter]
            if not waiter.done():
                self.lead.stream = None
                self.lead, self._seen = Lead(self), None
                waiter.set_result(self.lead)
                return True
        return False


def _left_s(deadline: float | None) -> float:
    """Seconds until the deadline. Raises: ProviderTimeoutError when it has passed."""
    if deadline is None:
        return _ENDLESS_S
    left_s = deadline - time.perf_counter()
    if left_s <= 0:
        raise ProviderTimeoutError("The same question was asked a moment before, and its answer did not come in time.")
    return left_s
