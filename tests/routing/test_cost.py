import subprocess
import sys
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.catalog.known import find
from llmgateway.catalog.model import Prices
from llmgateway.exchange import Usage
from llmgateway.routing.cost import cost_usd

# Provider, model, usage, and the bill in parts: tokens and USD per million, by hand from the provider's price list.
GOLDEN: list[tuple[str, str, dict[str, Any], list[tuple[int, str]]]] = [
    ("openai", "gpt-4o", {"prompt_tokens": 1000, "completion_tokens": 200}, [(1000, "2.5"), (200, "10")]),
    (
        "openai",
        "gpt-4o",  # pitfall 38: 600 of the 1000 are cached, and are not billed as input as well
        {"prompt_tokens": 1000, "completion_tokens": 200, "cached_tokens": 600},
        [(400, "2.5"), (600, "1.25"), (200, "10")],
    ),
    (
        "openai",
        "gpt-4o",
        {"prompt_tokens": 1000, "completion_tokens": 200, "cached_tokens": 600, "service_tier": "priority"},
        [(400, "4.25"), (600, "2.125"), (200, "17")],
    ),
    (
        "openai",
        "o3",  # reasoning is part of the completion and costs what it does
        {"prompt_tokens": 75, "completion_tokens": 1186, "reasoning_tokens": 1024},
        [(75, "2"), (1186, "8")],
    ),
    (
        "openai",
        "o3",
        {"prompt_tokens": 75, "completion_tokens": 1186, "cached_tokens": 50, "service_tier": "flex"},
        [(25, "1"), (50, "0.25"), (1186, "4")],
    ),
    (
        "anthropic",
        "claude-sonnet-4-5",  # pitfall 38: read 0.1, written for 5 minutes 1.25, for an hour 2 times the input
        {
            "prompt_tokens": 10_000,
            "completion_tokens": 500,
            "cached_tokens": 4000,
            "cache_write_tokens": 3000,
            "cache_write_1h_tokens": 2000,
            "service_tier": "standard",
        },
        [(1000, "3"), (4000, "0.3"), (3000, "3.75"), (2000, "6"), (500, "15")],
    ),
    (
        "anthropic",
        "claude-sonnet-4-5",
        {"prompt_tokens": 9000, "completion_tokens": 500, "cache_write_1h_tokens": 8000, "service_tier": "batch"},
        [(1000, "1.5"), (8000, "3"), (500, "7.5")],
    ),
    (
        "gemini",
        "gemini-2.5-pro",
        {"prompt_tokens": 200_000, "completion_tokens": 1000, "cached_tokens": 50_000},
        [(150_000, "1.25"), (50_000, "0.125"), (1000, "10")],
    ),
    (
        "gemini",
        "gemini-2.5-pro",  # one token more, and all of them are dearer
        {"prompt_tokens": 200_001, "completion_tokens": 1000, "cached_tokens": 50_000, "reasoning_tokens": 400},
        [(150_001, "2.5"), (50_000, "0.25"), (1000, "15")],
    ),
    (
        "gemini",
        "gemini-2.5-pro",  # pitfall 41: half of the long prompt's price; the table has none for the two together
        {"prompt_tokens": 300_000, "completion_tokens": 1000, "service_tier": "batch"},
        [(300_000, "1.25"), (1000, "7.5")],
    ),
    (
        "gemini",
        "gemini-2.5-pro",  # here it has
        {"prompt_tokens": 300_000, "completion_tokens": 1000, "cached_tokens": 100_000, "service_tier": "priority"},
        [(200_000, "4.5"), (100_000, "0.45"), (1000, "27")],
    ),
    (
        "openai",
        "gpt-5.4",  # pitfall 41
        {"prompt_tokens": 300_000, "completion_tokens": 1000, "cached_tokens": 100_000, "service_tier": "batch"},
        [(200_000, "2.5"), (100_000, "0.25"), (1000, "11.25")],
    ),
    (
        "openai",
        "gpt-audio",  # pitfall 39
        {
            "prompt_tokens": 500,
            "completion_tokens": 300,
            "audio_prompt_tokens": 400,
            "audio_completion_tokens": 250,
        },
        [(100, "2.5"), (400, "32"), (50, "10"), (250, "64")],
    ),
    (
        "gemini",
        "gemini-2.5-flash",  # pitfall 39
        {"prompt_tokens": 500, "completion_tokens": 300, "audio_prompt_tokens": 400, "service_tier": "flex"},
        [(100, "0.15"), (400, "0.5"), (300, "1.25")],
    ),
    (
        "vertex_ai",
        "deep-research-pro-preview-12-2025",  # pitfall 39
        {"prompt_tokens": 100, "completion_tokens": 1300, "image_completion_tokens": 1290},
        [(100, "2"), (10, "12"), (1290, "120")],
    ),
    (
        "bedrock",
        "amazon.nova-2-pro-preview-20251202-v1:0",  # pitfall 39: pictures at the same price, and not for nothing
        {"prompt_tokens": 1000, "completion_tokens": 10, "image_prompt_tokens": 900},
        [(1000, "1.25"), (10, "10")],
    ),
    (
        "xai",
        "grok-4.20-0309-reasoning",  # xAI's long prompts begin with the 200,000th token, not after it
        {"prompt_tokens": 200_000, "completion_tokens": 10},
        [(200_000, "2.5"), (10, "5")],
    ),
    (
        "deepseek",
        "deepseek-chat",
        {"prompt_tokens": 1000, "completion_tokens": 100, "cached_tokens": 640},
        [(360, "0.28"), (640, "0.028"), (100, "0.42")],
    ),
    (
        "dashscope",
        "qwen-flash",
        {"prompt_tokens": 256_001, "completion_tokens": 100},
        [(256_001, "0.25"), (100, "2")],
    ),
]
PARTS = {name for name in Usage.__struct_fields__ if name.endswith("_tokens")}


