import pytest

from llmgateway.caller import Caller
from llmgateway.catalog.model import Account, Deployment, Model
from llmgateway.errors import PermissionDeniedError
from llmgateway.exchange import Exchange
from llmgateway.routing.candidates import candidates, trusted

OWN = Deployment(Account("own", "ollama", "litellm", security_level="high"), "llama3.2")
CLOUD = Deployment(Account("cloud", "openai", "openai", api_key="sk-ours", accepts_client_keys=True), "gpt-4o")
CLOSED = Deployment(Account("closed", "openai", "openai", api_key="sk-ours"), "gpt-4o")
FAR = Deployment(Account("far", "groq", "openai", security_level="low"), "llama")
MODEL = Model("chat", (CLOUD, OWN, FAR))


def test_all_deployments_may_answer_an_ordinary_call_in_their_order() -> None:
    exchange = Exchange()

    assert candidates(exchange, MODEL) == (CLOUD, OWN, FAR)
    assert exchange.candidates == (CLOUD, OWN, FAR)


def test_what_is_sensitive_goes_to_trusted_providers_only() -> None:
    assert candidates(Exchange(min_security="high"), MODEL) == (OWN,)
    assert candidates(Exchange(min_security="medium"), MODEL) == (CLOUD, OWN)
    assert trusted(MODEL.deployments, "low") == MODEL.deployments


def test_a_sensitive_call_that_nobody_may_see_is_refused() -> None:
    with pytest.raises(PermissionDeniedError) as caught:
        candidates(Exchange(min_security="high"), Model("chat", (CLOUD, FAR)))

    assert (caught.value.status, caught.value.code) == (403, "sensitive_content")


def test_a_providers_own_key_is_used_for_that_provider_alone() -> None:
    exchange = Exchange(caller=Caller(kind="provider", provider="openai", provider_key="sk-theirs"))

    (only,) = candidates(exchange, Model("chat", (CLOSED, OWN, CLOUD)))

    assert (only.account.name, only.account.api_key) == ("cloud", "sk-theirs")
    assert CLOUD.account.api_key == "sk-ours"


def test_no_other_provider_ever_sees_that_key() -> None:
    exchange = Exchange(caller=Caller(kind="provider", provider="anthropic", provider_key="sk-ant-theirs"))

    with pytest.raises(PermissionDeniedError) as caught:
        candidates(exchange, MODEL)

    assert caught.value.code == "model_not_allowed"
    assert "sk-ant-theirs" not in caught.value.message
