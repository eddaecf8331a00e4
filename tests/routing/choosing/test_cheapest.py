from typing import Any

import pytest

from llmgateway.caller import Caller, RouteAsk
from llmgateway.catalog.model import Model, Prices
from llmgateway.errors import MaxCostError
from llmgateway.exchange import Call, Exchange, Operation
from llmgateway.routing.choosing.cheapest import does, name_cheapest
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.health.book import HealthBook
from llmgateway.tokens import TokenCounter
from tests.deployments import deployment
from tests.routed import Offer

CALL = Call("chat", "dear", b'{"messages":[]}', max_tokens=1000)
SMALL, SMALLER, DEAR = Prices(1e-6, 2e-6), Prices(1e-6, 1e-6), Prices(1.0, 1.0)


def model(name: str, prices: Prices | None, **fields: Any) -> Model:
    return Model(name, (deployment(name, "our-own", prices=prices, **fields),))


def named(*models: Model, caller: Caller | None = None, call: Call = CALL, max_cost_usd: float = 0.01) -> Any:
    """Give what is named where the first of these models is too dear."""
    planner = Planner(book := HealthBook(), Routes(book), TokenCounter())
    exchange = Exchange(caller=caller or Caller(), route_ask=RouteAsk(max_cost_usd=max_cost_usd), prompt_tokens=10)
    with pytest.raises(MaxCostError) as caught:
        planner.plan(exchange, call, models[0])
    name_cheapest(caught.value, exchange, call, planner, Offer(*models))
    assert caught.value.details is not None
    assert caught.value.details["filter"] == "max_cost"
    return caught.value.details["cheapest"]


def test_the_cheapest_of_all_that_would_fit_is_named() -> None:
    cheapest = named(model("dear", DEAR), model("small", SMALL), model("smaller", SMALLER), model("unpriced", None))

    assert cheapest == {"model": "smaller", "provider": "smaller", "estimated_cost_usd": pytest.approx(0.00101)}


def test_of_a_model_its_cheapest_deployment_counts() -> None:
    both = Model("both", (deployment("a", "our-own", prices=SMALL), deployment("b", "our-own", prices=SMALLER)))

    assert named(model("dear", DEAR), both)["provider"] == "b"


def test_where_none_would_fit_none_is_named() -> None:
    assert named(model("dear", DEAR), model("small", SMALL), max_cost_usd=1e-6) is None


def test_only_what_could_answer_is_named() -> None:
    call = Call("chat", "dear", b'{"messages":[]}', max_tokens=1000, needs=frozenset({"tools"}))
    short = model("short", SMALLER, context_length=5)
    unable = model("unable", SMALLER, lacks=frozenset({"tools"}))
    demo = model("demo", SMALLER, wire="demo")
    vectors = Model("vectors", (deployment("v", "our-embed", prices=SMALLER),))
    foreign = model("foreign", SMALLER)
    caller = Caller(models=("dear", "short", "unable", "demo", "vectors", "small"))

    cheapest = named(
        model("dear", DEAR), short, unable, demo, vectors, foreign, model("small", SMALL), caller=caller, call=call
    )

    assert cheapest["model"] == "small"


@pytest.mark.parametrize(
    ("upstream", "operation", "fits"),
    [
        ("gpt-4o", "chat", True),
        ("gpt-4o", "embedding", False),
        ("text-embedding-3-small", "embedding", True),
        ("text-embedding-3-small", "chat", False),
        ("our-own-model", "chat", True),
        ("our-own-embedder", "embedding", True),
        ("our-own-embedder", "chat", False),
    ],
)
def test_what_a_model_is_for_is_in_the_table_or_in_its_name(upstream: str, operation: Operation, fits: bool) -> None:
    assert does(deployment(model=upstream), operation) is fits
