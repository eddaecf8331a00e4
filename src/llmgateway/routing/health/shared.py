"""Which deployments rest, known to all processes that share a Redis within half a second.

A rest hangs on the store's board for as long as it lasts, so that Redis's own clock says when it is over, and no
process needs to have the right time. Each process then tries a deployment by itself, with one call, and whoever finds
that it works again closes it for all. A note that is gone says nothing: a Redis that has lost all its notes closes no
circuit. What was heard is not told again.
"""

import random
from collections import OrderedDict

import msgspec
from msgspec import Struct

from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Cause, Change, Health
from llmgateway.stores.base import Note, Store, StoreAwayError

BELL = TOPIC = "health"
_EVERY_S = 0.5
# Whoever has not looked for so long finds out by a call of his own.
_CLOSED_S = 30.0
_MOST_HEARD = 8192


class _Told(Struct, frozen=True, gc=False):
    """A note: one rest, by its number, or that this rest is over."""

    rest: int
    cause: Cause | None = None


class _Heard(Struct, gc=False):
    """The last that is known of a deployment; `until` by this process's clock."""

    text: bytes
    told: _Told
    until: float


_read = msgspec.json.Decoder(_Told).decode
_write = msgspec.json.Encoder().encode


class SharedHealth:
    """Tells of this process's rests and closings, and takes over those of others. `run` must run beside it.

    Args:
        every_s: How often it looks when no bell rings.
    """

    def __init__(self, book: HealthBook, store: Store, *, every_s: float = _EVERY_S) -> None:
        self._book = book
        self._store = store
        self._every_s = every_s
        # By id, the oldest first: a deployment of which another process heard first may be met here later.
        self._heard: OrderedDict[str, _Heard] = OrderedDict()
        book.listeners.append(self._tell)
        book.found = self._met

    async def run(self) -> None:
        """Look for ever, and at once when another process has something to tell; cancel to end."""
        if not self._store.shared:
            return
        while True:
            await self.look()
            await self._store.bell.wait(BELL, self._every_s)

    async def look(self) -> None:
        """Take over what others told; while the store is away everybody finds out by himself."""
        try:
            notes = await self._store.board.read(TOPIC)
        except StoreAwayError:
            return
        for name, note in notes.items():
            heard = self._heard.get(name)
            if heard is None or heard.text != note.text:
                self._hear(name, note, heard)

    def _tell(self, health: Health, change: Change) -> None:
        if not self._store.shared:
            return
        heard = self._heard.get(health.id)
        if change == "opened":
            left_s = health.until - self._book.clock()
            told, ttl_s, instead_of = _Told(random.getrandbits(52), health.cause), left_s, None
        elif heard is not None:
            # Only this rest is over: another that somebody told of meanwhile is not.
            told, ttl_s, instead_of = _Told(heard.told.rest), _CLOSED_S, heard.text
        else:
            return
        text = _write(told)
        self._note(health.id, _Heard(text, told, health.until))
        self._store.board.post(TOPIC, health.id, text, ttl_s, instead_of=instead_of)
        self._store.bell.ring(BELL)

    def _hear(self, name: str, note: Note, before: _Heard | None) -> None:
        try:
            told = _read(note.text)
        except msgspec.DecodeError:
            return  # of another version of the gateway
        known = before is not None and before.told.rest == told.rest
        if before is not None and known and before.told.cause is None:
            return  # read just before it was closed here
        now = self._book.clock()
        self._note(name, _Heard(note.text, told, now + note.left_s))
        health = next((one for one in self._book if one.id == name), None)
        if health is None:
            return
        if told.cause is not None:
            health.rest_until(now, now + note.left_s, told.cause)
        elif known:
            health.close_too(now)

    def _met(self, health: Health) -> None:
        heard = self._heard.get(health.id)
        if heard is not None and heard.told.cause is not None:
            health.rest_until(self._book.clock(), heard.until, heard.told.cause)

    def _note(self, name: str, heard: _Heard) -> None:
        self._heard[name] = heard
        self._heard.move_to_end(name)
        if len(self._heard) > _MOST_HEARD:
            self._heard.popitem(last=False)
