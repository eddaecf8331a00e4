from typing import Any

import pytest

from llmgateway.catalog.load import load
from llmgateway.catalog.model import Limits
from llmgateway.catalog.rows import NO_ROWS, DeploymentFields, RowFault, Rows, deployment_entry, provider_entry
from llmgateway.catalog.snapshot import Catalog

FILE = """
providers: {main: {provider: openai, api_key: "${KEY}"}}
models:
  - name: chat
    defaults: {temperature: 0.2}
    context_length: 1000
    drop_unsupported: true
    cache: {ttl_s: 60}
    deployments: [{provider: main, model: gpt-4o}]
"""
HOUSE = {"provider": "hosted_vllm", "api_base": "http://localhost:8001/v1/", "api_key": "sk-canary"}


def with_rows(*deployments: DeploymentFields, text: str | None = FILE, **providers: Any) -> Catalog:
    return load(text, {"KEY": "k"}, rows=Rows(providers, deployments))


def row(name: str = "chat", row_id: str = "dep_1", **fields: Any) -> DeploymentFields:
    return DeploymentFields(row_id, name, {"provider": "house", "model": "llama", **fields})


def test_a_provider_of_the_database_is_as_good_as_one_of_the_file() -> None:
    catalog = with_rows(house={**HOUSE, "timeout_s": 9, "limits": {"concurrent": 2}, "security_level": "low"})

    account = catalog.accounts["house"]
    assert (account.api_base, account.api_key, account.timeout_s) == ("http://localhost:8001/v1", "sk-canary", 9)
    assert (account.limits, account.security_level) == (Limits(concurrent=2), "low")
    assert catalog.origins == {"main": "file", "house": "database", "demo": "built_in"}
    assert catalog.warnings == ()


def test_a_deployment_joins_the_files_model_behind_its_own() -> None:
    model = with_rows(row(weight=2, limits={"concurrent": 1}), house=HOUSE).models["chat"]

    first, second = model.deployments
    assert (first.row_id, second.row_id) == (None, "dep_1")
    assert (second.account.name, second.model, second.weight, second.limits) == (
        "house",
        "llama",
        2,
        Limits(concurrent=1),
    )
    assert (second.context_length, second.drop_unsupported, dict(second.defaults)) == (1000, True, {"temperature": 0.2})
    assert model.cache_ttl_s == 60


def test_deployments_make_a_model_that_the_file_has_not() -> None:
    catalog = with_rows(row("house/new"), row("house/new", "dep_2", provider="main"), house=HOUSE)

    assert [one.row_id for one in catalog.models["house/new"].deployments] == ["dep_1", "dep_2"]
    assert "house/new" in [model.id for model in catalog.listed()]


def test_without_a_file_rows_join_what_the_environment_offers() -> None:
    catalog = load(None, {"GROQ_API_KEY": "g"}, rows=Rows({"house": HOUSE}, [row()]))

    assert catalog.origins == {"groq": "environment", "house": "database", "demo": "built_in"}
    assert catalog.resolve("chat") is not None
    assert catalog.resolve("house/any") is not None
    assert catalog.resolve("groq/any") is not None


def test_what_was_there_first_stays_and_the_row_is_left_out_with_a_warning() -> None:
    catalog = with_rows(main={**HOUSE}, demo={**HOUSE})

    assert catalog.accounts["main"].provider == "openai"
    assert catalog.accounts["demo"].wire == "demo"
    assert catalog.warnings == (
        "database: providers.main: the file has a provider of this name, which stays; it is left out",
        "database: providers.demo: the built-in has a provider of this name, which stays; it is left out",
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"provider": "hosted_vlm"}, "there is no such provider; the nearest that LiteLLM knows is 'hosted_vllm'"),
        ({"provider": "hosted_vllm"}, "hosted_vllm has no address of its own; set api_base"),
        ({**HOUSE, "api_base": "file:///etc"}, "api_base: string should match"),
        ({**HOUSE, "timout_s": 3}, "timout_s: there is no such key; the nearest is `timeout_s`"),
        ({**HOUSE, "timeout_s": "sk-canary"}, "timeout_s: input should be a valid number"),
        ({}, "provider: `provider` is missing; add it"),
    ],
)
def test_a_faulty_provider_is_left_out_with_what_rests_on_it(fields: dict[str, Any], says: str) -> None:
    catalog = with_rows(row("new"), house=fields)

    assert "house" not in catalog.accounts
    assert "new" not in catalog.models
    assert says in catalog.warnings[0]
    assert "deployments.dep_1: there is no provider 'house'" in catalog.warnings[1]
    assert "sk-canary" not in str(catalog.warnings)
    assert catalog.resolve("chat") is not None, "the rest is served"


@pytest.mark.parametrize("name", ["x*", "http://elsewhere", "/a", "a//b", "", "a b", "x" * 300])
def test_a_name_that_is_a_pattern_or_an_address_is_left_out(name: str) -> None:
    catalog = with_rows(row(name), house=HOUSE)

    assert len(catalog.warnings) == 1
    assert name not in catalog.models


def test_a_built_in_model_gets_no_further_deployment() -> None:
    catalog = with_rows(row("demo/echo"), house=HOUSE)

    assert "'demo/echo' is built in" in catalog.warnings[0]
    assert len(catalog.models["demo/echo"].deployments) == 1


def test_a_provider_without_the_key_it_needs_is_warned_of() -> None:
    catalog = with_rows(house={"provider": "groq"})

    assert catalog.warnings == ("database: providers.house: it has no key; calls to groq will be refused",)
    assert "house" in catalog.accounts


def test_the_environments_key_never_goes_to_a_rows_address() -> None:
    base = {"provider": "openai", "api_base": "https://elsewhere.example/v1"}
    catalog = load("", {"OPENAI_API_KEY": "sk-env"}, rows=Rows({"house": base}))

    assert catalog.accounts["house"].api_key is None


def test_nothing_of_the_environment_is_read_into_a_row() -> None:
    catalog = with_rows(house={**HOUSE, "api_key": "${KEY}"})

    assert catalog.accounts["house"].api_key == "${KEY}"


def test_the_version_changes_with_every_row_and_shows_none() -> None:
    versions = {
        with_rows().version,
        with_rows(house=HOUSE).version,
        with_rows(house={**HOUSE, "api_key": "another"}).version,
        with_rows(row(), house=HOUSE).version,
        with_rows(row(row_id="dep_2"), house=HOUSE).version,
    }

    assert len(versions) == 5
    assert load(FILE, {"KEY": "k"}, rows=NO_ROWS).version in versions


def test_keys_of_rows_are_secrets() -> None:
    catalog = with_rows(house={**HOUSE, "options": {"aws_secret_access_key": "hidden"}})

    assert {"sk-canary", "hidden"} <= set(catalog.secrets())
    assert "sk-canary" not in repr(catalog) + repr(Rows({"house": HOUSE}))


def test_a_row_is_checked_as_the_file_is() -> None:
    assert provider_entry("house", HOUSE).provider == "hosted_vllm"
    assert deployment_entry(row()).model == "llama"
    with pytest.raises(RowFault, match="its name: string should match"):
        provider_entry("a/b", HOUSE)
