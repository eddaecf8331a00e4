"""The last exchanges, in memory: what a client asks about right after its answer is not in the database yet."""

from collections import deque
from collections.abc import Iterator

import msgspec

from llmgateway.storage.entry import LedgerEntry

_read = msgspec.json.Decoder(LedgerEntry).decode


class RecentEntries:
    """Keeps the last entries of this process, as the lines they are written as.

    It is written for every request and read for few: to look through all of it is cheaper than to keep an index, and a
    thousand lines cost the processor's cache less than a thousand entries with all that is in them.
    """

    def __init__(self, most: int = 1000) -> None:
        self._lines: deque[bytes] = deque(maxlen=most)
        self.extend = self._lines.extend

    def by_id(self, request_id: str) -> LedgerEntry | None:
        """Find an entry by the gateway's own id."""
        return next((entry for entry in self._with(request_id) if entry.id == request_id), None)

    def by_client_id(self, client_id: str) -> list[LedgerEntry]:
        """Find entries by what clients called them, the newest first: nothing keeps two from using the same id."""
        return [entry for entry in self._with(client_id) if entry.client_id == client_id]

    def _with(self, text: str) -> Iterator[LedgerEntry]:
        wanted = text.encode()
        return (_read(line) for line in reversed(self._lines) if wanted in line)
