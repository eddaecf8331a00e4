import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from llmgateway.catalog.model import Hedging, Model
from llmgateway.errors import UpstreamAuthError, UpstreamError
from llmgateway.exchange import Complete, Exchange, Reply, Streamed
from llmgateway.routing.retry import RetryPolicy
from tests.routed import Routed, answer, at
from tests.routing.scripted import STREAM, exchange, pieces

MODEL = Model("chat", (at("a"), at("b")))
HEDGED = Model("chat", (at("a"), at("b")), hedge=Hedging(50, 1.0))


def hanging(begun: anyio.Event | None = None) -> Callable[[], Awaitable[Reply]]:
    async def hang() -> Reply:
        if begun is not None:
            begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    return hang


def after(wait_s: float, reply: Reply | Exception) -> Callable[[], Awaitable[Reply]]:
    async def play() -> Reply:
        await asyncio.sleep(wait_s)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return play


def outcomes(asked: Exchange) -> list[tuple[str, str | None]]:
    return [(attempt.provider, attempt.outcome) for attempt in asked.attempts]


async def known(routed: Routed, took_s: float = 0.001, model: Model = MODEL) -> None:
    """Let everybody have answered often, so that it is known how long that takes."""
    for health in [routed.book.of(one) for one in model.deployments]:
        for _ in range(32):
            health.answered(took_s, 0.0, stream=False)
            health.answered(took_s, 0.0, stream=True)
        health.heard_at = -1.0


async def test_an_answer_in_time_is_nobody_elses_matter() -> None:
    routed = Routed({"a": [answer("one")], "b": [answer("two")]}, MODEL)

    await routed.send()

    assert routed.upstream.asked == ["a"]


async def test_who_is_silent_for_far_longer_than_anybody_ever_took_gets_another_beside_it() -> None:
    routed, asked = Routed({"a": [hanging()], "b": [answer("two")]}, MODEL, silence_s=0.05), exchange()
    await known(routed)

    reply = await routed.send(asked=asked)

    assert isinstance(reply, Complete)
    assert b"two" in reply.body
    assert outcomes(asked) == [("a", "superseded"), ("b", "ok")]
    assert (asked.provider, asked.events[-1].attributes) == ("b", {"kind": "silence", "won": True})
    assert routed.upstream.cancelled == ["a"]
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_nobody_is_asked_beside_while_nobody_knows_how_long_such_calls_take() -> None:
    routed = Routed({"a": [after(0.2, answer("one"))], "b": [answer("two")]}, MODEL, silence_s=0.05)

    await routed.send()

    assert routed.upstream.asked == ["a"]


async def test_a_deployment_that_answers_others_is_alive_however_long_a_call_takes() -> None:
    routed = Routed({"a": [after(0.3, answer("one"))], "b": [answer("two")]}, MODEL, silence_s=0.05)
    await known(routed)
    health = routed.book.of(MODEL.deployments[0])
    health.heard_at = time.perf_counter() + 0.3  # the others' answers until then

    await routed.send()

    assert routed.upstream.asked == ["a"]


async def test_a_deployment_that_falls_silent_after_it_answered_others_gets_another_beside_it() -> None:
    routed = Routed({"a": [hanging()], "b": [answer("two")]}, MODEL, silence_s=0.05)
    await known(routed)
    routed.book.of(MODEL.deployments[0]).heard_at = time.perf_counter() + 0.1  # of a call that began before

    await routed.send()

    assert routed.upstream.asked == ["a", "b"]


async def test_silence_counts_against_its_deployment_and_opens_its_circuit() -> None:
    routed = Routed({"a": [hanging()], "b": [answer("two")]}, MODEL, silence_s=0.02)
    await known(routed)

    for _ in range(6):
        await routed.send()

    assert routed.upstream.asked.count("a") == 5
    assert routed.book.of(MODEL.deployments[0]).state(routed.book.clock()) == "open"
    assert [health.inflight for health in routed.book] == [0, 0]


async def test_a_hedge_is_asked_after_the_percentile_and_says_nothing_of_the_first() -> None:
    routed, asked = Routed({"a": [hanging()], "b": [answer("two")]}, HEDGED, silence_s=30), exchange()
    await known(routed)

    await routed.send(asked=asked)

    assert outcomes(asked) == [("a", "superseded"), ("b", "ok")]
    assert asked.events[-1].attributes == {"kind": "hedge", "won": True}
    assert asked.route_reason == "b/gpt-4o: asked beside a/gpt-4o (hedge) and faster"
    assert routed.book.of(MODEL.deployments[0]).in_a_row == 0


