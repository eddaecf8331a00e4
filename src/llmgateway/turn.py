"""What goes out in one turn of the event loop goes out together, at its end."""

import asyncio
from collections.abc import Callable

# So that the first of many does not wait for all that the others are still to be given.
_MOST_WAITING = 16


class Turn:
    """Puts writing off until all that is ready has had its turn.

    To write wakes whoever sleeps at the other end, which costs more than the writing where both are on one machine; who
    is awake takes what follows without that. What was put off is in order among itself only: who writes past it, or
    closes what it goes to, calls `end` first.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[bytes], None], bytes]] = []

    def put_off(self, write: Callable[[bytes], None], data: bytes) -> None:
        """Have something written soon, in the thread of the running loop. `write` raises nothing."""
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_soon(self.end)
        waiting.append((write, data))
        if len(waiting) >= _MOST_WAITING:
            self.end()

    def end(self) -> None:
        """Write all of it now."""
        waiting, self._waiting = self._waiting, []
        each = iter(waiting)
        try:
            for write, data in each:
                write(data)
        except BaseException:
            # One that fails against its word is not to silence the others.
            self._waiting = [*each, *self._waiting]
            asyncio.get_running_loop().call_soon(self.end)
            raise
