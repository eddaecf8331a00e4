"""When each key was last used: noted in memory, and written down from time to time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from structlog.typing import FilteringBoundLogger

EVERY_S = 30.0
_LAST_S = 2.0

# Writes times by the ids of keys; raises an `OSError` when the database is away.
Touched = Callable[[Mapping[str, datetime]], Awaitable[None]]


class Used:
    """Notes uses for next to nothing: the last of each key is what is written.

    Args:
        touched: Writes them down.
        logger: Told of what is wrong with them; `None` is nobody.
        every_s: Seconds between two writings.
    """

    def __init__(
        self, touched: Touched, logger: FilteringBoundLogger | None = None, *, every_s: float = EVERY_S
    ) -> None:
        self._touched = touched
        self._logger = logger
        self._every_s = every_s
        self._times: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        """Note that a key was used now."""
        self._times[key_id] = time.perf_counter()

    async def run(self) -> None:
        """Write down for ever; cancel to end, and `close` for the rest."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.flush()

    async def flush(self) -> bool:
        """Write down what was noted; false while the database is away, and then it is kept for the next time."""
        times, self._times = self._times, {}
        if not times:
            return True
        at, now = time.perf_counter(), datetime.now(UTC)
        written = False
        try:
            await self._touched({key_id: now - timedelta(seconds=at - used) for key_id, used in times.items()})
            written = True
        except OSError:
            pass  # the storage tells that it is away
        except Exception:
            # Nobody's calls end because nobody knows when a key was used last.
            written = True
            if self._logger is not None:
                self._logger.exception("last_used_not_written", keys=len(times))
        finally:
            if not written:
                self._times = times | self._times
        return written

    async def close(self) -> None:
        """Write down the last, if it goes soon."""
        try:
            async with asyncio.timeout(_LAST_S):
                await self.flush()
        except TimeoutError:
            return
