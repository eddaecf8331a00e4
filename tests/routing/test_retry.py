import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import AsyncRetrying, Future, RetryCallState

from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Exchange, Reply
from llmgateway.routing.retry import Retry, RetryPolicy, delay_s
from tests.routing.scripted import ANSWER, CALL, DEPLOYMENT, Scripted, attempts, exchange

FAST = RetryPolicy(max_retries=2, min_delay_s=0.001, max_delay_s=0.002)


async def retried(upstream: Scripted, asked: Exchange, policy: RetryPolicy = FAST) -> Reply:
    asking = attempts(upstream)

    async def ask() -> Reply:
        return await asking.send(asked, DEPLOYMENT, CALL)

    try:
        return await ask()
    except GatewayError as error:
        return await Retry(policy).after(asked, error, ask)


def lost() -> UpstreamError:
    return UpstreamError("lost", may_retry=True)


async def test_a_failure_that_time_may_heal_is_tried_again() -> None:
    upstream, asked = Scripted(lost(), lost(), ANSWER), exchange()

    reply = await retried(upstream, asked)

    assert reply is ANSWER
    assert [attempt.outcome for attempt in asked.attempts] == ["provider_unavailable", "provider_unavailable", "ok"]


async def test_the_policy_says_how_often() -> None:
    upstream = Scripted(*(lost() for _ in range(9)))

    with pytest.raises(UpstreamError):
        await retried(upstream, exchange())

    assert upstream.calls == 3


async def test_no_retries_is_a_policy_too() -> None:
    upstream = Scripted(lost())

    with pytest.raises(UpstreamError):
        await retried(upstream, exchange(), RetryPolicy(max_retries=0))

    assert upstream.calls == 1


@pytest.mark.parametrize(
    "error",
    [UpstreamRejectedError("no", upstream_status=404), UpstreamError("broken"), ContextLengthError("too long")],
)
async def test_what_would_fail_again_is_not_tried_again(error: Exception) -> None:
    upstream = Scripted(error)

    with pytest.raises(type(error)):
        await retried(upstream, exchange())

    assert upstream.calls == 1


async def test_pitfall_058_retry_after_is_waited_for() -> None:
    upstream = Scripted(UpstreamRateLimitedError("slow down", may_retry=True, retry_after_s=0.3), ANSWER)
    started = time.perf_counter()

    await retried(upstream, exchange(within_s=5))

    assert time.perf_counter() - started >= 0.299  # the loop's clock counts whole milliseconds


async def test_a_retry_after_beyond_the_deadline_means_no_wait() -> None:
    upstream = Scripted(UpstreamRateLimitedError("slow down", may_retry=True, retry_after_s=60))
    started = time.perf_counter()

    with pytest.raises(UpstreamRateLimitedError):
        await retried(upstream, exchange(within_s=5))

    assert time.perf_counter() - started < 1


async def test_a_second_failure_that_is_final_ends_it() -> None:
    upstream = Scripted(lost(), UpstreamRejectedError("no", upstream_status=400))

    with pytest.raises(UpstreamRejectedError):
        await retried(upstream, exchange())

    assert upstream.calls == 2


@given(st.integers(1, 30), st.none() | st.floats(0, 100))
def test_delays_are_random_below_a_growing_ceiling(attempt: int, retry_after_s: float | None) -> None:
    policy = RetryPolicy(min_delay_s=0.5, max_delay_s=30)
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = attempt
    state.outcome = Future.construct(attempt, UpstreamError("x", retry_after_s=retry_after_s), has_exception=True)

    wait_s = delay_s(policy, state)

    assert (retry_after_s or 0) <= wait_s <= (retry_after_s or 0) + min(30, 0.5 * 2 ** (attempt - 1))


def test_without_jitter_delays_are_exact() -> None:
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = 3
    policy = RetryPolicy(min_delay_s=1, factor=3, jitter=False)

    assert delay_s(policy, state) == 9


async def test_a_job_is_tried_again_for_longer() -> None:
    upstream, asked = Scripted(*(lost() for _ in range(9))), exchange()
    asked.for_job = True
    patient = RetryPolicy(max_retries=5, min_delay_s=0.001, max_delay_s=0.002)

    async def ask() -> Reply:
        return await attempts(upstream).send(asked, DEPLOYMENT, CALL)

    with pytest.raises(UpstreamError):
        await Retry(RetryPolicy(max_retries=0), patient).after(asked, lost(), ask)

    assert upstream.calls == 5


async def test_whoever_listens_hears_of_a_retry_before_it() -> None:
    upstream, asked = Scripted(lost(), ANSWER), exchange()
    heard: list[tuple[str, object, object, int]] = []
    asked.listener = lambda event: heard.append(
        (event.name, event.attributes["attempt"], event.attributes["max_attempts"], upstream.calls)
    )

    await retried(upstream, asked)

    assert heard == [("retry", 1, 3, 1)]


async def test_a_retry_is_told_with_its_cause() -> None:
    asked = exchange()

    await retried(Scripted(lost(), ANSWER), asked)

    (event,) = asked.events
    assert (event.name, event.attributes["cause"]) == ("retry", "provider_unavailable")
    assert asked.attempts[0].ended is not None
    assert asked.attempts[0].ended <= event.at <= asked.attempts[1].started
