"""A time limit on the running task: what `asyncio.timeout` does, for half its cost, and able to look again."""

import asyncio
import math
import time
from collections.abc import Callable

from llmgateway.errors import ProviderTimeoutError

# The loop's clock counts whole milliseconds.
_CLOCK_S = 0.002
# As many as are under way at once, on a busy day.
_MOST_RESTING = 1024


class TimeLimit:
    """Cancels the task that made it, or set it anew, unless stopped in time.

    Args:
        after_s: Seconds until it looks for the first time; `None` never looks.
        verdict: Called then: a text ends the task with that reason, a number looks again after so many seconds.
    """

    __slots__ = ("_cancelling", "_rings_at", "_timer", "_verdict", "due", "loop", "reason", "task")

    def __init__(self, after_s: float | None, verdict: Callable[[], str | float]) -> None:
        self.loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self.set(math.inf if after_s is None else time.perf_counter() + after_s, verdict)

    def set(self, due: float, verdict: Callable[[], str | float]) -> None:
        """Begin, or begin again after `rest`, with the timer that is still there if it does not come too late.

        Args:
            due: When it looks for the first time, in `time.perf_counter` seconds.
        """
        self._verdict: Callable[[], str | float] | None = verdict
        self.task = task = asyncio.current_task(self.loop)
        self._cancelling = 0 if task is None else task.cancelling()
        self.reason: str | None = None
        self.due = due
        if due < self._rings_at:
            self._ring_at(due)

    def rest(self, resting: list["TimeLimit"]) -> None:
        """Stop, and stay among these for the next call, with the timer: to make one costs more than all else here."""
        if len(resting) >= _MOST_RESTING:
            self.stop()
            return
        self._verdict = self.task = None
        resting.append(self)

    def stop(self) -> None:
        """Look no more; safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._rings_at = math.inf
        # Whoever is asked for it may hold this limit, and a large body as well: both would wait for the collector. So
        # would a task and the error that it ends with, whose traceback holds this limit.
        self._verdict = self.task = None

    def cancelled(self) -> ProviderTimeoutError | None:
        """In `except CancelledError`: the error to raise when this limit alone is what cancelled, else `None`."""
        if self.reason is None or self.task is None:
            return None
        reason, self.reason = self.reason, None
        # Somebody else cancelled in the same moment: a client that left must not get another attempt.
        return None if self.task.uncancel() > self._cancelling else ProviderTimeoutError(reason)

    def _ring_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = due
        self._timer = self.loop.call_later(max(0.0, due - time.perf_counter()), self._look)

    def _look(self) -> None:
        self._timer = None
        self._rings_at = math.inf
        if self._verdict is None:
            return
        if self.due - time.perf_counter() > _CLOCK_S:
            # The timer was made for an earlier one.
            if self.due < math.inf:
                self._ring_at(self.due)
            return
        verdict = self._verdict()
        if isinstance(verdict, str):
            self.reason = verdict
            if self.task is not None:
                self.task.cancel()
        else:
            self.due = time.perf_counter() + verdict
            self._ring_at(self.due)
