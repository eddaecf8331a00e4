"""Entries of the list of models."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from llmgateway.catalog import known
from llmgateway.catalog.model import AUTO, ListedModel, Model, Prices

# Unix seconds of 2025-01-01: OpenAI's shape wants a date, and no provider tells.
CREATED = 1_735_689_600
# OpenRouter's names.
_SHOWN = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cached",
    "input_cache_write": "cache_write",
    "internal_reasoning": "reasoning",
    "audio": "audio_input",
    "image": "image_input",
}


def listed_model(model: Model) -> ListedModel:
    """Give a model's entry; its first deployment speaks for it."""
    first = model.deployments[0]
    prices = first.prices
    return ListedModel(
        id=model.name,
        created=CREATED,
        owned_by=first.account.provider,
        context_length=first.context_length,
        max_output_tokens=first.max_output_tokens,
        pricing={} if prices is None else _pricing(prices),
        capabilities=tuple(sorted(first.capabilities)),
        providers=tuple(dict.fromkeys(deployment.account.provider for deployment in model.deployments)),
        demo=first.account.wire == "demo",
    )


def may_choose(models: Iterable[Model]) -> list[Model]:
    """Leave out what nobody means by `auto`: the demo, and models for embeddings."""
    firsts = ((model, model.deployments[0]) for model in models)
    return [
        model
        for model, one in firsts
        if one.account.wire != "demo" and not known.embeds(one.account.provider, one.model)
    ]


def listed_auto(models: Sequence[Model]) -> ListedModel:
    """Give the entry of `auto`: what at least one of its models can; no one provider answers for it."""
    listed = [listed_model(model) for model in models]
    return ListedModel(
        id=AUTO,
        created=CREATED,
        owned_by="llmgateway",
        context_length=max((one.context_length for one in listed if one.context_length is not None), default=None),
        capabilities=tuple(sorted({capability for one in listed for capability in one.capabilities})),
    )


def _pricing(prices: Prices) -> dict[str, str]:
    kinds = ((name, getattr(prices, kind)) for name, kind in _SHOWN.items())
    return {name: format(Decimal(repr(price)), "f") for name, price in kinds if price is not None}
