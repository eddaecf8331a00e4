import json
from typing import Any

import pytest

from llmgateway.caller import Caller, RouteAsk
from llmgateway.catalog.model import Auto, Model, Prices
from llmgateway.errors import ContextLengthError, GatewayError, InvalidRequestError, MaxCostError
from llmgateway.exchange import Call, Exchange
from llmgateway.routing.choosing.auto import AutoModel
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.health.book import HealthBook
from llmgateway.tokens import TokenCounter
from tests import routed
from tests.deployments import deployment

SMALL, LARGE = Prices(1e-7, 4e-7), Prices(1e-5, 3e-5)


def model(name: str, prices: Prices | None = SMALL, **fields: Any) -> Model:
    return Model(name, (deployment(name, fields.pop("model", "our-own"), prices=prices, **fields),))


class Picking:
    """What `auto` picks from."""

    def __init__(self, *models: Model, auto: Auto | None = None) -> None:
        self.book = HealthBook()
        self.planner = Planner(self.book, Routes(self.book, first_turn=0), TokenCounter())
        self.picks = AutoModel(self.planner)
        self.offer = Offer(auto, *models)

    async def pick(
        self, text: str = "Hello there", *, caller: Caller | None = None, peek: bool = False, **asked: Any
    ) -> Exchange:
        """Pick for a question, and note the model in the exchange."""
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], **asked.pop("body", {})}
        call = Call("chat", "auto", json.dumps(body).encode(), **asked.pop("call", {}))
        exchange = Exchange(caller=caller or Caller(), route_ask=asked.pop("route_ask", None))
        exchange.model = await self.picks.pick(exchange, call, self.offer, peek=peek)
        return exchange

    async def name(self, *given: Any, **asked: Any) -> str | None:
        picked = (await self.pick(*given, **asked)).model
        return None if picked is None else picked.name


class Offer(routed.Offer):
    """A catalog with an entry for `auto`."""

    def __init__(self, auto: Auto | None, *models: Model) -> None:
        super().__init__(*models)
        self.auto = auto


TASKS = Auto({"summarization": "long", "code": "coder"}, strategy="priority")
MODELS = (model("chat"), model("coder"), model("long"))


async def test_without_an_entry_there_is_nothing_to_pick() -> None:
    assert await Picking(*MODELS).name() is None


@pytest.mark.parametrize(
    ("asked", "task", "picked"),
    [
        ({"text": "Please summarize this article: …"}, "summarization", "long"),
        ({"text": "Write a Python function that sorts a list"}, "code", "coder"),
        ({"text": "What is the capital of Norway?"}, "question_answering", "chat"),
        ({"route_ask": RouteAsk(task="code")}, "code", "coder"),
        ({"body": {"metadata": {"task_type": "summarization"}}}, "summarization", "long"),
        (
            {"body": {"metadata": {"task_type": "code"}}, "route_ask": RouteAsk(task="summarization")},
            "summarization",
            "long",
        ),
    ],
)
async def test_the_task_is_given_or_found_and_says_which_model(asked: dict[str, Any], task: str, picked: str) -> None:
    exchange = await Picking(*MODELS, auto=TASKS).pick(**asked)

    assert exchange.model is not None
    assert (exchange.task, exchange.model.name) == (task, picked)
    assert [(event.name, event.attributes) for event in exchange.events] == [("auto", {"task": task, "to": picked})]


async def test_a_task_that_nobody_knows_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidRequestError, match="summarization") as caught:
        await Picking(*MODELS, auto=TASKS).pick(route_ask=RouteAsk(task="cooking"))

    assert caught.value.param == "X-Task-Type"


async def test_the_others_are_what_the_call_falls_back_to_best_first() -> None:
    exchange = await Picking(*MODELS, auto=TASKS).pick(route_ask=RouteAsk(task="code"))

    assert exchange.others == ("chat", "long")


async def test_the_strategy_is_the_requests_the_keys_or_that_of_auto() -> None:
    picking = Picking(model("dear", LARGE), model("cheap", SMALL), auto=Auto(strategy="priority"))

    assert await picking.name() == "dear"
    assert await picking.name(caller=Caller(strategy="cheapest")) == "cheap"
    assert await picking.name(route_ask=RouteAsk("cheapest")) == "cheap"


