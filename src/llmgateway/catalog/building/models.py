"""Entries of models and deployments into models; what they do not say comes from LiteLLM's table."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llmgateway.catalog.building.accounts import DEMO
from llmgateway.catalog.building.limits import limits_of
from llmgateway.catalog.building.tokenizers import located
from llmgateway.catalog.model import (
    AUTO,
    CALL_NEEDS,
    Account,
    Auto,
    Deployment,
    Fallbacks,
    Hedging,
    Model,
    Prices,
    SemanticCaching,
)
from llmgateway.catalog.schema import AutoEntry, DeploymentEntry, ModelEntry, ModelFacts, PricesEntry
from llmgateway.catalog.snapshot import deployment_of

_MILLION = 1_000_000
_FREE = Prices(0.0, 0.0)
DEMO_MODELS: Mapping[str, Model] = {
    name: Model(name, (Deployment(DEMO, model, prices=_FREE),))
    for name, model in (("demo/echo", "echo"), ("demo/summary", "summary"))
}


def name_fault(name: str) -> str | None:
    """Say why no model of the catalog may have a name; `None` when it may."""
    if name in DEMO_MODELS:
        return f"{name!r} is built in; choose another name"
    if name == AUTO:
        return f"{name!r} is the name under which the gateway picks among the others; choose another name"
    return None


def deployment_from(account: Account, entry: DeploymentEntry, model: ModelEntry, folder: Path) -> Deployment:
    """Make a deployment.

    Args:
        folder: The catalog's, in which tokenizers are.
    """
    tokenizer = entry.tokenizer or model.tokenizer
    probe = entry.probe or model.probe
    return deployment_of(
        account,
        entry.model,
        weight=entry.weight,
        tokenizer=None if tokenizer is None else located(tokenizer, folder),
        probe_s=None if probe is None else probe.interval_s,
        limits=limits_of(entry.limits),
        defaults=MappingProxyType(model.defaults),
        drop_unsupported=model.drop_unsupported,
        **_known_otherwise(entry, model),
    )


def _known_otherwise(entry: ModelFacts, model: ModelFacts) -> dict[str, object]:
    """Give what the catalog says of facts that LiteLLM's table may have too."""
    prices = entry.prices_per_million or model.prices_per_million
    listed = entry.capabilities if entry.capabilities is not None else model.capabilities
    given: dict[str, object] = {
        "context_length": entry.context_length or model.context_length,
        "max_output_tokens": entry.max_output_tokens or model.max_output_tokens,
        "prices": None if prices is None else _per_token(prices),
        # Such a list is literal: what does not stand there is not there.
        "capabilities": None if listed is None else frozenset(listed),
        "lacks": None if listed is None else CALL_NEEDS - frozenset(listed),
    }
    return {fact: value for fact, value in given.items() if value is not None}


def model_from(entry: ModelEntry, deployments: tuple[Deployment, ...]) -> Model:
    """Make a model of its entry."""
    semantic, hedge, fallbacks = entry.semantic_cache, entry.hedge, entry.fallbacks
    return Model(
        name=entry.name,
        deployments=deployments,
        strategy=entry.strategy,
        fallbacks=None if fallbacks is None else Fallbacks(**fallbacks.model_dump()),
        rescue=entry.rescue,
        hedge=None if hedge is None else Hedging(hedge.percentile, hedge.max_share),
        cache_ttl_s=None if entry.cache is None else entry.cache.ttl_s,
        semantic=None if semantic is None else SemanticCaching(semantic.embedding_model, semantic.threshold),
    )


def auto_from(entry: AutoEntry | None, models: Mapping[str, Model]) -> Auto | None:
    """Make what `auto` picks from; where the catalog says nothing, any model that it names.

    Args:
        models: Those of the catalog, without the demo.
    """
    if entry is None:
        return Auto() if models else None
    return Auto(MappingProxyType(entry.tasks), entry.models, entry.strategy)


def _per_token(prices: PricesEntry) -> Prices:
    # In decimals: 2.55 / 1,000,000 in binary is not what 0.00000255 is.
    given = {kind: Decimal(str(price)) / _MILLION for kind, price in prices.model_dump(exclude_none=True).items()}
    kinds: dict[str, Any] = {kind: float(price) for kind, price in given.items()}
    return Prices(**kinds)
