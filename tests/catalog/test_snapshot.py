import sys

import pytest

from llmgateway.catalog.load import load
from llmgateway.catalog.snapshot import Catalog, Passthrough
from tests.timing import relative_cost

NAMES = """
    OPENAI_API_KEY ANTHROPIC_API_KEY GEMINI_API_KEY GROQ_API_KEY MISTRAL_API_KEY COHERE_API_KEY TOGETHERAI_API_KEY
    XAI_API_KEY AWS_PROFILE
"""
KEYS = dict.fromkeys(NAMES.split(), "k")


@pytest.fixture(scope="module")
def everything() -> Catalog:
    return load(None, KEYS)


def target(catalog: Catalog, name: str) -> str | None:
    model = catalog.resolve(name)
    return None if model is None else f"{model.deployments[0].account.name} {model.deployments[0].model}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4o", "openai gpt-4o"),
        ("gpt-nobody-knows-yet", "openai gpt-nobody-knows-yet"),
        ("o3-mini", "openai o3-mini"),
        ("text-embedding-3-small", "openai text-embedding-3-small"),
        ("ft:gpt-4o-mini-2024-07-18", "openai ft:gpt-4o-mini-2024-07-18"),
        ("claude-sonnet-4-5", "anthropic claude-sonnet-4-5"),
        ("gemini-2.5-pro", "gemini gemini-2.5-pro"),
        ("command-r-plus-08-2024", "cohere command-r-plus-08-2024"),
        ("groq/llama-3.1-8b-instant", "groq llama-3.1-8b-instant"),
        ("together_ai/meta-llama/Llama-3-8b", "together_ai meta-llama/Llama-3-8b"),
        ("openai/gpt-4o", "openai gpt-4o"),
        ("bedrock/anthropic.claude-v2:1", "bedrock anthropic.claude-v2:1"),
    ],
)
def test_names_lead_to_their_provider(everything: Catalog, name: str, expected: str) -> None:
    assert target(everything, name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "",
        "/",
        "openai/",
        "/gpt-4o",
        "openai//gpt-4o",
        "openai/../x",
        "openai/./x",
        "groq/a b",
        "groq/a?b=c",
        "groq/a%2e",
        "groq/é",
        "groq/http://evil.example",
        "http://evil.example",
        "huggingface/x",
        "fireworks_ai/x",
        "demo/other",
        "groq/" + "x" * 300,
        "groq/x\n",
        "meta-llama/Llama-3-8b",
    ],
)
def test_names_that_lead_nowhere(everything: Catalog, name: str) -> None:
    assert everything.resolve(name) is None


def test_pitfall_131_an_address_in_a_models_name_never_chooses_an_upstream() -> None:
    keys = {"HUGGINGFACE_API_KEY": "k", "GROQ_API_KEY": "g"}

    assert load(None, keys).resolve("huggingface/https://evil.example/v1") is None
    assert load(None, keys).resolve("huggingface/model") is None
    assert load(None, keys).resolve("groq/https:/evil.example") is not None  # a name like any other: no address

    named = 'providers: {hf: {provider: huggingface, api_base: "https://tgi.example"}}\n'
    models = 'models: [{name: tgi, deployments: [{provider: hf, model: m}]}, {name: "*", passthrough: true}]'
    catalog = load(named + models, keys)
    assert target(catalog, "tgi") == "hf m", "the operator may name one"
    assert catalog.resolve("hf/model") is None, "a client may not"


def test_the_catalogs_own_name_goes_before_a_well_known_one() -> None:
    catalog = load(
        'providers: {g: {provider: groq, api_key: "${K}"}}\n'
        'models: [{name: gpt-4o, deployments: [{provider: g, model: llama}]}, {name: "*", passthrough: true}]',
        {"K": "k", "OPENAI_API_KEY": "o"},
    )

    assert target(catalog, "gpt-4o") == "g llama"
    assert target(catalog, "openai/gpt-4o") == "openai gpt-4o"
    assert target(catalog, "g/other") == target(catalog, "groq/other") == "g other"


@pytest.mark.parametrize(
    ("pattern", "taken", "refused"),
    [
        ("*", ["gpt-4o", "groq/a", "together_ai/a/b"], []),
        ("groq/*", ["groq/a", "groq/openai/gpt-oss"], ["gpt-4o", "openai/groq", "groqq/a"]),
        ("gpt-*", ["gpt-4o"], ["openai/gpt-4o", "azure/gpt-4o", "xgpt-4o"]),
        ("groq/llama*", ["groq/llama-3"], ["groq/mixtral", "llama-3"]),
        ("*/gpt-4o", [], ["openai/gpt-4o", "gpt-4o"]),
    ],
)
def test_pitfall_094_a_pattern_never_matches_across_a_providers_prefix(
    pattern: str, taken: list[str], refused: list[str]
) -> None:
    entry = Passthrough(pattern)

    assert [name for name in taken + refused if entry.takes(name)] == taken


