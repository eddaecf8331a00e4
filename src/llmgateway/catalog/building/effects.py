"""Warnings of what stands in the file and has no effect, or another one than one may think."""

from collections.abc import Iterator
from itertools import chain

from llmgateway.catalog import known
from llmgateway.catalog.building.yaml_text import Path
from llmgateway.catalog.check import nearest
from llmgateway.catalog.model import CALL_NEEDS, Model
from llmgateway.catalog.schema import CatalogFile, ModelEntry, ModelFacts
from llmgateway.catalog.snapshot import Catalog

_OF_ONE_MODEL = ("strategy", "fallbacks", "rescue", "hedge", "tokenizer", "probe")
_KNOWN = CALL_NEEDS | known.CAPABILITIES

Warned = tuple[Path, str]


def effect_warnings(file: CatalogFile, catalog: Catalog) -> Iterator[Warned]:
    """Say it, with the path of each.

    Args:
        catalog: Made of the file and the database.
    """
    for index, entry in enumerate(file.models):
        path: Path = ("models", index)
        model = catalog.models.get(entry.name)
        if entry.passthrough:
            yield from _of_pattern(entry, path)
        elif model is not None:
            yield from _of_model(entry, model, catalog, path)
            yield from _of_capabilities(entry, model, path)


def _of_pattern(entry: ModelEntry, path: Path) -> Iterator[Warned]:
    for key in _OF_ONE_MODEL:
        if getattr(entry, key) != ModelEntry.model_fields[key].default:
            yield (*path, key), "without effect on a pattern: say it of a model with a name of its own"


def _of_model(entry: ModelEntry, model: Model, catalog: Catalog, path: Path) -> Iterator[Warned]:
    for key in ("rescue", "hedge"):
        if getattr(entry, key) and not _has_another(model, catalog):
            yield (*path, key), "without effect: the model has one deployment and no fallback; add one"
    unpriced = [one.model for one in model.deployments if one.prices is None]
    if model.strategy == "cheapest" and unpriced:
        named = ", ".join(dict.fromkeys(unpriced))
        yield (*path, "strategy"), f"no price is known for {named}, which come last then; say `prices_per_million`"


def _has_another(model: Model, catalog: Catalog) -> bool:
    if len(model.deployments) > 1:
        return True
    if model.fallbacks is None:
        return any(catalog.equivalents(one) for one in model.deployments)
    return any(
        (model.fallbacks.any, model.fallbacks.context, model.fallbacks.content_filter, model.fallbacks.rate_limit)
    )


def _of_capabilities(entry: ModelEntry, model: Model, path: Path) -> Iterator[Warned]:
    deployments = (((*path, "deployments", n), one) for n, one in enumerate(entry.deployments))
    facts: chain[tuple[Path, ModelFacts]] = chain([(path, entry)], deployments)
    for place, fact in facts:
        listed = fact.capabilities
        if listed is None:
            continue
        for n, name in enumerate(listed):
            if name not in _KNOWN:
                near = nearest(name, sorted(_KNOWN))
                yield (*place, "capabilities", n), f"nothing asks for a capability {name!r}; the nearest is {near!r}"
        if "streaming" not in listed and not all(
            known.embeds(one.account.provider, one.model) for one in model.deployments
        ):
            yield (*place, "capabilities"), "`streaming` is not among them, so no stream goes there; add it, if it can"
