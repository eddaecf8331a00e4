"""Notes within one process."""

import time
from collections.abc import Callable, Mapping

from llmgateway.stores.base import Note


class MemoryBoard:
    """Notes that this process reads.

    Args:
        clock: Seconds, from anywhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._topics: dict[str, dict[str, tuple[bytes, float]]] = {}

    def post(self, topic: str, name: str, text: bytes, ttl_s: float, *, instead_of: bytes | None = None) -> None:
        notes, now = self._topics.setdefault(topic, {}), self._clock()
        there, until = notes.get(name, (None, 0.0))
        if instead_of is None or until <= now or there == instead_of:
            notes[name] = text, now + ttl_s

    async def read(self, topic: str) -> Mapping[str, Note]:
        return self.look(topic)

    def look(self, topic: str) -> dict[str, Note]:
        """Read all notes of a topic, without waiting; those that are over are forgotten."""
        now = self._clock()
        notes = self._topics[topic] = {
            name: note for name, note in self._topics.get(topic, {}).items() if note[1] > now
        }
        return {name: Note(text, until - now) for name, (text, until) in notes.items()}
