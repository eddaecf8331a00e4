import pytest

from llmgateway.catalog import known
from llmgateway.catalog.equivalents import equivalents_in, home_of, shipped, table_of
from llmgateway.catalog.load import load
from llmgateway.catalog.snapshot import Catalog
from tests.catalog.building.given import catalog_of, model

OWN = [["openai/gpt-4o", "groq/fast", "hosted_vllm/llama"], ["openai/gpt-4o", "groq/other"]]
ENVIRON = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY"), "k")
SHIPPED_NAMES = sorted({*shipped(), *(other for others in shipped().values() for other in others)})


def others_of(catalog: Catalog, name: str) -> tuple[str, ...]:
    found = catalog.resolve(name)
    assert found is not None
    return catalog.equivalents(found.deployments[0])


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_every_name_that_is_shipped_is_a_chat_model_of_litellms_table(name: str) -> None:
    provider, _, its = name.partition("/")
    found = known.find(provider, its)

    assert found is not None, "it is gone: take it out, or put what replaced it in its place"
    assert found.mode == "chat"
    assert found.prices is not None


def test_what_is_shipped_never_names_a_providers_own_and_one_of_each_other() -> None:
    for name, others in shipped().items():
        provider = name.partition("/")[0]
        assert others
        assert provider not in {other.partition("/")[0] for other in others}
        assert len(set(others)) == len(others)
        asked = [other.partition("/")[0] for other in others]
        assert len(set(asked)) == len(asked)


def test_nobody_is_shipped_who_is_known_to_lack_what_most_calls_need() -> None:
    for name in SHIPPED_NAMES:
        found = known.find(*name.split("/", 1))
        assert found is not None
        assert found.lacks.isdisjoint({"tools", "json_schema", "streaming"}), name


def test_groups_lead_from_each_to_the_others_in_their_order() -> None:
    table = table_of(OWN)

    assert table["openai/gpt-4o"] == ("groq/fast", "hosted_vllm/llama", "groq/other")
    assert table["hosted_vllm/llama"] == ("openai/gpt-4o", "groq/fast")
    assert equivalents_in(table, "openai", "gpt-4o-2024-08-06") == table["openai/gpt-4o"]
    assert equivalents_in(table, "openai", "gpt-4o-mini") == ()


@pytest.mark.parametrize(
    ("provider", "name", "home"),
    [
        ("azure", "gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic/claude-sonnet-4-5"),
        ("bedrock", "anthropic.claude-opus-4-6-v1", "anthropic/claude-opus-4-6"),
        ("vertex_ai", "claude-haiku-4-5@20251001", "anthropic/claude-haiku-4-5"),
        ("vertex_ai", "gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("vertex_ai", "mistral-large-2411", None),
        ("bedrock", "meta.llama3-1-8b-instruct-v1:0", None),
        ("openai", "gpt-4o", None),
    ],
)
def test_what_is_sold_elsewhere_has_a_home(provider: str, name: str, home: str | None) -> None:
    assert home_of(provider, name) == home


def test_home_comes_first_for_what_is_sold_elsewhere() -> None:
    table = table_of([["openai/gpt-4o", "groq/fast", "azure/mine"]])

    assert equivalents_in(table, "azure", "gpt-4o-2024-11-20") == ("openai/gpt-4o", "groq/fast")


def test_only_what_this_catalog_can_reach_is_named() -> None:
    full, bare = load(None, ENVIRON), load(None, {"OPENAI_API_KEY": "k"})

    assert [name.partition("/")[0] for name in others_of(full, "gpt-4o")] == ["anthropic", "gemini"]
    assert others_of(bare, "gpt-4o") == ()


def test_an_account_without_its_key_is_not_reached() -> None:
    text = "providers: {openai: {provider: openai}, anthropic: {provider: anthropic}, gemini: {provider: gemini}}\n"
    chat = "models: [{name: chat, deployments: [{provider: openai, model: gpt-4o}]}]"

    catalog = load(text + chat, {"OPENAI_API_KEY": "k", "GEMINI_API_KEY": "k"})

    assert others_of(catalog, "chat") == ("gemini/gemini-2.5-pro",)


def test_what_is_shipped_never_goes_to_an_address_that_stands_in_for_the_provider() -> None:
    accounts = "a: {provider: anthropic, api_key: '${K:-k}'}, b: {provider: openai, api_key: '${K:-k}', api_base: BASE}"
    chat = "models: [{name: chat, deployments: [{provider: a, model: claude-sonnet-4-5}]}]"
    text = f"providers: {{{accounts}}}\n{chat}"
    own = "\nequivalents: [[anthropic/claude-sonnet-4-5, openai/gpt-4o]]"

    assert others_of(load(text.replace("BASE", "http://localhost:1"), {}), "chat") == ()
    assert others_of(load(text.replace("BASE", "https://api.openai.com/v1"), {}), "chat") == ("openai/gpt-5.4",)
    assert others_of(load(text.replace("BASE", "http://localhost:1") + own, {}), "chat") == ("openai/gpt-4o",)


def test_the_catalogs_own_table_replaces_what_is_shipped_and_an_empty_one_ends_it() -> None:
    chat = model("chat", "gpt-4o", provider="main")
    groq = model("groq", "openai/gpt-oss-120b", provider="other")

    assert others_of(catalog_of(chat, equivalents=OWN), "chat") == ("groq/fast", "hosted_vllm/llama", "groq/other")
    assert others_of(catalog_of(chat, groq), "groq") == ("openai/gpt-5.4-mini",)
    assert others_of(catalog_of(chat, groq, equivalents=OWN), "groq") == ()
    assert others_of(catalog_of(chat, groq, equivalents=[]), "groq") == ()
    assert catalog_of(chat, equivalents=[]).version != catalog_of(chat).version


def test_an_equivalent_can_be_asked_though_no_client_can_name_it() -> None:
    catalog = catalog_of(model("chat", "gpt-4o", provider="main"), equivalents=OWN)

    found = catalog.reach("groq/fast")

    assert catalog.resolve("groq/fast") is None
    assert found is not None
    assert (found.name, found.in_catalog, found.deployments[0].account.name) == ("groq/fast", False, "other")
    assert catalog.reach("groq/fast") is found
    assert catalog.reach("chat") is catalog.models["chat"]
    assert catalog.reach("groq/none-of-these") is None


def test_an_equivalent_that_the_catalog_names_itself_is_asked_as_it_says() -> None:
    mine = model("mine", "fast", provider="other", context_length=77)
    again = model("again", "fast", provider="other", context_length=88)

    found = catalog_of(model("chat", "gpt-4o", provider="main"), mine, again, equivalents=OWN).reach("groq/fast")

    assert found is not None
    assert [one.context_length for one in found.deployments] == [77]
