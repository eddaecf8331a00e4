from llmgateway.catalog.building.yaml_text import read
from llmgateway.catalog.check import UNKNOWN, check, nearest


def test_what_is_right_is_kept_when_something_else_is_wrong() -> None:
    reading = read("providers: {a: {provider: openai, timeout_s: x}, b: {api_key: k}}\nmodels: [3]\nwhat: 1\n", {})

    file = check(reading)

    assert file.providers["a"].timeout_s is None
    assert file.providers["a"].provider == "openai"
    assert file.providers["b"].provider == UNKNOWN
    assert [model.name for model in file.models] == [UNKNOWN]
    assert len(reading.faults) == 4


def test_an_entry_that_says_nothing_without_what_it_lacks_goes_whole() -> None:
    reading = read("models: [{name: m, semantic_cache: {threshold: 0.9}}]", {})

    assert check(reading).models[0].semantic_cache is None
    assert reading.faults[0][1] == ("models", 0, "semantic_cache", "embedding_model")


def test_keys_without_a_value_mean_the_default() -> None:
    reading = read("providers: {a: {provider: openai, security_level: , limits: }}\nmodels:\nauto:\n", {})

    file = check(reading)

    assert (reading.faults, file.providers["a"].security_level, file.models) == ([], None, ())


def test_what_comes_out_cannot_be_repaired_into_something_else() -> None:
    assert check(read("providers: 3\nmodels: {a: 1}\n", {})).providers == {}


def test_the_nearest_name_is_found_even_among_none() -> None:
    assert nearest("opnai", ["groq", "openai"]) == "openai"
    assert nearest("x", []) == "(none)"
