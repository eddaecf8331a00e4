import time

import anyio

from llmgateway.telemetry.metrics.lag import watch_lag


async def test_a_blocked_loop_is_seen() -> None:
    seen: list[float] = []
    enough = anyio.Event()

    def look(lag_s: float) -> None:
        seen.append(lag_s)
        if len(seen) == 2:
            enough.set()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: watch_lag(look, every_s=0.01))
        group.start_soon(_block)
        with anyio.fail_after(5):
            await enough.wait()
        group.cancel_scope.cancel()

    assert max(seen) >= 0.05
    assert min(seen) >= 0.0


async def _block() -> None:
    await anyio.lowlevel.checkpoint()
    time.sleep(0.1)  # noqa: ASYNC251  the very fault that is to be seen
