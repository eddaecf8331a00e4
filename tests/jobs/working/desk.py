"""Jobs that wait, as whoever runs them sees it: each call takes the first, and holds it until it may go on."""

from collections import deque
from collections.abc import Callable, Iterable

import anyio


class Desk:
    """Stands for the database and the run together; what is taken once is gone."""

    def __init__(self, jobs: Iterable[str] = (), *, held: bool = True) -> None:
        self.waiting = deque(jobs)
        self.faults: list[Exception] = []
        self.calls = 0
        self.now: list[str] = []
        self.done: list[str] = []
        self.most_at_once = 0
        self._going = anyio.Event()
        self._changed = anyio.Event()
        if not held:
            self._going.set()

    async def run_next(self) -> bool:
        self.calls += 1
        self._tell()
        if self.faults:
            raise self.faults.pop(0)
        if not self.waiting:
            return False
        job = self.waiting.popleft()
        self.now.append(job)
        self.most_at_once = max(self.most_at_once, len(self.now))
        self._tell()
        try:
            await self._going.wait()
        finally:
            self.now.remove(job)
        self.done.append(job)
        self._tell()
        return True

    def go_on(self) -> None:
        self._going.set()

    async def running(self, count: int) -> None:
        """Wait until so many run."""
        await self._until(lambda: len(self.now) >= count)

    async def ended(self, count: int) -> None:
        """Wait until so many have run to their end."""
        await self._until(lambda: len(self.done) >= count)

    async def called(self, times: int) -> None:
        """Wait until the next job was asked for so many times."""
        await self._until(lambda: self.calls >= times)

    async def _until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not holds():
                await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
