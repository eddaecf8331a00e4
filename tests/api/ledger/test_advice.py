import json
from collections.abc import Callable
from typing import Any

import pytest

from llmgateway.api.ledger.advice import Recommendation, recommend
from llmgateway.catalog.load import load
from llmgateway.catalog.snapshot import Catalog
from llmgateway.storage.queries import Spent

FACTS: dict[str, Any] = {"context_length": 100_000, "max_output_tokens": 8000, "capabilities": ["streaming", "tools"]}
DEAR: dict[str, Any] = {"prices_per_million": {"input": 10, "output": 100}, **FACTS}
CHEAP: dict[str, Any] = {"prices_per_million": {"input": 1, "output": 10}, **FACTS}


def entry(name: str, *deployments: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "deployments": [{"provider": by, "model": model, **more} for by, model, more in deployments]}


def catalog(*models: dict[str, Any], equivalents: list[list[str]] | None = None, **accounts: Any) -> Catalog:
    """Make one of three accounts: `main` and `second` at OpenAI, `claude` at Anthropic."""
    providers = {
        "main": {"provider": "openai", "api_key": "k1"} | accounts.get("main", {}),
        "second": {"provider": "openai", "api_key": "k2"} | accounts.get("second", {}),
        "claude": {"provider": "anthropic", "api_key": "k3"},
    }
    file: Any = {"providers": providers, "models": list(models), "equivalents": equivalents or []}
    return load(json.dumps(file), {})


def spent(**fields: Any) -> Spent:
    """What a thousand requests cost at `main`'s dear model: 10 USD for the prompts, and 20 for the answers."""
    given: dict[str, Any] = {
        "model": "chat",
        "provider": "main",
        "upstream_model": "dear-one",
        "requests": 1000,
        "cost_usd": 30.0,
        "prompt_tokens": 1_000_000,
        "completion_tokens": 200_000,
        "longest_prompt_tokens": 5000,
        "longest_answer_tokens": 900,
    }
    return Spent(**{**given, **fields})


def advised(found: list[Recommendation]) -> list[tuple[str, str, float]]:
    return [(one.alternative_model, one.alternative_provider, one.alternative_cost_usd) for one in found]


def anything(_: str) -> bool:
    return True


TWO_ACCOUNTS = catalog(entry("chat", ("main", "dear-one", DEAR), ("second", "dear-one", CHEAP)))
GROUP = [["openai/dear-one", "anthropic/cheap-one"]]


def two_models(more: dict[str, Any] | None = None, **accounts: Any) -> Catalog:
    other = entry("light", ("claude", "cheap-one", CHEAP | (more or {})))
    return catalog(entry("chat", ("main", "dear-one", DEAR)), other, equivalents=GROUP, **accounts)


def test_the_same_model_at_a_cheaper_account_is_told_with_what_it_would_have_cost() -> None:
    [one] = recommend([spent()], TWO_ACCOUNTS, anything)

    assert (one.model, one.provider, one.upstream_model, one.requests) == ("chat", "main", "dear-one", 1000)
    assert (one.alternative_model, one.alternative_provider) == ("chat", "second")
    assert (one.current_cost_usd, one.alternative_cost_usd, one.saving_usd, one.saving_share) == (30.0, 3.0, 27.0, 0.9)
    assert one.estimated
    assert "strategy cheapest" in one.note


def test_another_model_of_the_same_group_is_told_by_the_name_to_ask_for() -> None:
    [one] = recommend([spent()], two_models(), anything)

    assert (one.alternative_model, one.alternative_upstream_model) == ("light", "cheap-one")
    assert (one.alternative_provider, one.alternative_cost_usd) == ("claude", 3.0)
    assert "by this name" in one.note


def test_a_model_that_needs_no_entry_is_told_by_its_provider_and_name() -> None:
    names = {"name": "*", "passthrough": True}
    group = [["openai/gpt-4o", "anthropic/claude-haiku-4-5"]]
    used = spent(upstream_model="gpt-4o", model="chat")

    served = catalog(entry("chat", ("main", "gpt-4o", DEAR)), names, equivalents=group)

    # 1 and 5 USD a million (LiteLLM's table).
    assert advised(recommend([used], served, anything)) == [("anthropic/claude-haiku-4-5", "claude", 2.0)]


def test_without_a_catalog_what_is_shipped_says_who_is_equal() -> None:
    served = load(None, {"OPENAI_API_KEY": "k", "GEMINI_API_KEY": "k"})
    used = spent(model="gpt-4o", provider="openai", upstream_model="gpt-4o", cost_usd=4.5)

    # 1.25 and 10 USD a million instead of 2.5 and 10 (LiteLLM's table).
    assert advised(recommend([used], served, anything)) == [("gemini/gemini-2.5-pro", "gemini", 3.25)]


