"""The limits of deployments that are asked after the first: by failover, by a retry, beside another."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from llmgateway.catalog.model import Account, Deployment, Model
from llmgateway.catalog.model import Limits as Numbers
from llmgateway.errors import GatewayError, UpstreamError
from llmgateway.exchange import Call, Complete, Exchange, Reply
from llmgateway.gateway.record import Recorder
from tests.gateway.desk import BODY, CLIENT, Desk, desk, memory
from tests.routed import Play, Routed, answer


async def down() -> Reply:
    raise UpstreamError("down", may_retry=True, upstream_status=500)


class Held(Exchange, weakref=True):
    """An exchange that can be seen to be gone."""


@pytest.fixture
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Whole:
    """The layer before deployments that play their parts, and the end of each call."""

    def __init__(self, plays: dict[str, list[Play]], *deployments: Deployment) -> None:
        model = Model("chat", deployments)
        self.routed = Routed(plays, model)
        self.desk: Desk = desk(memory()[0], model=model)
        layer = self.desk.layer
        layer._target, layer._planner = self.routed.target, self.routed.planner  # noqa: SLF001  the desk has an answer

    async def ask(self, exchange: Exchange | None = None) -> Exchange:
        """Ask, and be through with it. Raises: GatewayError."""
        asked = exchange or self.desk.exchange()
        asked.model, asked.operation = self.desk.model, "chat"
        try:
            reply = await self.desk.layer.send(asked, Call("chat", "chat", BODY))
            assert isinstance(reply, Complete)
        finally:
            Recorder(lambda _: None, []).record(asked)
        return asked


def limited(account: str, model: str = "gpt-4o", *, ours: int | None = None, **limits: int) -> Deployment:
    """Make a deployment with limits of its own; `ours` is how many calls at once its account takes."""
    at = Account(account, "openai", "openai", limits=Numbers(concurrent=ours))
    return Deployment(at, model, limits=Numbers(**limits))


async def test_a_retry_has_the_place_that_its_call_took() -> None:
    whole = Whole({"a": [down, down, answer()]}, limited("a", concurrent=1))

    asked = await whole.ask()
    again = await whole.ask()

    assert [len(one.attempts) for one in (asked, again)] == [3, 1], "and it is given back at the end"


async def test_a_retry_takes_no_place_of_another_without_asking() -> None:
    whole = Whole(
        {"a": [answer()], "b": [answer(), down]},
        limited("a", requests_per_minute=1, burst=1),
        limited("b", requests_per_minute=100, burst=100),
    )
    await whole.ask()  # takes a's only one
    await whole.ask()

    with pytest.raises(UpstreamError):
        await whole.ask()

    assert whole.routed.upstream.asked == ["a", "b", "b", "b", "b"]


async def test_another_deployment_of_the_same_account_goes_on_in_the_slot_of_the_one_that_failed() -> None:
    whole = Whole({"a": [down, answer()]}, limited("a", ours=1), limited("a", "gpt-4o-mini", ours=1))

    asked = await whole.ask()

    assert [one.model for one in asked.attempts] == ["gpt-4o", "gpt-4o-mini"]


@pytest.mark.usefixtures("_without_collector")
@pytest.mark.parametrize("play", [answer(), down])
async def test_a_call_with_limits_holds_nobody(play: Play) -> None:
    async def ask() -> weakref.ref[Held]:
        asked = Held(caller=CLIENT, organization=CLIENT.organization)
        whole = Whole({"a": [play], "b": [play]}, limited("a", concurrent=1), limited("b", concurrent=1))
        with contextlib.suppress(GatewayError):
            await whole.ask(asked)
        assert asked.attempts
        return weakref.ref(asked)

    held = await ask()
    await asyncio.sleep(0)

    assert held() is None
