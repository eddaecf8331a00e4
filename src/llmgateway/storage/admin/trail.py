"""Deeds that requests do, on their way to the audit log: nobody waits for the database, and it may be away a while."""

from asyncio import Event
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice

import anyio
from structlog.typing import FilteringBoundLogger

from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import Deed

_MOST_WAITING = 10_000
_BATCH = 500
_TOGETHER_S = 0.2  # so that one transaction takes many
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
_FAREWELL_S = 2.0


class Trail:
    """Writes deeds down in the order they were done, in batches.

    A batch whose commit was not confirmed is written again: a deed may stand there twice, rather than not at all.

    Args:
        dropped: Deeds that were lost, because too many waited or because they were no JSON.
    """

    def __init__(self, admin_storage: AdminStorage, logger: FilteringBoundLogger) -> None:
        self.dropped = 0
        self._write: Callable[[list[Deed]], Awaitable[None]] = admin_storage.note
        self._logger = logger
        self._waiting: deque[Deed] = deque()
        self._news = Event()
        self._full = False

    @property
    def waiting(self) -> int:
        """How many are not written yet."""
        return len(self._waiting)

    def note(self, deed: Deed) -> None:
        """Take a deed; never waits and never fails."""
        if len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            if not self._full:
                self._full = True
                self._logger.error("audit_dropped", waiting=_MOST_WAITING, effect="deeds are lost until it is written")
            return
        self._waiting.append(deed)
        self._news.set()

    async def run(self) -> None:
        """Write for ever; cancel to end."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._news.wait()
            await anyio.sleep(_TOGETHER_S)
            try:
                await self._write_all()
            except OSError:
                # The storage has logged it.
                await anyio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                pause_s = _FIRST_PAUSE_S

    async def close(self) -> None:
        """Write what is there if that is soon done; `run` has ended."""
        try:
            with anyio.move_on_after(_FAREWELL_S):
                await self._write_all()
        except OSError as error:
            self._logger.warning("audit_not_written", reason=str(error))
        if self._waiting:
            self._logger.error("audit_dropped", waiting=len(self._waiting), effect="deeds are lost")
            self.dropped += len(self._waiting)

    async def _write_all(self) -> None:
        self._news.clear()
        try:
            while self._waiting:
                await self._write_some(list(islice(self._waiting, _BATCH)))
        finally:
            if self._waiting:
                self._news.set()

    async def _write_some(self, batch: list[Deed]) -> None:
        """Write the first of those that wait, and let go of them once they are written."""
        try:
            await self._write(batch)
        except ValueError:
            if len(batch) > 1:
                await self._write_some(batch[: len(batch) // 2])
                return
            self.dropped += 1
            # Without the error, whose text may quote the details.
            self._logger.error("audit_refused", action=batch[0].action, reason="its details are no JSON")  # noqa: TRY400
        for _ in batch:
            self._waiting.popleft()
        self._full = False
