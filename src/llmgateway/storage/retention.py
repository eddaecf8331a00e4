"""Forgets old entries: in small batches, so that memory stays flat and nobody waits, by one process at a time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import anyio
from structlog.typing import FilteringBoundLogger

from llmgateway.storage.storage import Storage, StorageAwayError

_EVERY_S = 3600.0
_PAUSE_S = 0.05
_BATCH = 5000


def _now() -> datetime:
    return datetime.now(UTC)


class Retention:
    """Deletes what is older than so many days.

    Args:
        days: How long entries are kept; 0 is for ever.
    """

    def __init__(
        self,
        storage: Storage,
        days: int,
        logger: FilteringBoundLogger,
        *,
        batch: int = _BATCH,
        pause_s: float = _PAUSE_S,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._storage = storage
        self._days = days
        self._logger = logger
        self._batch = batch
        self._pause_s = pause_s
        self._now = now

    async def run(self) -> None:
        """Look every hour, for ever; cancel to end."""
        if self._days <= 0:
            return
        await self._storage.opened.wait()
        while True:
            try:
                await self.sweep()
            except StorageAwayError as error:
                self._logger.debug("ledger_sweep_failed", reason=str(error))
            await anyio.sleep(_EVERY_S)

    async def sweep(self) -> int:
        """Delete all that is too old; returns how many. Nothing while another process does.

        Raises:
            StorageAwayError: What was deleted so far stays so.
        """
        deleted = 0
        async with self._storage.turn("retention") as mine:
            while mine:
                count = await self._storage.delete_before(self._now() - timedelta(days=self._days), self._batch)
                deleted += count
                if count < self._batch:
                    break
                await anyio.sleep(self._pause_s)
        if deleted:
            self._logger.info("ledger_swept", deleted=deleted, older_than_days=self._days)
        return deleted
