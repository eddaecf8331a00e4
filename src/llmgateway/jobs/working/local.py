"""Jobs as tasks of this process's event loop, woken in it."""

import asyncio
from collections.abc import Awaitable, Callable

from anyio.abc import TaskGroup
from structlog.typing import FilteringBoundLogger


class LocalConsumers:
    """So many tasks; one that has found a job looks for another after it, until there is none.

    Args:
        run_next: Claims the most urgent job and runs it to its end; false when there is none.
    """

    def __init__(self, run_next: Callable[[], Awaitable[bool]], threads: int, logger: FilteringBoundLogger) -> None:
        self._run_next = run_next
        self._threads = threads
        self._logger = logger
        # A call for each task at most: whoever is awake already looks again by himself.
        self._calls: asyncio.Queue[None] = asyncio.Queue(threads)
        self._stopped = False

    def start(self, group: TaskGroup) -> None:
        for _ in range(self._threads):
            group.start_soon(self._work)

    def wake(self, count: int) -> None:
        for _ in range(min(count, self._threads - self._calls.qsize())):
            self._calls.put_nowait(None)

    def stop(self) -> None:
        self._stopped = True

    async def close(self) -> None:
        """Nothing was taken."""

    async def _work(self) -> None:
        while True:
            await self._calls.get()
            while not self._stopped and await taken(self._run_next, self._logger):
                pass


async def taken(run_next: Callable[[], Awaitable[bool]], logger: FilteringBoundLogger) -> bool:
    """Run the next job; whatever goes wrong, whoever runs jobs lives on, and a sweep calls again."""
    try:
        return await run_next()
    except OSError:
        return False  # the database is away, which it has told itself
    except Exception:
        logger.exception("job_run_broke", effect="another try follows when its lease is over")
        return False
