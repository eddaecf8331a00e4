from typing import Any

import pytest

from llmgateway.catalog.model import Prices
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.filters import FILTERS, FilterName, Wanted, lacking, trusted
from llmgateway.routing.health.health import Cause
from tests.deployments import candidate, candidates_of, deployment, names

NOW = 1000.0

VISION, TOOLS = frozenset({"vision"}), frozenset({"tools"})
FAR = deployment("far", provider="groq", security_level="low")
CLOUD = deployment("cloud", security_level="medium", accepts_client_keys=True)
OWN = deployment("own", provider="ollama", security_level="high")


def kept(name: FilterName, *among: Candidate, **wanted: Any) -> list[str]:
    return names(FILTERS[name][0](among, Wanted(NOW, **wanted)))


def why(name: FilterName, one: Candidate, **wanted: Any) -> str:
    return FILTERS[name][1](one, Wanted(NOW, **wanted))


def resting(cause: Cause, until: float, *, probing: bool = False) -> Candidate:
    one = candidate(account=cause)
    one.health.until, one.health.cause = until, cause
    if probing:
        one.health.begin(NOW)
    return one


def test_the_filters_stand_in_the_order_in_which_they_are_asked() -> None:
    assert list(FILTERS) == ["provider_key", "security", "capability", "context_window", "max_cost", "circuit"]


@pytest.mark.parametrize("name", FILTERS)
def test_who_is_not_asked_for_anything_drops_nobody(name: FilterName) -> None:
    among = candidates_of([FAR, CLOUD, OWN])

    assert list(FILTERS[name][0](among, Wanted(NOW))) == among


def test_what_is_sensitive_goes_to_trusted_providers_only() -> None:
    among = candidates_of([FAR, CLOUD, OWN])

    assert kept("security", *among, min_security="high") == ["own"]
    assert kept("security", *among, min_security="medium") == ["cloud", "own"]
    assert kept("security", *among, min_security="low") == ["far", "cloud", "own"]
    assert trusted((FAR, CLOUD, OWN), "medium") == (CLOUD, OWN)
    assert why("security", among[0], min_security="high") == (
        "its provider has the security level low, and this text needs high"
    )


def test_a_providers_own_key_goes_to_that_provider_alone() -> None:
    among = candidates_of([deployment("closed"), OWN, CLOUD])

    assert kept("provider_key", *among, own_provider="openai") == ["cloud"]
    assert why("provider_key", among[0], own_provider="openai") == "takes no keys of clients"
    assert why("provider_key", among[1], own_provider="openai") == "is not at openai, whose key came with the call"


def test_who_lacks_something_is_dropped_and_who_may_have_it_stands_behind_those_who_have() -> None:
    seeing = candidate(account="seeing", capabilities=VISION | TOOLS)
    blind = candidate(account="blind", capabilities=TOOLS, lacks=VISION)
    unknown = candidate(account="unknown")

    assert kept("capability", blind, unknown, seeing, needs=VISION) == ["seeing"]
    assert kept("capability", blind, unknown, needs=VISION) == ["unknown"]
    assert kept("capability", blind, needs=VISION) == []
    assert kept("capability", blind, unknown, seeing, needs=TOOLS) == ["blind", "seeing"]
    assert kept("capability", candidate(account="partly", capabilities=VISION), seeing, needs=VISION | TOOLS) == [
        "seeing"
    ]
    assert why("capability", blind, needs=VISION) == "cannot do vision"
    assert why("capability", unknown, needs=VISION | TOOLS) == "is not known to do tools, vision, and others are"


def test_nobody_is_thought_unable_to_stream_unless_it_is_said() -> None:
    able = candidate(account="able", capabilities=frozenset({"streaming"}))
    unknown = candidate(account="unknown")
    whole = candidate(account="whole", lacks=frozenset({"streaming"}))

    assert kept("capability", able, unknown, whole, stream=True) == ["able", "unknown"]
    assert kept("capability", able, unknown, whole) == ["able", "unknown", "whole"]
    assert why("capability", whole, stream=True) == "cannot do streaming"


