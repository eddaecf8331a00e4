"""Names within the file that must name something: fallbacks, the models of `auto`, equivalents."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Protocol

from llmgateway.catalog.building.yaml_text import Path
from llmgateway.catalog.check import nearest
from llmgateway.catalog.model import AUTO
from llmgateway.catalog.providers import providers
from llmgateway.catalog.schema import AutoEntry, CatalogFile, FallbacksEntry, ModelEntry
from llmgateway.catalog.snapshot import Catalog

_MOST_CYCLES = 10  # there may be as many as subsets of the models
Fault = tuple[Path, str]


class Wrong(Protocol):
    """Says what is wrong with a name; `own` is the model's that names it, which is no good advice."""

    def __call__(self, name: str, own: str = "") -> str | None: ...


def reference_faults(file: CatalogFile, catalog: Catalog, *, sure: bool = True) -> Iterator[Fault]:
    """Say which names are wrong, and which models fall back in a circle.

    Args:
        catalog: Made of the file alone: what the database adds may go at any time, and the file must not break then.
        sure: Whether a name that is not there is wrong: not while accounts are missing.
    """
    named = {entry.name for entry in file.models if not entry.passthrough}

    def wrong(name: str, own: str = "") -> str | None:
        if not sure or name in named or catalog.resolve(name) is not None:
            return None
        if name == AUTO:
            return f"`{AUTO}` picks among models and is none; name one of them"
        near = next(other for other in catalog.nearest(name, 3) if other not in {own, AUTO})
        return f"there is no model {name!r} on offer; the nearest is {near!r}"

    yield from _fallback_faults(file.models, wrong)
    yield from _cycle_faults(file.models)
    if file.auto is not None:
        yield from _auto_faults(file.auto, wrong)
    yield from _equivalent_faults(file.equivalents or ())


def _fallback_faults(models: Sequence[ModelEntry], wrong: Wrong) -> Iterator[Fault]:
    for index, entry in enumerate(models):
        for cause, names in _lists(entry.fallbacks):
            for n, name in enumerate(names):
                path: Path = ("models", index, "fallbacks", cause, n)
                if name == entry.name:
                    yield path, f"{name!r} is the model itself; name another, or leave it out"
                elif (message := wrong(name, entry.name)) is not None:
                    yield path, message


def _lists(fallbacks: FallbacksEntry | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    if fallbacks is not None:
        yield from ((cause, names) for cause, names in fallbacks if names)


def _cycle_faults(models: Sequence[ModelEntry]) -> Iterator[Fault]:
    places = {entry.name: index for index, entry in reversed([*enumerate(models)])}
    graph = {
        entry.name: {name for _, names in _lists(entry.fallbacks) for name in names if name in places} - {entry.name}
        for entry in models
    }
    for _ in range(_MOST_CYCLES):
        cycle = cycle_in(graph)
        if cycle is None:
            return
        start = min(range(len(cycle)), key=lambda n: places[cycle[n]])
        around = [*cycle[start:], *cycle[: start + 1]]
        written = " -> ".join(around)
        yield ("models", places[around[0]], "fallbacks"), f"fall back in a circle: {written}; take one of these out"
        graph[around[0]] = graph[around[0]] - {around[1]}


def cycle_in(graph: Mapping[str, set[str]]) -> list[str] | None:
    """Find a circle, each name once and followed by one that it leads to; `None` when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[:0:-1]  # graphlib leads from what is depended on, and names the first twice
    return None


def _auto_faults(auto: AutoEntry, wrong: Wrong) -> Iterator[Fault]:
    for task, name in auto.tasks.items():
        if (message := wrong(name)) is not None:
            yield ("auto", "tasks", task), message
    for n, name in enumerate(auto.models or ()):
        if (message := wrong(name)) is not None:
            yield ("auto", "models", n), message


def _equivalent_faults(groups: Sequence[Sequence[str]]) -> Iterator[Fault]:
    for g, group in enumerate(groups):
        for n, name in enumerate(group):
            provider, slash, model = name.partition("/")
            path: Path = ("equivalents", g, n)
            if not slash or not model:
                yield path, f"{name!r} is not of the form provider/model, such as openai/gpt-4o"
            elif provider not in providers():
                near = nearest(provider, providers())
                yield path, f"{name!r} names a provider that LiteLLM does not know; the nearest is {near!r}"