async def test_the_first_may_still_win_and_the_other_is_given_up() -> None:
    begun = anyio.Event()

    async def late() -> Reply:
        await begun.wait()
        return answer("one")

    routed, asked = Routed({"a": [late], "b": [hanging(begun)]}, HEDGED), exchange()
    await known(routed)

    reply = await routed.send(asked=asked)

    assert isinstance(reply, Complete)
    assert b"one" in reply.body
    assert outcomes(asked) == [("b", "superseded"), ("a", "ok")], "who answered stands last"
    assert (asked.provider, asked.events[-1].attributes) == ("a", {"kind": "hedge", "won": False})
    assert routed.upstream.cancelled == ["b"]


async def test_hedges_are_a_share_of_all_calls() -> None:
    model = Model("chat", (at("a"), at("b")), hedge=Hedging(50, 0.1))
    routed = Routed({"a": [after(0.004, answer("one"))], "b": [answer("two")]}, model, silence_s=30)
    await known(routed, 0.0001)

    for _ in range(50):
        await routed.send()

    assert 3 <= routed.upstream.asked.count("b") <= 6


async def test_when_the_first_fails_meanwhile_the_second_is_waited_for() -> None:
    begun = anyio.Event()

    async def fails() -> Reply:
        await begun.wait()
        raise UpstreamError("lost", may_retry=True)

    async def slow() -> Reply:
        begun.set()
        await asyncio.sleep(0.05)
        return answer("two")

    routed, asked = Routed({"a": [fails], "b": [slow]}, HEDGED), exchange()
    await known(routed)

    await routed.send(asked=asked)

    assert outcomes(asked) == [("a", "provider_unavailable"), ("b", "ok")]


async def test_when_both_fail_the_call_fails_with_what_both_said() -> None:
    begun = anyio.Event()

    async def fails() -> Reply:
        await begun.wait()
        raise UpstreamError("first", may_retry=False)

    async def fails_too() -> Reply:
        begun.set()
        raise UpstreamError("second", may_retry=False)

    routed, asked = Routed({"a": [fails], "b": [fails_too]}, HEDGED), exchange()
    await known(routed)

    with pytest.raises(UpstreamError):
        await routed.send(asked=asked)

    assert sorted(outcomes(asked), key=str) == [("a", "provider_unavailable"), ("b", "provider_unavailable")]
    assert [health.inflight for health in routed.book] == [0, 0]


async def test_a_client_that_leaves_takes_both_with_it() -> None:
    begun = anyio.Event()
    routed, asked = Routed({"a": [hanging()], "b": [hanging(begun)]}, HEDGED), exchange()
    await known(routed)

    async with anyio.create_task_group() as group:
        group.start_soon(routed.send, STREAM, asked)
        await begun.wait()
        group.cancel_scope.cancel()

    assert sorted(routed.upstream.cancelled) == ["a", "b"]
    assert [health.inflight for health in routed.book] == [0, 0]
    assert all(attempt.ended is not None for attempt in asked.attempts)


async def test_the_winners_stream_goes_on_after_the_race() -> None:
    routed, asked = Routed({"a": [hanging()], "b": [Streamed(pieces(b"x", b"y"))]}, HEDGED), exchange()
    await known(routed)

    reply = await routed.send(STREAM, asked)

    assert isinstance(reply, Streamed)
    assert [chunk async for chunk in reply.chunks] == [b"x", b"y"]
    assert outcomes(asked) == [("a", "superseded"), ("b", "ok")]


@pytest.mark.parametrize("ticks", range(12))
async def test_whoever_is_first_by_a_hair_there_is_one_answer_and_nothing_stays_open(ticks: int) -> None:
    """Both answer within the same few turns of the loop, in every order."""
    begun = anyio.Event()

    async def turn(count: int) -> None:
        await begun.wait()
        for _ in range(count):
            await asyncio.sleep(0)

    async def first() -> Reply:
        await turn(ticks)
        return answer("one")

    async def second() -> Reply:
        begun.set()
        await turn(6)
        return answer("two")

    routed, asked = Routed({"a": [first], "b": [second]}, HEDGED), exchange()
    await known(routed)

    reply = await routed.send(asked=asked)

    won = asked.attempts[-1]
    assert won.outcome == "ok"
    assert isinstance(reply, Complete)
    assert (b"one" in reply.body) is (won.provider == "a")
    assert {attempt.outcome for attempt in asked.attempts} <= {"ok", "superseded"}
    assert [health.inflight for health in routed.book] == [0, 0]
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_the_probe_of_a_deployment_that_still_hangs_costs_its_client_little() -> None:
    routed, asked = Routed({"a": [hanging()], "b": [answer("two")]}, MODEL, silence_s=30), exchange()
    await known(routed)
    health = routed.book.of(MODEL.deployments[0])
    now = routed.book.clock()
    for _ in range(5):
        health.failed(now, now, "failures")
    health.until = now  # its rest is over

    with anyio.fail_after(5):
        await routed.send(asked=asked)

    assert asked.events[-1].attributes == {"kind": "probe", "won": True}
    assert health.state(routed.book.clock()) == "open", "it rests again"
    assert not health.probing