def test_a_model_that_no_client_can_name_here_is_told_with_what_to_do() -> None:
    group = [["openai/gpt-4o", "anthropic/claude-haiku-4-5"]]

    served = catalog(entry("chat", ("main", "gpt-4o", DEAR)), equivalents=group)

    [one] = recommend([spent(upstream_model="gpt-4o")], served, anything)
    assert (one.alternative_model, one.alternative_provider) == ("anthropic/claude-haiku-4-5", "claude")
    assert one.note.startswith("No client can name it here")


def test_an_account_without_its_key_is_not_told() -> None:
    keyless: Any = {"second": {"api_key": None, "accept_client_keys": True}}

    served = catalog(entry("chat", ("main", "dear-one", DEAR), ("second", "dear-one", CHEAP)), **keyless)

    assert recommend([spent()], served, anything) == []


def test_the_cheaper_one_itself_has_nothing_to_save() -> None:
    cheap = spent(model="chat", provider="second", cost_usd=3.0)

    assert recommend([cheap], TWO_ACCOUNTS, anything) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"capabilities": ["streaming"]}, False),
        ({"capabilities": ["streaming", "tools", "vision"]}, True),
        ({"context_length": 4999}, False),
        ({"context_length": 5000}, True),
        ({"max_output_tokens": 899}, False),
        ({"max_output_tokens": 900}, True),
        ({"prices_per_million": {"input": 10, "output": 100}}, False),
        ({"prices_per_million": {"input": 10, "output": 98.6}}, False),
        ({"prices_per_million": {"input": 10, "output": 98.4}}, True),
        ({"prices_per_million": {"input": 100, "output": 100}}, False),
    ],
    ids=lambda value: str(value)[:60],
)
def test_only_what_can_do_the_same_for_a_hundredth_less_is_told(fields: dict[str, Any], *, told: bool) -> None:
    assert bool(recommend([spent()], two_models(fields), anything)) is told


@pytest.mark.parametrize("missing", ["context_length", "max_output_tokens", "prices_per_million", "capabilities"])
def test_a_model_of_which_that_is_unknown_is_not_told(missing: str) -> None:
    facts = {name: value for name, value in CHEAP.items() if name != missing}
    other = entry("light", ("claude", "cheap-one", facts))

    served = catalog(entry("chat", ("main", "dear-one", DEAR)), other, equivalents=GROUP)

    assert recommend([spent()], served, anything) == []


def test_what_is_unknown_of_both_is_no_difference() -> None:
    dear, cheap = (
        {"prices_per_million": DEAR["prices_per_million"]},
        {"prices_per_million": CHEAP["prices_per_million"]},
    )

    served = catalog(entry("chat", ("main", "dear-one", dear), ("second", "dear-one", cheap)))

    assert advised(recommend([spent()], served, anything)) == [("chat", "second", 3.0)]


def test_neither_parallel_tools_nor_a_cache_keep_a_model_from_being_told() -> None:
    dear = DEAR | {"capabilities": ["streaming", "tools", "parallel_tools", "prompt_caching"]}
    other = entry("light", ("claude", "cheap-one", CHEAP))

    served = catalog(entry("chat", ("main", "dear-one", dear)), other, equivalents=GROUP)

    assert advised(recommend([spent()], served, anything)) == [("light", "claude", 3.0)]


def test_whoever_is_trusted_less_is_not_told() -> None:
    assert recommend([spent()], two_models(main={"security_level": "high"}), anything) == []
    assert len(recommend([spent()], two_models(main={"security_level": "low"}), anything)) == 1


def test_only_what_whoever_asks_may_use_is_told() -> None:
    allowed: Callable[[str], bool] = lambda name: name == "chat"  # noqa: E731  it is a value here
    both = catalog(
        entry("chat", ("main", "dear-one", DEAR), ("second", "dear-one", CHEAP)),
        entry("light", ("claude", "cheap-one", CHEAP)),
        equivalents=GROUP,
    )

    assert len(recommend([spent()], both, anything)) == 2
    assert advised(recommend([spent()], both, allowed)) == [("chat", "second", 3.0)]


def test_a_deployment_that_left_the_catalog_gets_no_advice() -> None:
    assert recommend([spent(provider="gone")], TWO_ACCOUNTS, anything) == []
    assert recommend([spent(upstream_model="gone")], TWO_ACCOUNTS, anything) == []


