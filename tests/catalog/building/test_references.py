from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.catalog.building.references import cycle_in
from llmgateway.catalog.load import CatalogError, load
from llmgateway.catalog.model import Auto, Fallbacks
from tests.catalog.building.given import catalog_of, model, text_of

CAUSES = ("any", "context", "content_filter", "rate_limit")
NAMES = "abcdef"
LISTS = st.dictionaries(st.sampled_from(CAUSES), st.lists(st.sampled_from(NAMES), max_size=3), max_size=4)


def faults_in(text: str) -> list[str]:
    try:
        load(text, {})
    except CatalogError as error:
        return list(error.faults)
    return []


def faults_of(*models: object, **sections: object) -> list[str]:
    return faults_in(text_of(models, **sections))


def has_cycle(graph: dict[str, set[str]]) -> bool:
    """Say it the slow way: somebody can be reached from itself."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [*graph[start]]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += graph[name]
        return found

    return any(name in reached(name) for name in graph)


@settings(deadline=None)
@given(lists=st.fixed_dictionaries(dict.fromkeys(NAMES, LISTS)))
def test_fallbacks_are_refused_exactly_when_they_lead_back(lists: dict[str, dict[str, list[str]]]) -> None:
    graph = {name: {other for names in its.values() for other in names} for name, its in lists.items()}
    text = text_of([model(name, fallbacks=its) for name, its in lists.items()])

    faults = faults_in(text)

    assert (faults != []) == has_cycle(graph)
    assert all("is the model itself" in fault or "fall back in a circle" in fault for fault in faults)


@settings(deadline=None)
@given(graph=st.fixed_dictionaries(dict.fromkeys(NAMES, st.sets(st.sampled_from(NAMES)))))
def test_a_circle_that_is_found_is_one(graph: dict[str, set[str]]) -> None:
    graph = {name: others - {name} for name, others in graph.items()}

    cycle = cycle_in(graph)

    assert (cycle is not None) == has_cycle(graph)
    if cycle is not None:
        assert len(set(cycle)) == len(cycle)
        assert all(after in graph[name] for name, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))


def test_fallbacks_of_each_cause_are_kept_and_what_is_not_given_is_not_empty() -> None:
    catalog = catalog_of(
        model("chat", fallbacks={"any": ["b", "demo/echo"], "content_filter": []}), model("b"), model("plain")
    )

    assert catalog.models["chat"].fallbacks == Fallbacks(("b", "demo/echo"), None, (), None)
    assert catalog.models["plain"].fallbacks is None


def test_a_fallback_that_is_nowhere_is_a_fault_with_the_nearest_name() -> None:
    (fault,) = faults_of(model("chat", fallbacks={"any": ["chat-bakcup"]}), model("chat-backup"))

    assert fault.startswith("gateway.yaml:18: models[0].fallbacks.any[0]: ")
    assert fault.endswith("there is no model 'chat-bakcup' on offer; the nearest is 'chat-backup'")


def test_the_nearest_name_is_never_the_models_own() -> None:
    (fault,) = faults_of(model("chat", fallbacks={"any": ["chat2"]}), model("unlike"))

    assert "the nearest is 'chat'" not in fault


def test_a_fallback_may_be_a_name_that_follows_from_a_pattern() -> None:
    chat = model("chat", fallbacks={"any": ["groq/any-model"]})
    catalog = catalog_of(chat, {"name": "groq/*", "passthrough": True})

    assert catalog.resolve("groq/any-model") is not None
    assert "'groq/any-model'" in faults_of(chat)[0]


def test_what_is_missing_because_of_another_fault_is_not_told_as_well() -> None:
    broken = {"provider": "hosted_vllm"}
    chat = model("chat", fallbacks={"any": ["late/model"]})

    (fault,) = faults_of(chat, {"name": "*", "passthrough": True}, providers={"house": broken, "late": broken})[:1]

    assert "has no address of its own" in fault


def test_a_fallback_to_itself_is_a_fault() -> None:
    (fault,) = faults_of(model("chat", fallbacks={"rate_limit": ["chat"]}))

    assert "models[0].fallbacks.rate_limit[0]: 'chat' is the model itself; name another" in fault


def test_a_circle_is_named_from_its_first_model_whatever_the_causes() -> None:
    (fault,) = faults_of(
        model("start", fallbacks={"any": ["b"]}),
        model("a", fallbacks={"context": ["b"]}),
        model("b", fallbacks={"any": ["end"], "rate_limit": ["c", "end"]}),
        model("c", fallbacks={"content_filter": ["a"]}),
        model("end"),
    )

    assert "models[1].fallbacks: fall back in a circle: a -> b -> c -> a; take one of these out" in fault


def test_every_circle_is_told_but_not_all_of_a_thousand() -> None:
    two = faults_of(*(model(one, fallbacks={"any": [other]}) for one, other in ("ab", "ba", "cd", "dc")))
    names = [f"m{n}" for n in range(12)]
    all_to_all = faults_of(*(model(name, fallbacks={"any": [x for x in names if x != name]}) for name in names))

    assert [fault.partition("circle: ")[2].partition(";")[0] for fault in two] == ["a -> b -> a", "c -> d -> c"]
    assert len(all_to_all) == 10


def test_auto_names_models_for_tasks_and_those_to_pick_from() -> None:
    models = [model("chat"), model("long")]

    auto = catalog_of(
        *models, auto={"tasks": {"summarization": "long"}, "models": ["chat", "long"], "strategy": "cheapest"}
    ).auto

    assert auto is not None
    assert (dict(auto.tasks), auto.models, auto.strategy) == ({"summarization": "long"}, ("chat", "long"), "cheapest")
    assert catalog_of(*models, auto={"tasks": {}}).auto == Auto()


@pytest.mark.parametrize(
    ("auto", "says"),
    [
        ({"tasks": {"summarization": "logn"}}, "auto.tasks.summarization: there is no model 'logn' on offer; the near"),
        ({"tasks": {"Summing up": "long"}}, "auto.tasks.Summing up: string should match pattern '^[a-z_]"),
        ({"models": ["long", "x"]}, "auto.models[1]: there is no model 'x' on offer"),
        ({"models": []}, "auto.models: name at least one, or leave it out"),
        ({"tasks": {"code": "auto"}}, "auto.tasks.code: `auto` picks among models and is none; name one of them"),
        ({"strategy": "fastst"}, "auto.strategy: input should be 'priority', 'weighted'"),
    ],
)
def test_what_auto_cannot_pick_is_a_fault(auto: Any, says: str) -> None:
    (fault,) = faults_of(model("long"), auto=auto)

    assert says in fault


def test_auto_is_the_name_of_no_model() -> None:
    (fault,) = faults_of(model("auto"))

    assert "models[0].name: 'auto' is the name under which the gateway picks among the others" in fault


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpt-4o", "'gpt-4o' is not of the form provider/model, such as openai/gpt-4o"),
        ("openai/", "'openai/' is not of the form provider/model"),
        ("opnai/gpt-4o", "'opnai/gpt-4o' names a provider that LiteLLM does not know; the nearest is 'openai'"),
    ],
)
def test_an_equivalent_that_can_be_nobodys_is_a_fault(name: str, says: str) -> None:
    (fault,) = faults_of(model("chat"), equivalents=[["groq/x", "openai/y"], ["groq/x", name]])

    assert f"equivalents[1][1]: {says}" in fault
