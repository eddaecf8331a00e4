"""How late the event loop is: what makes every request wait and shows in no request's own figures."""

import asyncio
import time
from collections.abc import Callable

EVERY_S = 0.5


async def watch_lag(seen: Callable[[float], object], *, every_s: float = EVERY_S) -> None:
    """Tell, for ever, how many seconds later than due this task woke; cancel to end."""
    while True:
        # The loop's own clock counts whole milliseconds.
        due = time.perf_counter() + every_s
        await asyncio.sleep(every_s)
        seen(max(0.0, time.perf_counter() - due))