def test_a_fallback_that_answered_for_another_name_is_compared_as_itself() -> None:
    used = [spent(model="elsewhere")]

    assert recommend(used, TWO_ACCOUNTS, anything) == [], "nobody said that it may be another account"
    [one] = recommend(used, two_models(), anything)
    assert (one.model, one.alternative_model) == ("elsewhere", "light")


def test_each_kind_of_token_costs_what_it_does_there() -> None:
    prices = {"input": 1, "output": 10, "cached": 0.1, "cache_write": 2, "reasoning": 20}
    used = spent(cached_tokens=500_000, cache_write_tokens=100_000, reasoning_tokens=50_000)

    [one] = recommend([used], two_models({"prices_per_million": prices}), anything)

    # 0.4 M plain, 0.5 M read, 0.1 M written; 0.15 M said, 0.05 M thought.
    assert one.alternative_cost_usd == pytest.approx(0.4 + 0.05 + 0.2 + 1.5 + 1.0)


def test_sounds_and_images_cost_what_they_do_on_the_dearer_side() -> None:
    prices = {"input": 1, "output": 10, "audio_input": 41, "audio_output": 60, "image_input": 5}
    used = spent(audio_tokens=1000, image_tokens=10_000)

    [one] = recommend([used], two_models({"prices_per_million": prices}), anything)

    assert one.alternative_cost_usd == pytest.approx(3.0 + 1000 * 50e-6 + 10_000 * 4e-6)


def test_prompts_cost_by_their_own_length_and_not_by_the_sum_of_all() -> None:
    group = [["openai/dear-one", "gemini/gemini-2.5-pro"]]
    facts = {"prices_per_million": DEAR["prices_per_million"]}
    file: Any = {
        "providers": {"main": {"provider": "openai", "api_key": "k"}, "google": {"provider": "gemini", "api_key": "k"}},
        "models": [entry("chat", ("main", "dear-one", facts)), entry("light", ("google", "gemini-2.5-pro", {}))],
        "equivalents": group,
    }
    facts |= {"context_length": 1_000_000, "max_output_tokens": 8000}
    served = load(json.dumps(file), {})
    short = spent(requests=100, prompt_tokens=10_000_000, completion_tokens=0, longest_prompt_tokens=150_000)
    long = spent(requests=10, prompt_tokens=3_000_000, completion_tokens=0, longest_prompt_tokens=400_000)
    short.cost_usd, long.cost_usd = 100.0, 30.0

    [one] = recommend([short, long], served, anything)

    # 1.25 USD a million, and 2.5 in prompts of more than 200,000 tokens (LiteLLM's table).
    assert one.alternative_cost_usd == pytest.approx(10 * 1.25 + 3 * 2.5)
    assert (one.current_cost_usd, one.requests) == (130.0, 110)


def test_a_price_that_fell_since_is_no_reason_to_go_elsewhere() -> None:
    both = catalog(entry("chat", ("main", "dear-one", CHEAP), ("second", "dear-one", CHEAP)))

    assert recommend([spent()], both, anything) == []


def test_what_saves_next_to_nothing_is_not_told() -> None:
    tiny = spent(requests=1, prompt_tokens=0, completion_tokens=1, cost_usd=1e-4)

    assert recommend([tiny], two_models(), anything)[0].saving_usd == 9e-5
    tiny.cost_usd, cheaper = 1e-6, {"prices_per_million": {"input": 0, "output": 0.1}}
    assert recommend([tiny], two_models(cheaper), anything) == []


def test_the_best_savings_come_first_and_no_deployment_fills_the_list() -> None:
    cheaper = [f"cheap-{number}" for number in range(5)]
    names = [f"openai/dear-{number}" for number in range(6)]
    models = [
        entry("chat", *(("main", f"dear-{number}", DEAR) for number in range(6))),
        *(
            entry(name, ("claude", name, CHEAP | {"prices_per_million": {"input": 1 + number, "output": 10}}))
            for number, name in enumerate(cheaper)
        ),
    ]
    served = catalog(*models, equivalents=[[*names, *(f"anthropic/{name}" for name in cheaper)]])

    found = recommend([spent(upstream_model=f"dear-{number}") for number in range(6)], served, anything)

    assert len(found) == 10
    assert [one.saving_usd for one in found] == sorted((one.saving_usd for one in found), reverse=True)
    assert [one.alternative_model for one in found[:6]] == ["cheap-0"] * 6
    assert sum(one.upstream_model == "dear-0" for one in found) <= 3


def test_nothing_spent_is_nothing_to_save() -> None:
    assert recommend([], TWO_ACCOUNTS, anything) == []
