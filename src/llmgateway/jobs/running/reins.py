"""Whether a run goes on, and what is ended when it does not."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

# `stop`: no further call; `let_go`: not even those in flight; `lost`: the job is no longer this worker's.
Why = Literal["stop", "let_go", "lost"]
_HARDER: tuple[Why, ...] = ("stop", "let_go", "lost")
# How soon somebody who waits notices that he need not.
_SLICE_S = 0.25


class PulledError(Exception):
    """The run ends here, and its job does not."""


class Reins:
    """Held by the runner, felt by everything that a run does."""

    def __init__(self) -> None:
        self.why: Why | None = None
        self._calls: set[asyncio.Task[object]] = set()

    def pull(self, why: Why) -> None:
        """End the run; a harder reason replaces another one. Calls in flight are ended unless it is a mere stop."""
        if self.why is not None and _HARDER.index(why) <= _HARDER.index(self.why):
            return
        self.why = why
        if why != "stop":
            calls, self._calls = self._calls, set()
            for task in calls:
                task.cancel()

    @property
    def is_off(self) -> bool:
        """Whether nothing may be waited for any longer, not even what is paid for."""
        return self.why is not None and self.why != "stop"

    def check(self) -> None:
        """Go on only if nobody has pulled. Raises: PulledError."""
        if self.why is not None:
            raise PulledError

    def hold(self) -> None:
        """Go on even after a mere stop. Raises: PulledError."""
        if self.is_off:
            raise PulledError

    async def pause(self, delay_s: float, check: Callable[[], None] | None = None) -> None:
        """Wait, though not when the run ends. Raises: PulledError.

        Args:
            check: Raises when it is for nothing; `None` is this one's own.
        """
        check = check or self.check
        while delay_s > 0:
            check()
            await asyncio.sleep(min(delay_s, _SLICE_S))
            delay_s -= _SLICE_S
        check()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Let the calls made in here be ended from outside. Raises: PulledError: they were."""
        self.check()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("there is no task to cancel")
        self._calls.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # Whoever cancels for another reason cancels for good.
            if task in self._calls or task.uncancel() > 0:
                raise
            raise PulledError from None
        finally:
            self._calls.discard(task)
