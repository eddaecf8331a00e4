import asyncio
import math
import time
import weakref

import pytest

from llmgateway.errors import ProviderTimeoutError
from llmgateway.routing.limit import TimeLimit


async def test_a_limit_ends_its_task_and_says_why() -> None:
    limit = TimeLimit(0.05, lambda: "too slow")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)

    error = limit.cancelled()
    assert isinstance(error, ProviderTimeoutError)
    assert error.message == "too slow"
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_a_stopped_limit_ends_nothing() -> None:
    limit = TimeLimit(0.01, lambda: "too slow")

    limit.stop()
    limit.stop()
    await asyncio.sleep(0.05)

    assert limit.cancelled() is None


async def test_a_verdict_may_be_to_look_again() -> None:
    verdicts: list[str | float] = ["too slow", 0.05, 0.05]
    limit = TimeLimit(0.0, verdicts.pop)
    started = time.perf_counter()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)

    assert time.perf_counter() - started >= 0.09
    assert limit.cancelled() is not None


@pytest.mark.parametrize("before_s", [0.01, 5.0, None])
async def test_a_limit_that_rested_can_be_set_anew_for_sooner_or_later(before_s: float | None) -> None:
    limit = TimeLimit(before_s, lambda: "too slow")
    limit.rest([])
    started = time.perf_counter()
    limit.set(started + 0.05, lambda: "too slow again")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)

    assert 0.04 < time.perf_counter() - started < 2
    error = limit.cancelled()
    assert error is not None
    assert error.message == "too slow again"


async def test_a_limit_set_for_later_is_not_looked_at_when_its_old_timer_rings() -> None:
    looked: list[float] = []
    limit = TimeLimit(0.01, lambda: "too slow")
    limit.rest([])
    started = time.perf_counter()

    def verdict() -> float:
        looked.append(time.perf_counter() - started)
        return 5.0

    limit.set(started + 0.06, verdict)
    await asyncio.sleep(0.15)
    limit.stop()

    assert len(looked) == 1
    assert looked[0] >= 0.055


async def test_only_so_many_limits_keep_their_timers() -> None:
    resting = [TimeLimit(None, lambda: "too slow")] * 1024
    limit = TimeLimit(0.01, lambda: "too slow")

    limit.rest(resting)

    assert limit not in resting
    await asyncio.sleep(0.03)
    assert limit.reason is None


async def test_a_limit_that_rests_ends_nothing_and_holds_nobody() -> None:
    def verdict() -> str:
        return "too slow"

    limit, held = TimeLimit(0.01, verdict), weakref.ref(verdict)
    limit.rest([])
    del verdict

    assert held() is None
    await asyncio.sleep(0.03)
    limit.set(math.inf, lambda: "too slow")
    await asyncio.sleep(0.01)
    assert limit.reason is None


async def test_a_limit_set_anew_without_a_time_is_none() -> None:
    limit = TimeLimit(0.01, lambda: "too slow")
    limit.rest([])
    limit.set(math.inf, lambda: "too slow")

    await asyncio.sleep(0.03)

    assert limit.reason is None


async def test_no_time_is_no_limit() -> None:
    limit = TimeLimit(None, lambda: "too slow")

    await asyncio.sleep(0.01)
    limit.stop()

    assert limit.reason is None


async def test_a_cancellation_from_elsewhere_is_not_the_limits() -> None:
    limit = TimeLimit(5, lambda: "too slow")
    current = asyncio.current_task()
    assert current is not None
    asyncio.get_running_loop().call_soon(current.cancel)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(1)

    assert limit.cancelled() is None
    limit.stop()
    current.uncancel()


async def test_a_client_that_leaves_in_the_moment_in_which_its_time_is_over_has_left() -> None:
    current = asyncio.current_task()
    assert current is not None

    def leaves() -> str:
        current.cancel()
        return "too slow"

    limit = TimeLimit(0.0, leaves)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)

    assert limit.cancelled() is None
    assert current.cancelling() == 1, "what the limit did is taken back, what the client did is not"
    current.uncancel()


async def test_a_task_that_was_cancelled_before_has_its_limits_all_the_same() -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    limit = TimeLimit(0.01, lambda: "too slow")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)

    assert limit.cancelled() is not None
    current.uncancel()


async def test_a_stopped_limit_holds_nobody() -> None:
    """Whoever is asked often holds the limit, too: neither would be given back before the collector comes."""

    class Asked:
        def verdict(self) -> str:
            return "too slow"

    asked = Asked()
    limit, held = TimeLimit(5.0, asked.verdict), weakref.ref(asked)
    del asked
    assert held() is not None

    limit.stop()
    await asyncio.sleep(0)

    assert held() is None
    assert limit.cancelled() is None
