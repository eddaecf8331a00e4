"""Waits for what other tasks do."""

from collections.abc import Callable

import anyio


async def until(seen: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until something is so."""
    with anyio.fail_after(within_s):
        while not seen():  # noqa: ASYNC110  what is waited for has no event
            await anyio.sleep(0.005)