def test_pitfall_094_only_what_a_pattern_offers_is_offered() -> None:
    catalog = load(
        "providers: {groq: {provider: groq}, openai: {provider: openai}}\n"
        'models: [{name: "groq/*", passthrough: true, drop_unsupported: true, defaults: {temperature: 0}}]',
        KEYS,
    )

    model = catalog.resolve("groq/x")
    assert model is not None
    assert (model.deployments[0].drop_unsupported, dict(model.deployments[0].defaults)) == (True, {"temperature": 0})
    assert catalog.resolve("gpt-4o") is None
    assert catalog.resolve("openai/gpt-4o") is None
    assert set(catalog.accounts) == {"groq", "openai", "demo"}
    assert {model.owned_by for model in catalog.listed()} == {"groq", "demo"}


def test_without_passthrough_only_the_named_models_are_on_offer() -> None:
    text = (
        "providers: {openai: {provider: openai}}\nmodels: [{name: chat, deployments: [{provider: openai, model: x}]}]"
    )

    catalog = load(text, KEYS)

    assert catalog.resolve("gpt-4o") is None
    assert [model.id for model in catalog.listed()] == ["chat", "demo/echo", "demo/summary"]


def test_the_list_says_what_a_client_wants_to_know(everything: Catalog) -> None:
    listed = {model.id: model for model in everything.listed()}

    model = listed["gpt-4o"]
    assert (model.owned_by, model.providers, model.context_length) == ("openai", ("openai",), 128000)
    assert dict(model.pricing) == {"prompt": "0.0000025", "completion": "0.00001", "input_cache_read": "0.00000125"}
    assert "vision" in model.capabilities
    assert not model.demo
    assert listed["demo/echo"].demo
    assert {"claude-sonnet-4-5", "gemini-2.5-pro", "mistral-large-latest"} <= set(listed)
    assert any(name.startswith("groq/") for name in listed)
    assert len(listed) == len(everything.listed())


def test_everything_on_the_list_resolves(everything: Catalog) -> None:
    assert [model.id for model in everything.listed() if everything.resolve(model.id) is None] == []


def test_azures_deployments_are_not_guessed() -> None:
    catalog = load(None, {"AZURE_API_KEY": "k", "AZURE_API_BASE": "https://r.example"})

    assert [model.id for model in catalog.listed()] == ["demo/echo", "demo/summary"]
    assert target(catalog, "azure/my-deployment") == "azure my-deployment"


def test_the_nearest_names_are_told(everything: Catalog) -> None:
    assert everything.nearest("gpt-4o-mni")[0] == "gpt-4o-mini"
    assert len(everything.nearest("gpt-4o-mni")) == 10


def test_resolving_a_name_again_costs_less_than_writing_a_small_json_and_gives_the_same(everything: Catalog) -> None:
    model = everything.resolve("groq/anything")

    assert everything.resolve("groq/anything") is model
    assert relative_cost(lambda: everything.resolve("groq/anything"), number=5000) < 1


def test_pitfall_062_names_made_up_by_clients_do_not_fill_the_memory() -> None:
    catalog = load(None, KEYS)

    for n in range(10_000):
        assert catalog.resolve(f"groq/made-up-{n}") is not None
        assert catalog.resolve(f"made-up-{n}") is None

    assert len(catalog._derived) == 4096  # noqa: SLF001  # the bound itself
    assert sys.getsizeof(catalog._derived) < 300_000  # noqa: SLF001


def test_warm_leaves_nothing_for_the_first_request(everything: Catalog) -> None:
    everything.warm()

    assert {"_listed", "_nearest"} <= set(vars(everything))


def test_a_name_that_can_be_called_can_be_described() -> None:
    catalog = load(None, {"GROQ_API_KEY": "gsk_x"})

    described = catalog.describe("groq/some-model-of-tomorrow")

    assert described is not None
    assert described.id == "groq/some-model-of-tomorrow"
    assert catalog.describe("groq//nothing") is None


def test_every_kind_of_price_that_is_known_is_shown_without_losing_a_digit() -> None:
    kinds = "input: 0.0375, output: 10, cached: 0.1, cache_write: 2.55, reasoning: 12, audio_input: 40, image_input: 5"
    text = f"""
providers: {{main: {{provider: openai, api_key: sk-1}}}}
models: [{{name: m, prices_per_million: {{{kinds}}}, deployments: [{{provider: main, model: x}}]}}]
"""
    model = load(text, {}).describe("m")

    assert model is not None
    assert dict(model.pricing) == {
        "prompt": "0.0000000375",
        "completion": "0.00001",
        "input_cache_read": "0.0000001",
        "input_cache_write": "0.00000255",
        "internal_reasoning": "0.000012",
        "audio": "0.00004",
        "image": "0.000005",
    }
