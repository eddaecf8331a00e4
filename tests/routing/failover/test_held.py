"""What a call that failed on its way leaves behind: nothing, also before the collector comes (pitfall 63).

An error's traceback holds the frames that it came through; whoever keeps the error in one of them closes a circle, and
with it the exchange and the body wait for the collector.
"""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import anyio
import pytest

from llmgateway.catalog.model import Fallbacks, Hedging, Model
from llmgateway.errors import GatewayError, UpstreamError, UpstreamRejectedError
from llmgateway.exchange import Exchange, Reply
from llmgateway.routing.retry import RetryPolicy
from tests.routed import FAST, Play, Routed, answer, at
from tests.routing.failover.test_race import known

NO_RETRIES = RetryPolicy(max_retries=0)
ONE, TWO = Model("chat", (at("a"),)), Model("chat", (at("a"), at("b")))
FALLS_BACK = Model("chat", (at("a"),), fallbacks=Fallbacks(any=("spare",)))
SPARE = Model("spare", (at("b"),))


class Held(Exchange, weakref=True):
    """An exchange that can be seen to be gone."""


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def down() -> Reply:
    raise UpstreamError("down", may_retry=True)


async def rejected() -> Reply:
    raise UpstreamRejectedError("bad", upstream_status=400)


CASES: dict[str, tuple[dict[str, list[Play]], tuple[Model, ...]]] = {
    "rejected": ({"a": [rejected]}, (ONE,)),
    "one failed": ({"a": [down]}, (ONE,)),
    "two failed": ({"a": [down], "b": [down]}, (TWO,)),
    "failed over": ({"a": [down], "b": [answer()]}, (TWO,)),
    "retried": ({"a": [down, down, answer()]}, (ONE,)),
    "fell back": ({"a": [down], "b": [answer()]}, (FALLS_BACK, SPARE)),
    "fell back in vain": ({"a": [down], "b": [down]}, (FALLS_BACK, SPARE)),
}


async def sent(routed: Routed) -> weakref.ref[Held]:
    asked = Held()
    with contextlib.suppress(GatewayError):
        await routed.send(asked=asked)
    assert asked.attempts
    return weakref.ref(asked)


@pytest.mark.parametrize("policy", [NO_RETRIES, FAST], ids=["once", "again"])
@pytest.mark.parametrize("case", CASES)
async def test_a_call_holds_nobody(case: str, policy: RetryPolicy) -> None:
    plays, models = CASES[case]

    held = await sent(Routed(plays, *models, policy=policy))
    await asyncio.sleep(0)

    assert held() is None


def after(begun: anyio.Event) -> Callable[[], Awaitable[Reply]]:
    async def fails() -> Reply:
        await begun.wait()
        return await down()

    return fails


def at_once(begun: anyio.Event, then: Callable[[], Awaitable[Reply]]) -> Callable[[], Awaitable[Reply]]:
    async def plays() -> Reply:
        begun.set()
        return await then()

    return plays


async def answers() -> Reply:
    for _ in range(5):
        await asyncio.sleep(0)
    return answer()


@pytest.mark.parametrize("second", [down, rejected, answers])
async def test_a_race_holds_nobody(second: Callable[[], Awaitable[Reply]]) -> None:
    begun, model = anyio.Event(), Model("chat", TWO.deployments, hedge=Hedging(50, 1.0))
    routed = Routed({"a": [after(begun)], "b": [at_once(begun, second)]}, model, policy=NO_RETRIES)
    await known(routed)

    held = await sent(routed)
    await asyncio.sleep(0)

    assert held() is None