async def test_only_named_models_are_picked_where_some_are_named_and_that_of_the_task() -> None:
    picking = Picking(*MODELS, auto=Auto({"code": "coder"}, models=("long",), strategy="priority"))

    assert (await picking.pick(route_ask=RouteAsk(task="code"))).others == ("long",)
    assert await picking.name(route_ask=RouteAsk(task="translation")) == "long"


async def test_a_key_gets_only_models_that_it_may_use() -> None:
    picking = Picking(*MODELS, auto=TASKS)

    assert await picking.name(route_ask=RouteAsk(task="code"), caller=Caller(models=("long", "chat"))) == "chat"
    exchange = await picking.pick(route_ask=RouteAsk(task="code"), caller=Caller(models=("long",)))
    assert exchange.model is not None
    assert (exchange.model.name, exchange.others) == ("long", ())
    assert await picking.name(caller=Caller(models=())) is None


async def test_the_demo_and_models_for_vectors_are_never_picked() -> None:
    picking = Picking(model("demo", wire="demo"), model("vectors", model="our-embed"), auto=Auto())

    assert await picking.name() is None


async def test_vectors_are_never_left_to_chance() -> None:
    with pytest.raises(InvalidRequestError, match="embeddings"):
        await Picking(*MODELS, auto=TASKS).picks.pick(
            Exchange(), Call("embedding", "auto", b'{"input":"hi"}'), Offer(TASKS, *MODELS)
        )


async def test_who_cannot_do_it_is_passed_over_though_it_is_the_one_for_the_task() -> None:
    unable = model("coder", lacks=frozenset({"tools"}))
    picking = Picking(unable, model("chat"), auto=TASKS)
    tools = {"needs": frozenset({"tools"})}

    assert await picking.name(route_ask=RouteAsk(task="code"), call=tools) == "chat"
    assert await picking.name(route_ask=RouteAsk(task="code")) == "coder"


async def test_who_is_unwell_is_passed_over() -> None:
    picking = Picking(*MODELS, auto=TASKS)
    now = picking.book.clock()
    picking.planner.route(MODELS[1]).pool.candidates[0].health.rest_until(now, now + 100, "failures")

    assert await picking.name(route_ask=RouteAsk(task="code")) == "chat"


async def test_where_none_can_the_error_is_the_preferred_ones() -> None:
    models = (model("chat", lacks=frozenset({"vision"})), model("coder", context_length=5))
    call = {"needs": frozenset({"vision"})}

    with pytest.raises(ContextLengthError):
        await Picking(*models, auto=TASKS).pick(
            "one two three four five six", route_ask=RouteAsk(task="code"), call=call
        )
    with pytest.raises(GatewayError) as caught:
        await Picking(*models, auto=TASKS).pick("one two three four", call=call)
    assert caught.value.code == "unsupported_capability"


async def test_a_prompt_is_counted_before_where_its_length_decides() -> None:
    models = (model("short", context_length=20), model("long", context_length=1000))
    picking = Picking(*models, auto=Auto(strategy="priority"))

    assert await picking.name("short " * 10) == "short"
    assert await picking.name("short " * 100) == "long"
    assert (await picking.pick("short " * 10)).prompt_tokens is not None
    assert (await Picking(*MODELS, auto=TASKS).pick()).prompt_tokens is None


async def test_what_a_call_may_cost_is_told_from_the_count() -> None:
    models = (model("dear", LARGE), model("cheap", SMALL), model("other", Prices(1e-9, 1e-9)))
    picking = Picking(*models, auto=Auto(models=("dear", "cheap"), strategy="priority"))
    call = {"max_tokens": 100}

    assert await picking.name(route_ask=RouteAsk(max_cost_usd=0.0001), call=call) == "cheap"
    with pytest.raises(MaxCostError) as caught:
        await picking.pick(route_ask=RouteAsk(max_cost_usd=1e-6), call=call)
    assert caught.value.details is not None
    assert caught.value.details["cheapest"]["model"] == "other"  # type: ignore[index]


async def test_a_look_foretells_the_pick() -> None:
    models = [model(name, model="our-own") for name in "abcde"]
    picking = Picking(*models, auto=Auto(strategy="round_robin"))

    picked = []
    for _ in range(10):
        looked = [await picking.name(peek=True) for _ in range(2)]
        picked.append(await picking.name())
        assert looked == [picked[-1]] * 2
    assert len(set(picked)) == 5