class Endless:
    """A stream that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def __aiter__(self) -> "Endless":
        return self

    async def __anext__(self) -> bytes:
        return b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("ticks", range(14))
async def test_of_two_streams_that_begin_by_a_hair_one_is_given_and_the_other_closed(ticks: int) -> None:
    begun, streams, answered = anyio.Event(), {"a": Endless(), "b": Endless()}, []

    async def begins(name: str, turns: int) -> Reply:
        for _ in range(turns):
            await asyncio.sleep(0)
        answered.append(name)
        return Streamed(streams[name])

    async def first() -> Reply:
        await begun.wait()
        return await begins("a", ticks)

    async def second() -> Reply:
        begun.set()
        return await begins("b", 6)

    routed, asked = Routed({"a": [first], "b": [second]}, HEDGED), exchange()
    await known(routed)

    reply = await routed.send(STREAM, asked)

    assert isinstance(reply, Streamed)
    lost, won = asked.attempts
    assert (lost.outcome, won.outcome) == ("superseded", None)
    assert asked.provider == won.provider
    assert streams[lost.provider].closed is (lost.provider in answered)
    assert not streams[won.provider].closed
    await reply.chunks.aclose()
    assert streams[won.provider].closed
    assert [health.inflight for health in routed.book] == [0, 0]


async def test_a_client_that_leaves_while_the_loser_is_let_go_leaves_nothing_open() -> None:
    begun, closing, stream = anyio.Event(), anyio.Event(), Endless()

    async def first() -> Reply:
        await begun.wait()
        return Streamed(stream)

    async def second() -> Reply:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            closing.set()
            for _ in range(5):
                await asyncio.sleep(0)
        raise AssertionError

    routed = Routed({"a": [first], "b": [second]}, HEDGED)
    await known(routed)

    async with anyio.create_task_group() as group:
        group.start_soon(routed.send, STREAM)
        await closing.wait()
        group.cancel_scope.cancel()

    assert stream.closed
    assert [health.inflight for health in routed.book] == [0, 0]


async def test_a_fault_of_ours_in_the_first_ends_the_second() -> None:
    begun = anyio.Event()

    async def breaks() -> Reply:
        await begun.wait()
        raise ZeroDivisionError

    routed = Routed({"a": [breaks], "b": [hanging(begun)]}, HEDGED)
    await known(routed)

    with pytest.raises(ZeroDivisionError):
        await routed.send()

    assert routed.upstream.cancelled == ["b"]
    assert [health.inflight for health in routed.book] == [0, 0]


async def test_when_both_fail_it_is_the_error_that_is_worth_most() -> None:
    begun = anyio.Event()

    async def fails() -> Reply:
        await begun.wait()
        raise UpstreamError("down", may_retry=True)

    async def refuses() -> Reply:
        begun.set()
        raise UpstreamAuthError("no")

    routed = Routed({"a": [fails], "b": [refuses]}, HEDGED, policy=RetryPolicy(max_retries=0))
    await known(routed)

    with pytest.raises(UpstreamError) as caught:
        await routed.send()

    assert caught.value.code == "provider_unavailable"


async def test_when_the_second_fails_a_third_is_asked_beside_the_first() -> None:
    model = Model("chat", (at("a"), at("b"), at("c")))
    failed = UpstreamError("down", may_retry=True)
    routed, asked = Routed({"a": [hanging()], "b": [failed], "c": [answer()]}, model, silence_s=0.02), exchange()
    await known(routed, model=model)

    with anyio.fail_after(5):
        await routed.send(asked=asked)

    assert outcomes(asked) == [("a", "superseded"), ("b", "provider_unavailable"), ("c", "ok")]
    assert [event.name for event in asked.events] == ["failover", "race"]


async def test_a_race_for_which_nobody_else_has_room_is_none() -> None:
    looked = anyio.Event()

    async def leave(_: object) -> int | None:
        if asked.attempts:
            looked.set()
        return None if asked.attempts else 0

    async def late() -> Reply:
        await looked.wait()
        return answer("one")

    routed, asked = Routed({"a": [late], "b": [answer("two")]}, HEDGED), exchange()
    asked.leave = leave
    await known(routed)

    await routed.send(asked=asked)

    assert (asked.provider, asked.events) == ("a", [])