def test_who_drops_unknown_parameters_is_asked_although_it_does_not_reason() -> None:
    reasoning = frozenset({"reasoning"})
    plain = candidate(account="plain", lacks=reasoning | VISION)
    lenient = candidate(account="lenient", lacks=reasoning | VISION, drop_unsupported=True)

    assert kept("capability", plain, lenient, needs=reasoning) == ["lenient"]
    assert lacking(lenient) == VISION


def test_who_has_no_room_for_the_prompt_is_dropped() -> None:
    small, large = candidate(account="small", context_length=8192), candidate(account="large", context_length=128_000)
    unknown = candidate(account="unknown")
    counted = {"fewest_prompt_tokens": 9000, "most_prompt_tokens": 9000}

    assert kept("context_window", small, large, unknown, **counted) == ["large", "unknown"]
    assert kept("context_window", small, **counted) == []
    assert kept("context_window", small, fewest_prompt_tokens=8192, most_prompt_tokens=9000) == ["small"]
    assert why("context_window", small, **counted) == "its context window has 8192 tokens, and the prompt 9000"


def test_who_has_room_for_the_answer_too_goes_before_who_may_not_have() -> None:
    small, large = candidate(account="small", context_length=8192), candidate(account="large", context_length=128_000)
    unknown = candidate(account="unknown")
    wanted = {"fewest_prompt_tokens": 8000, "most_prompt_tokens": 8000, "max_answer_tokens": 1000}

    assert kept("context_window", small, unknown, large, **wanted) == ["unknown", "large"]
    assert kept("context_window", small, unknown, **wanted) == ["small", "unknown"]
    assert kept("context_window", small, large, **(wanted | {"max_answer_tokens": 192})) == ["small", "large"]
    assert why("context_window", small, **wanted) == (
        "a prompt of 8000 tokens and an answer of 1000 pass its window of 8192, and others have room"
    )


def test_no_answer_is_longer_than_the_model_gives() -> None:
    short = candidate(account="short", context_length=8192, max_output_tokens=100)
    large = candidate(account="large", context_length=128_000)
    wanted = {"fewest_prompt_tokens": 8000, "most_prompt_tokens": 8000, "max_answer_tokens": 50_000}

    assert kept("context_window", short, large, **wanted) == ["short", "large"]


def test_who_costs_too_much_or_an_unknown_sum_is_dropped() -> None:
    cheap = candidate(account="cheap", prices=Prices(1e-6, 2e-6))
    dear = candidate(account="dear", prices=Prices(1e-5, 2e-5))
    unpriced = candidate(account="unpriced")
    wanted = {"prompt_tokens": 1000, "answer_tokens": 500, "max_cost_usd": 0.002}

    assert kept("max_cost", dear, unpriced, cheap, **wanted) == ["cheap"]
    assert why("max_cost", dear, **wanted) == "would cost about 0.02 USD, and the call may cost 0.002 at most"
    assert why("max_cost", unpriced, **wanted) == "its price is not known, and the call may cost 0.002 USD at most"


def test_who_rests_is_dropped_and_who_is_half_open_is_not() -> None:
    well, open_ = candidate(account="well"), resting("failures", NOW + 3.21)
    half_open, tried = resting("auth", NOW - 1), resting("quota", NOW - 1, probing=True)
    limited, released = resting("rate_limit", NOW + 1), resting("rate_limit", NOW - 1, probing=True)

    assert kept("circuit", well, open_, half_open, tried, limited, released) == ["well", "auth", "rate_limit"]
    assert why("circuit", open_) == "rests after failures, for 3.2 s more"
    assert why("circuit", limited) == "rests because its provider limits us, for 1.0 s more"
    assert why("circuit", tried) == (
        "rested because our account there is out of money or quota, and one call is trying it just now"
    )


def test_that_our_key_rests_says_nothing_about_a_clients_own() -> None:
    assert kept("circuit", resting("auth", NOW + 600), own_provider="openai") == ["auth"]
