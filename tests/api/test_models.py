from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from llmgateway.api.models import find_model, model_object, routes, select
from llmgateway.catalog.load import load
from llmgateway.catalog.model import ListedModel
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import ModelNotFoundError
from llmgateway.keys.directory import Directory
from llmgateway.keys.modes import Identify
from tests.api.ledger.books import asking
from tests.conftest import Serve
from tests.keys.people import People

CATALOG = """
providers:
  openai: {provider: openai, api_key: sk-x}
  groq: {provider: groq, api_key: gsk-x}
models:
  - name: chat
    deployments:
      - {provider: openai, model: gpt-4o, prices_per_million: {input: 2.5, output: 10, cached: 1.25}}
      - {provider: groq, model: llama-3.3-70b-versatile}
  - name: team/fast
    deployments:
      - {provider: groq, model: llama-3.1-8b-instant, context_length: 131072, capabilities: [tools]}
"""

Get = Callable[[str], httpx2.Response]


@pytest.fixture
def catalog_() -> Catalog:
    return load(CATALOG, {})


@pytest.fixture
def get(catalog_: Catalog) -> Get:
    return asking(routes(lambda: catalog_)).get


def ids(answer: httpx2.Response) -> list[str]:
    assert answer.json()["object"] == "list"
    return [model["id"] for model in answer.json()["data"]]


def test_the_list_has_the_configured_and_the_demo_models(get: Get) -> None:
    assert {"chat", "team/fast", "demo/echo", "demo/summary"} <= set(ids(get("/v1/models")))


def test_a_model_says_what_is_known_of_it(get: Get) -> None:
    model = get("/v1/models/chat").json()

    assert model["id"] == "chat"
    assert model["object"] == "model"
    assert isinstance(model["created"], int)
    assert model["owned_by"] == "openai"
    assert model["providers"] == ["openai", "groq"]
    assert model["pricing"] == {"prompt": "0.0000025", "completion": "0.00001", "input_cache_read": "0.00000125"}
    assert "demo" not in model


def test_a_name_with_a_slash_is_found_and_a_demo_is_marked(get: Get) -> None:
    assert get("/v1/models/team/fast").json()["context_length"] == 131072
    assert get("/v1/models/team%2Ffast").json()["id"] == "team/fast"
    assert get("/v1/models/demo/echo").json()["demo"] is True


def test_pitfall_037_a_price_that_is_not_known_is_null_not_zero() -> None:
    shown = model_object(ListedModel(id="m", created=1, owned_by="vllm"))

    assert shown["pricing"] is None
    assert shown["context_length"] is None


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("?provider=openai", {"chat"}),
        ("?provider=groq", {"chat", "team/fast"}),
        ("?provider=openai&provider=demo", {"chat", "demo/echo", "demo/summary"}),
        ("?provider=nobody", set()),
        ("?capability=tools&provider=groq", {"chat", "team/fast"}),
        ("?capability=vision&provider=openai", {"chat"}),
        ("?capability=vision&capability=nonsense", set()),
    ],
)
def test_the_list_is_filtered(get: Get, query: str, wanted: set[str]) -> None:
    assert set(ids(get(f"/v1/models{query}"))) == wanted


def test_filters_ask_for_all_capabilities_and_one_of_the_providers() -> None:
    both = ListedModel("both", 1, "a", capabilities=("tools", "vision"), providers=("a", "b"))
    one = ListedModel("one", 1, "a", capabilities=("tools",), providers=("a",))

    assert select([both, one]) == [both, one]
    assert select([both, one], capabilities=["tools", "vision"]) == [both]
    assert select([both, one], providers=["b", "c"]) == [both]


def test_an_unknown_model_is_refused_with_the_nearest_ten(catalog_: Catalog) -> None:
    with pytest.raises(ModelNotFoundError) as refused:
        find_model(catalog_, "demo/ecko")

    details: Any = refused.value.details
    assert refused.value.status == 404
    assert details["available_models"][0] == "demo/echo"
    assert len(details["available_models"]) <= 10


def test_a_name_of_a_megabyte_is_not_repeated(catalog_: Catalog) -> None:
    with pytest.raises(ModelNotFoundError) as refused:
        find_model(catalog_, "m" * 1_000_000)

    assert len(refused.value.message) < 1000


def test_head_answers_where_get_does(catalog_: Catalog) -> None:
    client = asking(routes(lambda: catalog_))

    assert client.head("/v1/models").status_code == 200
    assert client.head("/v1/models/demo/echo").status_code == 200


def listed_for(catalog: Catalog, identify: Identify, key: str) -> tuple[set[str], Callable[[str], httpx2.Response]]:
    client = asking(routes(lambda: catalog), identify)
    headers = {"Authorization": f"Bearer {key}"}
    return set(ids(client.get("/v1/models", headers=headers))), lambda path: client.get(path, headers=headers)


def test_a_key_sees_the_models_that_it_may_use_and_no_other(catalog_: Catalog) -> None:
    people = People()
    key = people.add(models=("chat", "team/*"))
    seen, get = listed_for(catalog_, Identify("client", directory=Directory(people)), key)

    assert seen == {"chat", "team/fast"}
    assert get("/v1/models/chat").status_code == get("/v1/models/team/fast").status_code == 200
    foreign, unknown = get("/v1/models/demo/echo"), get("/v1/models/demo/ecko")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text.replace("demo/echo", "…")[:150] == unknown.text.replace("demo/ecko", "…")[:150]
    assert set(foreign.json()["error"]["details"]["available_models"]) <= {"chat", "team/fast"}


def test_pitfall_094_a_pattern_never_matches_across_a_providers_prefix(catalog_: Catalog) -> None:
    people = People()
    identify = Identify("client", directory=Directory(people))

    assert "team/fast" not in listed_for(catalog_, identify, people.add(models=("t*", "*a*", "?eam?fast")))[0]
    assert listed_for(catalog_, identify, people.add(models=("te*/*",)))[0] == set()
    assert listed_for(catalog_, identify, people.add(models=("team/*",)))[0] == {"team/fast"}
    assert "demo/echo" in listed_for(catalog_, identify, people.add(models=("*",)))[0]
    assert listed_for(catalog_, identify, people.add(models=("gpt-*",)))[0] == set()


def test_with_a_providers_key_its_own_models_are_listed(catalog_: Catalog) -> None:
    identify = Identify("hybrid", directory=Directory(People()), accepted=lambda: {"openai", "groq"})

    assert listed_for(catalog_, identify, "sk-proj-abcdefgh1234")[0] == {"chat"}
    seen, get = listed_for(catalog_, identify, "gsk_abcdefgh12345678")
    assert seen == {"chat", "team/fast"}
    assert get("/v1/models/demo/echo").status_code == 404


async def test_the_openai_sdk_lists_and_retrieves(gateway: Serve) -> None:
    running = await gateway()

    assert "demo/echo" in [model.id async for model in running.openai.models.list()]
    assert (await running.openai.models.retrieve("demo/echo")).owned_by == "demo"
    with pytest.raises(openai.NotFoundError) as refused:
        await running.openai.models.retrieve("demo/ecko")
    assert refused.value.code == "model_not_found"
