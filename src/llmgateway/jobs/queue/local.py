"""The queue of those who have no broker: the jobs of a process run in it, and every other process looks for itself."""

from collections.abc import Callable, Sequence


class LocalQueue:
    """Wakes whoever runs jobs in this process; nobody else hears of it before the next sweep."""

    def __init__(self) -> None:
        self._wake: Callable[[int], None] | None = None

    def listen(self, wake: Callable[[int], None]) -> None:
        """Call this from now on, with how many jobs there may be."""
        self._wake = wake

    async def announce(self, job_id: str) -> None:
        if self._wake is not None:
            self._wake(1)

    async def remind(self, job_ids: Sequence[str]) -> None:
        if job_ids and self._wake is not None:
            self._wake(len(job_ids))

    async def check(self) -> str | bool:
        return True

    async def close(self) -> None:
        """Nothing was opened."""
