"""News within one process."""

import asyncio


class MemoryBell:
    """Wakes whoever waits in this process."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def ring(self, name: str) -> None:
        for future in self._waiting.pop(name, ()):
            if not future.done():
                future.set_result(None)

    def ring_all(self) -> None:
        """Wake everybody: nobody knows what was missed."""
        for name in list(self._waiting):
            self.ring(name)

    async def wait(self, name: str, timeout_s: float) -> bool:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, set()).add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            self._forget(name, future)
        return True

    def _forget(self, name: str, future: "asyncio.Future[None]") -> None:
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[name]  # names are many: one for each call that somebody waits for
