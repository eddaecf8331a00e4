import pytest

from llmgateway.caller import Caller
from llmgateway.catalog.model import Auto, Model
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import ModelNotFoundError, PermissionDeniedError
from llmgateway.exchange import Call, Complete, Exchange
from llmgateway.gateway.layers.access import Access
from llmgateway.routing.choosing.auto import AutoModel
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.health.book import HealthBook
from llmgateway.tokens import TokenCounter
from tests.deployments import deployment
from tests.gateway.test_target import Says

BODY = b'{"messages":[{"role":"user","content":"Hi"}]}'


def catalog(*names: str, auto: Auto | None = None) -> Catalog:
    found = {name: Model(name, (deployment(model=name.rpartition("/")[2]),), "round_robin") for name in names}
    return Catalog(found, {}, "1", auto=auto)


def access(*served: Catalog, peek: bool = False) -> Access:
    book = HealthBook()
    auto = AutoModel(Planner(book, Routes(book, first_turn=0), TokenCounter()))
    return Access(lambda: served[-1], auto, Says("model"), peek=peek)


async def asked(name: str, *, models: tuple[str, ...] | None = None, offer: Catalog | None = None) -> Exchange:
    exchange = Exchange(caller=Caller(models=models))
    layer = access(offer or catalog("chat", "gpt-4o", "groq/llama"))
    assert await layer.send(exchange, Call("chat", name, BODY)) == Complete(b"model")
    return exchange


async def test_a_name_becomes_its_model() -> None:
    exchange = await asked("gpt-4o")

    assert exchange.model is not None
    assert (exchange.model.name, exchange.model_label) == ("gpt-4o", "gpt-4o")


async def test_a_catalog_that_was_replaced_is_the_one_that_counts() -> None:
    served = [catalog("old")]
    book = HealthBook()
    auto = AutoModel(Planner(book, Routes(book), TokenCounter()))
    layer = Access(lambda: served[-1], auto, Says("model"))
    await layer.send(Exchange(), Call("chat", "old", BODY))

    served.append(catalog("new"))

    with pytest.raises(ModelNotFoundError):
        await layer.send(Exchange(), Call("chat", "old", BODY))


@pytest.mark.parametrize("name", ["nope", "auto"])
async def test_an_unknown_model_goes_no_further(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        await asked(name)

    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


async def test_a_key_with_models_of_its_own_may_use_these_and_no_others() -> None:
    await asked("gpt-4o", models=("gpt-*",))

    with pytest.raises(PermissionDeniedError) as caught:
        await asked("chat", models=("gpt-*",))

    assert (caught.value.status, caught.value.code, caught.value.param) == (403, "model_not_allowed", "model")


async def test_a_refused_call_still_counts_for_its_model() -> None:
    exchange = Exchange(caller=Caller(models=()))

    with pytest.raises(PermissionDeniedError):
        await access(catalog("chat")).send(exchange, Call("chat", "chat", BODY))

    assert exchange.model_label == "chat"


@pytest.mark.parametrize("name", ["gpt4o", "auto"])
async def test_unknown_names_are_answered_with_the_callers_own_models(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        await asked(name, models=("chat",))

    assert caught.value.details == {"available_models": ["chat"]}


async def test_auto_becomes_a_model_that_the_key_may_use_though_auto_is_none_of_its_names() -> None:
    exchange = await asked("auto", models=("chat",), offer=catalog("gpt-4o", "chat", auto=Auto()))

    assert exchange.model is not None
    assert (exchange.model.name, exchange.model_label, exchange.task) == ("chat", "chat", "text_generation")


async def test_a_key_that_may_use_none_of_the_models_is_told_so_as_of_an_unknown_one() -> None:
    with pytest.raises(ModelNotFoundError):
        await asked("auto", models=("other",), offer=catalog("chat", auto=Auto()))


async def test_a_model_of_the_catalog_that_is_called_auto_is_that_model() -> None:
    exchange = await asked("auto", offer=catalog("auto", "chat", auto=Auto(models=("chat",))))

    assert exchange.model is not None
    assert (exchange.model.name, exchange.task) == ("auto", None)


async def test_a_dry_run_takes_no_turn() -> None:
    offer = catalog("one", "two", "three", auto=Auto(strategy="round_robin"))
    layer = access(offer, peek=True)
    picked = set()
    for _ in range(5):
        exchange = Exchange()
        await layer.send(exchange, Call("chat", "auto", BODY))
        assert exchange.model is not None
        picked.add(exchange.model.name)

    assert len(picked) == 1
