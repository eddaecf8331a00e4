from typing import Any

import pytest

from llmgateway.catalog.snapshot import Catalog
from tests.catalog.building.given import catalog_of, model

FEW = {"any": ["b"]}


def told(catalog: Catalog) -> list[str]:
    """Give the warnings of models, without their lines."""
    said = [warning.split(": ", 1)[1] for warning in catalog.warnings]
    return [one for one in said if one.startswith("models")]


@pytest.mark.parametrize("key", ["rescue", "hedge"])
def test_another_deployment_that_is_not_there_is_told(key: str) -> None:
    said: dict[str, Any] = {key: {"rescue": True, "hedge": {"percentile": 90}}[key]}
    without = f"models[0].{key}: without effect: the model has one deployment and no fallback; add one"

    assert told(catalog_of(model("a", **said))) == [without]
    assert told(catalog_of(model("a", fallbacks={"any": []}, **said))) == [without]
    assert told(catalog_of(model("a", "x", "y", **said))) == []
    assert told(catalog_of(model("a", fallbacks=FEW, **said), model("b"))) == []
    assert told(catalog_of(model("a"))) == []


def test_an_equivalent_is_another_deployment() -> None:
    chat = model("chat", "gpt-4o", provider="main", rescue=True)

    assert told(catalog_of(chat, equivalents=[["openai/gpt-4o", "groq/x"]])) == []
    assert len(told(catalog_of(chat, equivalents=[]))) == 1


def test_what_is_cheapest_needs_prices() -> None:
    prices = {"input": 1, "output": 2}

    (warning,) = told(catalog_of(model("a", "x", "y", strategy="cheapest")))

    assert warning == "models[0].strategy: no price is known for x, y, which come last then; say `prices_per_million`"
    assert told(catalog_of(model("a", "x", strategy="cheapest", prices_per_million=prices))) == []
    assert told(catalog_of(model("a", "x"))) == []


def test_a_list_of_capabilities_that_stops_streams_is_told() -> None:
    says = "capabilities: `streaming` is not among them, so no stream goes there; add it, if it can"
    of_deployment = {"name": "a", "deployments": [{"provider": "house", "model": "x", "capabilities": ["tools"]}]}

    assert told(catalog_of(model("a", capabilities=[]))) == [f"models[0].{says}"]
    assert told(catalog_of(of_deployment)) == [f"models[0].deployments[0].{says}"]
    assert told(catalog_of(model("a", capabilities=["streaming", "web_search"]))) == []
    assert told(catalog_of(model("e", "text-embedding-3-small", provider="main", capabilities=[]))) == []


def test_a_capability_that_nothing_asks_for_is_told_with_the_nearest() -> None:
    (warning,) = told(catalog_of(model("a", capabilities=["streaming", "visoin"])))

    assert warning == "models[0].capabilities[1]: nothing asks for a capability 'visoin'; the nearest is 'vision'"


def test_what_a_pattern_cannot_have_is_told() -> None:
    pattern = {"name": "groq/*", "passthrough": True, "strategy": "fastest", "probe": {"interval_s": 3}}

    assert told(catalog_of(pattern)) == [
        f"models[0].{key}: without effect on a pattern: say it of a model with a name of its own"
        for key in ("strategy", "probe")
    ]
    assert told(catalog_of({"name": "groq/*", "passthrough": True, "strategy": "priority", "rescue": False})) == []
