import pytest

from llmgateway.caller import Caller
from llmgateway.errors import ModelNotFoundError, PermissionDeniedError
from llmgateway.exchange import Call, Complete, Exchange
from llmgateway.gateway.layers.access import Access
from tests.gateway.test_target import Offer, Says


async def asked(name: str, *, models: tuple[str, ...] | None = None, offer: Offer | None = None) -> Exchange:
    exchange = Exchange(caller=Caller(models=models))
    access = Access(lambda: offer or Offer(["chat", "gpt-4o", "groq/llama"]), Says("model"))
    assert await access.send(exchange, Call("chat", name, b"{}")) == Complete(b"model")
    return exchange


async def test_a_name_becomes_its_model() -> None:
    exchange = await asked("gpt-4o")

    assert exchange.model is not None
    assert (exchange.model.name, exchange.model_label) == ("gpt-4o", "gpt-4o")


async def test_a_catalog_that_was_replaced_is_the_one_that_counts() -> None:
    served = [Offer(["old"])]
    access = Access(lambda: served[-1], Says("model"))
    await access.send(Exchange(), Call("chat", "old", b"{}"))

    served.append(Offer(["new"]))

    with pytest.raises(ModelNotFoundError):
        await access.send(Exchange(), Call("chat", "old", b"{}"))


async def test_an_unknown_model_goes_no_further() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        await asked("nope")

    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


async def test_a_key_with_models_of_its_own_may_use_these_and_no_others() -> None:
    await asked("gpt-4o", models=("gpt-*",))

    with pytest.raises(PermissionDeniedError) as caught:
        await asked("chat", models=("gpt-*",))

    assert (caught.value.status, caught.value.code, caught.value.param) == (403, "model_not_allowed", "model")


async def test_a_refused_call_still_counts_for_its_model() -> None:
    exchange = Exchange(caller=Caller(models=()))

    with pytest.raises(PermissionDeniedError):
        await Access(lambda: Offer(["chat"]), Says("model")).send(exchange, Call("chat", "chat", b"{}"))

    assert exchange.model_label == "chat"


async def test_unknown_names_are_answered_with_the_callers_own_models() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        await asked("gpt4o", models=("chat",))

    assert caught.value.details == {"available_models": ["chat"]}
