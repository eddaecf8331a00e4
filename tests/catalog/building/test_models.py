from llmgateway.catalog.building.models import DEMO_MODELS, auto_from, name_fault
from llmgateway.catalog.load import load
from llmgateway.catalog.model import CALL_NEEDS, Auto, Hedging
from llmgateway.catalog.rows import DeploymentFields, Rows
from llmgateway.wire.needs import NEEDED_BY
from tests.catalog.building.given import catalog_of, model, text_of


def test_how_a_model_is_routed_is_taken_from_its_entry() -> None:
    catalog = catalog_of(
        {
            "name": "chat",
            "strategy": "weighted",
            "rescue": True,
            "hedge": {"percentile": 90, "max_share": 0.1},
            "probe": {"interval_s": 30},
            "deployments": [
                {"provider": "house", "model": "x", "weight": 3},
                {"provider": "house", "model": "y", "probe": {"interval_s": 5}},
            ],
        },
        model("plain", hedge={}),
    )

    chat, plain = catalog.models["chat"], catalog.models["plain"]
    assert (chat.strategy, chat.rescue, chat.hedge) == ("weighted", True, Hedging(90, 0.1))
    assert (plain.strategy, plain.rescue, plain.hedge) == ("priority", False, Hedging())
    assert [(one.weight, one.probe_s) for one in chat.deployments] == [(3, 30), (1, 5)]
    assert [one.probe_s for one in plain.deployments] == [None]


def test_a_list_of_capabilities_is_literal() -> None:
    catalog = catalog_of(
        model("mine", capabilities=["streaming", "tools", "web_search"]),
        model("known", "gpt-4o", provider="main", capabilities=["streaming"]),
    )

    mine, known = catalog.models["mine"].deployments[0], catalog.models["known"].deployments[0]
    assert mine.capabilities == {"streaming", "tools", "web_search"}
    assert mine.lacks == CALL_NEEDS - {"streaming", "tools"}
    assert (known.capabilities, known.lacks) == (frozenset({"streaming"}), CALL_NEEDS - {"streaming"})


def test_without_a_list_only_what_litellm_denies_is_lacking() -> None:
    catalog = catalog_of(model("house"), model("o3", "o3-mini", provider="main"))

    assert catalog.models["house"].deployments[0].lacks == frozenset()
    lacks = catalog.models["o3"].deployments[0].lacks
    assert "vision" in lacks
    assert "tools" not in lacks
    assert lacks.isdisjoint(catalog.models["o3"].deployments[0].capabilities)


def test_whatever_a_call_may_need_can_be_lacking() -> None:
    assert set(NEEDED_BY) == CALL_NEEDS


def test_models_of_the_file_and_the_database_are_in_the_catalog_and_others_follow_from_it() -> None:
    rows = Rows({}, [DeploymentFields("dep_1", "row", {"provider": "house", "model": "x"})])
    catalog = load(text_of([model("file"), {"name": "groq/*", "passthrough": True}]), {}, rows=rows)

    named = {name: catalog.resolve(name) for name in ("file", "row", "groq/openai/gpt-oss-20b", "groq/made-up")}

    assert {name: found is not None and found.in_catalog for name, found in named.items()} == {
        "file": True,
        "row": True,
        "groq/openai/gpt-oss-20b": False,
        "groq/made-up": False,
    }


def test_some_names_are_taken() -> None:
    assert "is built in" in (name_fault("demo/echo") or "")
    assert "the gateway picks among the others" in (name_fault("auto") or "")
    assert name_fault("automatic") is None


def test_auto_is_there_as_soon_as_there_is_a_model() -> None:
    assert auto_from(None, {}) is None
    assert auto_from(None, DEMO_MODELS) == Auto(strategy="balanced")
    assert catalog_of().auto is None
    assert catalog_of(model("chat")).auto == Auto()
