from llmgateway.catalog.building.listed import listed_auto, listed_model, may_choose
from llmgateway.catalog.load import load
from llmgateway.catalog.snapshot import Catalog
from tests.catalog.building.given import catalog_of, model

BIG = model("big", context_length=200_000, capabilities=["streaming", "vision"])
SMALL = model("small", "gpt-4o", provider="main", context_length=8_000, capabilities=["streaming", "tools"])
EMBED = model("embed", "text-embedding-3-small", provider="main")


def ids(catalog: Catalog) -> list[str]:
    return [entry.id for entry in catalog.listed()]


def test_auto_can_what_one_of_its_models_can() -> None:
    catalog = catalog_of(BIG, SMALL)

    entry = catalog.describe("auto")

    assert entry is not None
    assert entry == catalog.listed()[-1] == listed_auto([catalog.models["big"], catalog.models["small"]])
    assert (entry.owned_by, entry.context_length, dict(entry.pricing)) == ("llmgateway", 200_000, {})
    assert entry.capabilities == ("streaming", "tools", "vision")
    assert entry.providers == (), "whoever wants one provider's models does not want any"
    assert catalog.resolve("auto") is None


def test_auto_is_listed_only_where_there_is_something_to_pick() -> None:
    assert "auto" not in ids(catalog_of())
    assert "auto" not in ids(catalog_of(BIG, EMBED))
    assert catalog_of(BIG, EMBED).describe("auto") is None
    assert "auto" in ids(catalog_of(BIG, EMBED, auto={"tasks": {"code": "big"}}))
    assert "auto" in ids(catalog_of(BIG, SMALL))
    assert "auto" not in ids(load(None, {"OPENAI_API_KEY": "k"}))


def test_no_pattern_makes_a_model_of_auto() -> None:
    for pattern in ("*", "a*"):
        assert catalog_of({"name": pattern, "passthrough": True}).resolve("auto") is None


def test_auto_picks_from_those_it_is_given() -> None:
    entry = catalog_of(BIG, SMALL, auto={"models": ["small"]}).describe("auto")

    assert entry is not None
    assert (entry.context_length, entry.capabilities) == (8_000, ("streaming", "tools"))


def test_nobody_means_the_demo_or_vectors_by_auto() -> None:
    catalog = catalog_of(BIG, EMBED)

    assert may_choose(catalog.models.values()) == [catalog.models["big"]]


def test_the_first_deployment_speaks_for_its_model() -> None:
    entry = listed_model(catalog_of(model("chat", "x", "y", context_length=7)).models["chat"])

    assert (entry.id, entry.owned_by, entry.context_length, entry.demo) == ("chat", "hosted_vllm", 7, False)
