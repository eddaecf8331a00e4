"""What tokens cost: each is billed once, by its own kind."""

from collections.abc import Iterable

from llmgateway.catalog.model import Deployment, Prices
from llmgateway.exchange import Usage


def cost_usd(usage: Usage, prices: Prices | None) -> float | None:
    """Give the cost; `None` when the price is unknown, which is not the same as nothing."""
    if prices is None:
        return None
    if prices.above or prices.tiers:
        prices = prices.for_request(usage.prompt_tokens, usage.service_tier)
    if (
        usage.cached_tokens
        or usage.reasoning_tokens
        or usage.cache_write_tokens
        or usage.cache_write_1h_tokens
        or usage.audio_prompt_tokens
        or usage.image_prompt_tokens
        or usage.audio_completion_tokens
        or usage.image_completion_tokens
    ):
        return _input(usage, prices) + _output(usage, prices)
    # All tokens are of the two usual kinds, as they are in most answers.
    return usage.prompt_tokens * prices.input + usage.completion_tokens * prices.output


def dearest_usd(prompt_tokens: int, answer_tokens: int, deployments: Iterable[Deployment]) -> float | None:
    """Give the most that a call costs, whoever of these answers; `None` when the price of one of them is unknown."""
    dearest = 0.0
    for deployment in deployments:
        prices = deployment.prices
        if prices is None:
            return None
        if prices.above:
            prices = prices.for_request(prompt_tokens, None)
        cost = prompt_tokens * prices.input + answer_tokens * prices.output
        if cost > dearest:  # noqa: PLR1730  a call of `max` costs five times that
            dearest = cost
    return dearest


def _input(usage: Usage, prices: Prices) -> float:
    plain = usage.prompt_tokens
    cost = 0.0
    write = prices.input if prices.cache_write is None else prices.cache_write
    for tokens, price, usual in (
        (usage.cached_tokens, prices.cached, prices.input),
        (usage.cache_write_tokens, write, write),
        (usage.cache_write_1h_tokens, prices.cache_write_1h, write),
        (usage.audio_prompt_tokens, prices.audio_input, prices.input),
        (usage.image_prompt_tokens, prices.image_input, prices.input),
    ):
        if tokens:
            # A provider that counts a cached image under both names is not paid twice.
            billed = min(tokens, plain)
            plain -= billed
            cost += billed * (usual if price is None else price)
    return cost + plain * prices.input


def _output(usage: Usage, prices: Prices) -> float:
    plain = usage.completion_tokens
    cost = 0.0
    for tokens, price in (
        (usage.reasoning_tokens, prices.reasoning),
        (usage.audio_completion_tokens, prices.audio_output),
        (usage.image_completion_tokens, prices.image_output),
    ):
        if tokens:
            billed = min(tokens, plain)
            plain -= billed
            cost += billed * (prices.output if price is None else price)
    return cost + plain * prices.output
