"""What a walk through a plan does besides what tests/routing/test_model.py shows of it from outside."""

import asyncio

import pytest

from llmgateway.caller import RouteAsk
from llmgateway.catalog.model import Fallbacks, Model, Strategy
from llmgateway.errors import (
    ContextLengthError,
    ProviderTimeoutError,
    RateLimitedError,
    UpstreamError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Call, Reply
from tests.routed import Routed, answer, at
from tests.routing.scripted import CALL, exchange

MODEL = Model("chat", (at("a"), at("b"), at("c")))


def down() -> UpstreamError:
    return UpstreamError("down", may_retry=False, upstream_status=500)


async def test_the_plan_says_why_the_first_was_asked() -> None:
    routed, asked = Routed({name: [answer()] for name in "abc"}, MODEL), exchange()

    await routed.send(asked=asked)

    assert asked.route_reason == "priority: first of 3"


async def test_a_deployment_that_began_to_rest_since_the_plan_was_made_is_passed_over() -> None:
    routed, asked = Routed({name: [answer()] for name in "abc"}, MODEL), exchange()
    asked.plan = routed.planner.plan(asked, CALL, MODEL)
    now = routed.book.clock()
    for _ in range(5):
        routed.book.of(MODEL.deployments[1]).failed(now, now, "failures")
        routed.book.of(MODEL.deployments[0]).failed(now, now, "failures")

    await routed.send(asked=asked)

    assert routed.upstream.asked == ["c"]


async def test_of_several_calls_with_the_same_plan_one_is_the_probe() -> None:
    routed = Routed({name: [answer()] for name in "abc"}, MODEL)
    health = routed.book.of(MODEL.deployments[0])
    now = routed.book.clock()
    health.rest_until(now - 2, now - 1, "failures")
    first, second = exchange(), exchange()
    first.plan, second.plan = (routed.planner.plan(one, CALL, MODEL) for one in (first, second))
    health.begin(now)  # the first's call is on its way

    await routed.send(asked=second)

    assert routed.upstream.asked == ["b"]


async def test_each_deployment_gets_the_call_that_is_meant_for_it() -> None:
    routed, asked = Routed({"a": [down()], "b": [answer()], "c": [answer()]}, MODEL), exchange()
    plan = routed.planner.plan(asked, CALL, MODEL)

    await routed.target._failover.send(  # noqa: SLF001  its own door is for models only
        asked, CALL, plan, place=0, call_of=lambda one: Call("chat", "chat", one.account.name.encode())
    )

    assert [call.body for call in routed.upstream.calls] == [b"a", b"b"]


async def test_when_no_deployment_of_a_fallback_has_room_it_is_a_limit_of_ours() -> None:
    routed, asked = Routed({name: [answer()] for name in "abc"}, MODEL), exchange()

    async def leave(_: object) -> int | None:
        return None

    asked.leave = leave

    with pytest.raises(RateLimitedError):
        await routed.send(asked=asked)

    assert routed.upstream.asked == []


async def test_too_long_for_all_is_too_long() -> None:
    model = Model("chat", (at("a", context_length=100), at("b", context_length=100)))
    routed = Routed({"a": [ContextLengthError("long")], "b": [answer()]}, model)

    with pytest.raises(ContextLengthError):
        await routed.send()

    assert routed.upstream.asked == ["a"]


async def test_only_the_windows_that_were_too_short_count() -> None:
    model = Model("chat", (at("a", context_length=1000), at("b", context_length=10), at("c", context_length=100)))
    routed = Routed({"a": [down()], "b": [ContextLengthError("long")], "c": [answer()]}, model)

    await routed.send()

    assert routed.upstream.asked == ["a", "b", "c"]


async def test_what_the_client_did_wrong_is_told_although_another_failed_before() -> None:
    failed = UpstreamError("down", may_retry=True, upstream_status=500)
    routed = Routed({"a": [failed], "b": [UpstreamRejectedError("bad", upstream_status=400)], "c": [answer()]}, MODEL)

    with pytest.raises(UpstreamRejectedError):
        await routed.send()

    assert routed.upstream.asked == ["a", "b"], "and nobody is asked again for what fails again"


async def test_when_the_time_is_over_that_is_told_whatever_failed_before() -> None:
    async def hangs() -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    failed = UpstreamError("down", may_retry=True, upstream_status=500)
    routed, asked = Routed({"a": [failed], "b": [hangs], "c": [answer()]}, MODEL), exchange(within_s=0.05)

    with pytest.raises(ProviderTimeoutError):
        await routed.send(asked=asked)

    assert routed.upstream.asked == ["a", "b"]


async def test_no_fallback_is_begun_when_the_time_is_over() -> None:
    async def hangs() -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    model = Model("chat", (at("a"),), fallbacks=Fallbacks(any=("one", "two")))
    spare = Model("one", (at("b"),)), Model("two", (at("c"),))
    routed, asked = Routed({"a": [down()], "b": [hangs], "c": [answer()]}, model, *spare), exchange(within_s=0.05)

    with pytest.raises(UpstreamError):
        await routed.send(asked=asked)

    assert routed.upstream.asked == ["a", "b"], "whatever is begun now is paid for, and nobody gets it"


@pytest.mark.parametrize("strategy", ["priority", "round_robin", "least_busy", "fastest"])
async def test_who_wants_the_first_choice_alone_keeps_it_through_all_retries(strategy: Strategy) -> None:
    failed = UpstreamError("down", may_retry=True, upstream_status=500)
    model = Model("chat", MODEL.deployments, strategy=strategy)
    routed, asked = Routed({name: [failed] for name in "abc"}, model), exchange()
    asked.route_ask = RouteAsk(alone=True)

    with pytest.raises(UpstreamError):
        await routed.send(asked=asked)

    assert len(routed.upstream.asked) == 3
    assert len(set(routed.upstream.asked)) == 1


async def test_the_only_deployment_of_a_model_is_asked_once_and_its_error_is_told() -> None:
    routed, asked = Routed({"a": [down()]}, Model("chat", (at("a"),))), exchange()

    with pytest.raises(UpstreamError, match="down") as caught:
        await routed.send(asked=asked)

    assert (routed.upstream.asked, asked.route_reason) == (["a"], "only deployment")
    assert asked.plan is None
    assert not caught.value.details