@pytest.mark.parametrize(("provider", "model", "usage", "bill"), GOLDEN)
def test_pitfalls_038_039_041_each_kind_of_token_costs_what_the_provider_bills(
    provider: str, model: str, usage: dict[str, Any], bill: list[tuple[int, str]]
) -> None:
    facts = find(provider, model)
    expected = sum(tokens * Decimal(price) for tokens, price in bill) / 1_000_000

    assert facts is not None
    cost = cost_usd(Usage(**usage), facts.prices)

    assert cost is not None
    # To the trillionth of a dollar: what is beyond is how binary fractions round.
    assert round(Decimal(cost), 12) == round(expected, 12)


def test_pitfall_043_an_unknown_price_is_no_cost_rather_than_none_at_all() -> None:
    assert cost_usd(Usage(1000, 1000), None) is None
    assert cost_usd(Usage(1000, 1000), Prices(0.0, 0.0)) == 0.0


def test_a_tier_that_the_provider_does_not_price_costs_the_usual() -> None:
    facts = find("openai", "gpt-4o")

    assert facts is not None
    for tier in (None, "default", "scale", "flex"):
        assert cost_usd(Usage(1000, service_tier=tier), facts.prices) == 0.0025


def test_a_token_that_is_told_under_two_kinds_is_billed_once() -> None:
    prices = Prices(1.0, 10.0, cached=0.5, audio_input=4.0, reasoning=20.0)

    assert cost_usd(Usage(10, 5, cached_tokens=8, audio_prompt_tokens=8, reasoning_tokens=9), prices) == 4 + 8 + 100


amounts = st.integers(0, 1_000_000)
usd = st.floats(0, 1e-3)
prices_of = st.one_of(
    st.none(),
    st.builds(Prices, usd, usd, *[st.none() | usd] * 8),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Give a usage whose parts are no more than their whole."""
    parts: dict[str, Any] = {name: draw(amounts) for name in sorted(PARTS - {"prompt_tokens", "completion_tokens"})}
    outward = sum(count for name, count in parts.items() if name == "reasoning_tokens" or "completion" in name)
    inward = sum(parts.values()) - outward
    return Usage(prompt_tokens=inward + draw(amounts), completion_tokens=outward + draw(amounts), **parts)


@given(usages(), usages(), prices_of)
def test_a_cost_adds_up_is_never_negative_and_unknown_only_when_the_price_is(
    one: Usage, other: Usage, prices: Prices | None
) -> None:
    both = Usage(**{name: getattr(one, name) + getattr(other, name) for name in PARTS})
    first, second, together = (cost_usd(usage, prices) for usage in (one, other, both))

    assert (first is None) == (prices is None)
    if first is not None and second is not None:
        assert first >= 0
        assert together == pytest.approx(first + second, rel=1e-9, abs=1e-15)


LITELLM = """
import json, sys
import litellm
from litellm.types.utils import Usage, PromptTokensDetailsWrapper, CompletionTokensDetailsWrapper
rows = json.load(sys.stdin)
costs = []
for provider, model, tier, usage in rows:
    parts = {"prompt_tokens_details": PromptTokensDetailsWrapper(**usage.pop("prompt_tokens_details", {}))}
    parts["completion_tokens_details"] = CompletionTokensDetailsWrapper(**usage.pop("completion_tokens_details", {}))
    both = litellm.cost_per_token(
        model=model, custom_llm_provider=provider, usage_object=Usage(**usage, **parts), service_tier=tier
    )
    costs.append(sum(both))
print(json.dumps(costs))
"""


def test_litellm_comes_to_the_same_where_it_has_the_price() -> None:
    # Left out: what its function does not know. It prices batches elsewhere, by half the price of a short prompt,
    # and an hour's cache write in them like any other.
    rows = [row for row in GOLDEN if row[2].get("service_tier") != "batch"]
    rows = [row for row in rows if row[1] in {"gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro", "gpt-5.4", "gpt-audio"}]
    asked = [(row[0], row[1], _tier(row[2]), _in_openais_shape(row[2])) for row in rows]

    done = subprocess.run(  # noqa: S603  LiteLLM takes seconds to import, and changes the process that does
        [sys.executable, "-W", "ignore", "-c", LITELLM],
        input=msgspec.json.encode(asked).decode(),
        capture_output=True,
        text=True,
        check=True,
        timeout=25,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ":".join(sys.path)},
    )

    ours = [cost_usd(Usage(**row[2]), facts.prices) for row in rows if (facts := find(row[0], row[1])) is not None]
    assert ours == pytest.approx(msgspec.json.decode(done.stdout), rel=1e-9)


def _tier(usage: dict[str, Any]) -> str | None:
    tier: str | None = usage.get("service_tier")
    return None if tier == "standard" else tier


def _in_openais_shape(usage: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    five, hour = usage.get("cache_write_tokens", 0), usage.get("cache_write_1h_tokens", 0)
    details = {"cached_tokens": usage.get("cached_tokens", 0), "audio_tokens": usage.get("audio_prompt_tokens", 0)}
    if five or hour:
        details["cache_creation_tokens"] = five + hour
        details["cache_creation_token_details"] = {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour}
    said = {"audio_tokens": usage.get("audio_completion_tokens", 0)}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
        "completion_tokens_details": said,
    }
