"""What goes out in one turn of the event loop goes out together, at its end."""

import asyncio
from collections.abc import Callable
from typing import Any

# So that the first of many does not wait for all that the others are still to be given.
_MOST_WAITING = 16
_Step = tuple[Callable[[Any], None], Any]


class Turn:
    """Puts writing off until all that is ready has had its turn.

    To write wakes whoever sleeps at the other end, which costs more than the writing where both are on one machine; who
    is awake takes what follows without that. What was put off is in order among itself only: who writes past it, or
    closes what it goes to, calls `end` first, unless nothing waits.

    Attributes:
        is_due: Whether anything waits.
    """

    __slots__ = ("_after", "_before", "_waiting", "is_due")

    def __init__(self) -> None:
        self.is_due = False
        self._before: list[_Step] = []
        self._waiting: list[_Step] = []
        self._after: list[_Step] = []

    def put_off(self, write: Callable[[bytes], None], data: bytes) -> None:
        """Have something written soon, in the thread of the running loop."""
        if not self.is_due:
            self._soon()
        waiting = self._waiting
        waiting.append((write, data))
        if len(waiting) >= _MOST_WAITING:
            self.end()

    def before(self, do: Callable[[Any], None], given: Any) -> None:
        """Have something done before anything is written that is put off from now on."""
        if not self.is_due:
            self._soon()
        self._before.append((do, given))

    def after(self, do: Callable[[Any], None], given: Any) -> None:
        """Have something done once all is written that was put off until now."""
        if not self.is_due:
            self._soon()
        self._after.append((do, given))

    def end(self) -> None:
        """Do all of it now. What one of them raises is told to the loop: it is neither its caller's nor the others'."""
        self.is_due = False
        before, self._before = self._before, []
        waiting, self._waiting = self._waiting, []
        after, self._after = self._after, []
        for do, given in (*before, *waiting, *after):
            try:
                do(given)
            except Exception as fault:  # noqa: BLE001  whatever it is, the others are not to go without
                told = {"message": f"{do!r} failed at the end of a turn", "exception": fault}
                asyncio.get_running_loop().call_exception_handler(told)

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.end)
        self.is_due = True
