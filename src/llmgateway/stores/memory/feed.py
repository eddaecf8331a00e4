"""Events within one process: the last of each topic, bounded, in memory."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

_MOST_OF_TOPIC = 1000
_MOST_BYTES = 16 * 1024 * 1024
_SWEPT_AT_ONCE = 2


class _Topic:
    __slots__ = ("events", "last", "size_bytes", "until")

    def __init__(self) -> None:
        self.events: deque[tuple[int, bytes]] = deque()
        self.last = 0
        self.size_bytes = 0
        self.until = 0.0


class MemoryFeed:
    """A feed that this process reads. The topic that was longest silent is forgotten first, when there is no room.

    Args:
        clock: Seconds, from anywhere.
        max_bytes: Of all events together.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, max_bytes: int = _MOST_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._topics: OrderedDict[str, _Topic] = OrderedDict()
        self._news = asyncio.Event()

    def append(self, topic: str, number: int, body: bytes, ttl_s: float) -> None:
        now = self._clock()
        self._sweep(now)
        kept = self._topics.get(topic)
        if kept is None or kept.until <= now:
            self._forget(topic)
            kept = self._topics[topic] = _Topic()
        if number <= kept.last:
            return
        self._topics.move_to_end(topic)
        kept.last, kept.until = number, now + ttl_s
        kept.events.append((number, body))
        self._grow(kept, len(body))
        while len(kept.events) > _MOST_OF_TOPIC:
            self._grow(kept, -len(kept.events.popleft()[1]))
        while self._size_bytes > self._max_bytes and self._topics:
            self._forget(next(iter(self._topics)))
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def read(self, after: Mapping[str, int], timeout_s: float) -> Mapping[str, Sequence[tuple[int, bytes]]]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            news = self._news  # before the look: what is appended after it is heard
            if found := self._found(after):
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await news.wait()
            except TimeoutError:
                return {}

    def _found(self, after: Mapping[str, int]) -> dict[str, list[tuple[int, bytes]]]:
        now = self._clock()
        found = {}
        for topic, number in after.items():
            kept = self._topics.get(topic)
            if kept is not None and kept.last > number and kept.until > now:
                found[topic] = [event for event in kept.events if event[0] > number]
        return found

    def _sweep(self, now: float) -> None:
        """Forget a topic or two whose time is over; those that were longest silent come first."""
        for topic in list(islice(self._topics, _SWEPT_AT_ONCE)):
            if self._topics[topic].until <= now:
                self._forget(topic)

    def _forget(self, topic: str) -> None:
        kept = self._topics.pop(topic, None)
        if kept is not None:
            self._size_bytes -= kept.size_bytes

    def _grow(self, kept: _Topic, by_bytes: int) -> None:
        kept.size_bytes += by_bytes
        self._size_bytes += by_bytes
