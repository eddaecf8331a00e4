"""A time limit on the running task: what `asyncio.timeout` does, for half its cost, and able to look again."""

import asyncio
from collections.abc import Callable

from llmgateway.errors import ProviderTimeoutError


class TimeLimit:
    """Cancels the task that made it unless stopped in time.

    Args:
        after_s: Seconds until it looks for the first time; `None` never looks.
        verdict: Called then: a text ends the task with that reason, a number looks again after so many seconds.
    """

    __slots__ = ("_cancelling", "_timer", "_verdict", "loop", "reason", "task")

    def __init__(self, after_s: float | None, verdict: Callable[[], str | float]) -> None:
        self.loop = asyncio.get_running_loop()
        self._verdict: Callable[[], str | float] | None = verdict
        self.task = asyncio.current_task(self.loop)
        self._cancelling = 0 if self.task is None else self.task.cancelling()
        self.reason: str | None = None
        self._timer = None if after_s is None else self.loop.call_later(after_s, self._look)

    def stop(self) -> None:
        """Look no more; safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
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

    def _look(self) -> None:
        if self._verdict is None:
            return
        verdict = self._verdict()
        if isinstance(verdict, str):
            self.reason = verdict
            if self.task is not None:
                self.task.cancel()
        else:
            self._timer = self.loop.call_later(verdict, self._look)
