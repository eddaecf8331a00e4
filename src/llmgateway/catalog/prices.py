"""Prices as LiteLLM's table writes them, made into `Prices`: by kind, by length of the prompt, by service tier."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec

from llmgateway.catalog.model import Prices

_KINDS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
}
_OF_OUTPUT = frozenset({"output", "reasoning", "audio_output", "image_output"})
_TIERS = {"batches": "batch", "flex": "flex", "priority": "priority", "balanced": "balanced", "ultrafast": "ultrafast"}
# What the fields of other tiers and of long prompts begin with, and what stands where there is no other price.
_FURTHER = b'"input_cost_per_token_'
_RANGES = b'"tiered_pricing"'
_FIELD = re.compile(rf"({'|'.join(_KINDS)})(?:_above_(\d+)k_tokens)?(?:_({'|'.join(_TIERS)}))?")
_THOUSAND = 1000

_Given = Mapping[str, float]


def has_further(raw: bytes, *, has_input: bool) -> bool:
    """Tell whether a row of the table has more than one price a kind, without reading all its fields."""
    return _FURTHER in raw if has_input else _RANGES in raw


def of_row(raw: bytes, provider: str) -> Prices | None:
    """Read a row's prices; `None` when it does not say what the input costs."""
    prices = of_fields(msgspec.json.decode(raw, type=dict[str, Any]))
    # xAI bills a prompt as long that reaches the length, the others one that exceeds it (LiteLLM: cost_calc).
    return _one_earlier(prices) if prices is not None and provider == "xai" else prices


def of_fields(fields: Mapping[str, Any]) -> Prices | None:
    """Make prices of a row; `None` when it does not say what the input costs."""
    ranges = fields.get("tiered_pricing")
    if isinstance(ranges, list):
        return _of_ranges(ranges)
    given: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for name, price in fields.items():
        place = _place(name)
        if place is not None and isinstance(price, float | int):
            kind, tokens, tier = place
            given[tier, tokens][kind] = float(price)
    base = _plain(given["", 0])
    if base is None:
        return None
    lengths = sorted({tokens for _, tokens in given if tokens}, reverse=True)
    above = _above(base, lengths, {tokens: given.get(("", tokens), {}) for tokens in lengths})
    tiers = tuple(
        (tier, _tier(base, above, {tokens: given.get((tier, tokens), {}) for tokens in (0, *lengths)}))
        for tier in _TIERS.values()
        if (tier, 0) in given
    )
    return msgspec.structs.replace(base, above=above, tiers=tiers)


@cache
def _place(name: str) -> tuple[str, int, str] | None:
    """Read a field's name: which kind of token, in prompts of more than so many tokens, in which tier."""
    found = _FIELD.fullmatch(name)
    if found is None:
        return None
    kind, thousands, tier = found.groups()
    return _KINDS[kind], int(thousands or 0) * _THOUSAND, _TIERS.get(tier or "", "")


def _of_ranges(ranges: Iterable[Any]) -> Prices | None:
    """Read what Alibaba's models cost: one set of prices for each range of the prompt's length."""
    steps = []
    for step in ranges:
        if not (isinstance(step, dict) and isinstance(step.get("range"), list)):
            return None
        prices = _plain({_KINDS[name]: float(price) for name, price in step.items() if name in _KINDS})
        if prices is None:
            return None
        steps.append((int(step["range"][0]), prices))
    if not steps:
        return None
    (_, first), *longer = sorted(steps, key=lambda step: step[0])
    return msgspec.structs.replace(first, above=tuple(reversed(longer)))


def _plain(given: _Given) -> Prices | None:
    if "input" not in given:
        return None
    return _prices({"output": 0.0, **given})


def _prices(kinds: Mapping[str, Any]) -> Prices:
    return Prices(**kinds)


def _above(base: Prices, lengths: Iterable[int], given: Mapping[int, _Given]) -> tuple[tuple[int, Prices], ...]:
    return tuple((tokens, _dearer(base, given[tokens])) for tokens in lengths if given[tokens])


def _dearer(base: Prices, given: _Given) -> Prices:
    """Give a kind that is not named the factor that its side has: what is cached in a long prompt is dearer too."""
    inward, outward = (_factor(base, given, side) for side in ("input", "output"))
    return _prices({**_scaled(base, lambda kind: outward if kind in _OF_OUTPUT else inward), **given})


def _factor(base: Prices, given: _Given, side: str) -> float:
    usual = getattr(base, side)
    return given[side] / usual if usual and side in given else 1.0


def _tier(base: Prices, above: tuple[tuple[int, Prices], ...], given: Mapping[int, _Given]) -> Prices:
    """Give a tier's prices. Where the table has none for long prompts, its factor holds there as well."""
    prices = _dearer(base, given[0])

    def factor(kind: str) -> float:
        usual, own = getattr(base, kind), getattr(prices, kind)
        return own / usual if usual and own is not None else 1.0

    longer = tuple((tokens, _prices({**_scaled(usual, factor), **given[tokens]})) for tokens, usual in above)
    return msgspec.structs.replace(prices, above=longer)


def _scaled(prices: Prices, factor: Callable[[str], float]) -> dict[str, float]:
    kinds = ((kind, getattr(prices, kind)) for kind in _KINDS.values())
    return {kind: price * factor(kind) for kind, price in kinds if price is not None}


def _one_earlier(prices: Prices) -> Prices:
    above = tuple((tokens - 1, dearer) for tokens, dearer in prices.above)
    tiers = tuple((name, _one_earlier(tier)) for name, tier in prices.tiers)
    return msgspec.structs.replace(prices, above=above, tiers=tiers)
