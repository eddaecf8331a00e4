"""What was read, held against the schema: every fault is noted, and what is right goes on to be checked further."""

import copy
import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llmgateway.catalog.building.yaml_text import Path, Text
from llmgateway.catalog.schema import CatalogFile

# Stands for a required name that was wrong or missing, so that the rest of its entry can still be checked.
UNKNOWN = "?"
_NAMES = frozenset({"name", "provider", "model"})
_MOST_ROUNDS = 5
# Their content is others': there `null` is a value.
_FREE = frozenset({"options", "defaults", "integrations"})


def check(reading: Text) -> CatalogFile:
    """Give the file's content without what is wrong; the reading's faults say what that was."""
    value = {} if reading.value is None else _without_nulls(reading.value)
    if not isinstance(value, dict):
        reading.add((), "the file must be a mapping with keys such as `providers` and `models`")
        return CatalogFile()
    value = copy.deepcopy(value)
    for round_number in range(_MOST_ROUNDS):
        try:
            return CatalogFile.model_validate(value)
        except ValidationError as error:
            # Later rounds only find what pruning left behind.
            for fault in error.errors():
                if round_number == 0:
                    _note(reading, fault)
                _prune(value, fault)
    return CatalogFile()


def nearest(name: str, known: Iterable[str]) -> str:
    """Give the known name that looks most like a wrong one."""
    return difflib.get_close_matches(name, list(known) or ["(none)"], n=1, cutoff=0)[0]


def worded(fault: ErrorDetails, root: type[BaseModel], thing: str = "key") -> tuple[Path, str]:
    """Say where a fault is, and what would be right.

    Args:
        root: What was validated.
        thing: What a name in it is called.
    """
    path = tuple(step for step in fault["loc"] if step != "[key]")
    if fault["type"] == "extra_forbidden":
        known = sorted(_model_at(path[:-1], root).model_fields)
        near = nearest(str(path[-1]), known)
        return path, f"there is no such {thing}; the nearest is `{near}` (known: {', '.join(known)})"
    if fault["type"] == "missing":
        return path, f"`{path[-1]}` is missing; add it"
    if fault["type"] == "too_short":
        return path, "name at least one, or leave it out"
    if fault["type"].startswith(("datetime_", "timezone_")):
        return path, "must be a time with its offset, such as 2027-01-01T00:00:00Z"
    return path, fault["msg"][:1].lower() + fault["msg"][1:]


def written(path: Path) -> str:
    """Write a path as people do: `models[0].name`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _note(reading: Text, fault: ErrorDetails) -> None:
    path, message = worded(fault, CatalogFile)
    if not any(seen == path for _, seen, _ in reading.faults):
        reading.add(path, message)


def _prune(value: Any, fault: ErrorDetails) -> None:
    """Take what is wrong out, in place; an entry that lacks something without which it says nothing goes whole."""
    path, _ = worded(fault, CatalogFile)
    name_is_missing = fault["type"] == "missing" and path[-1] in _NAMES
    if fault["type"] == "missing" and not name_is_missing:
        path = path[:-1]
    *way, last = path
    for step in way:
        value = _inside(value, step)
    if isinstance(value, list) and isinstance(last, int):
        value[last] = {}  # not taken out: the places of the others must stay
    elif name_is_missing:
        value[last] = UNKNOWN
    elif isinstance(value, dict):
        value.pop(last, None)


def _inside(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(str(step))
    return value[step] if isinstance(value, list) and isinstance(step, int) else None


def _without_nulls(value: object, *, free: bool = False) -> object:
    """Leave out keys without a value, such as `api_key: ${KEY:-}`: they mean the default."""
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if part is not None or free}
        return {key: _without_nulls(part, free=free or key in _FREE) for key, part in kept.items()}
    return [_without_nulls(part, free=free) for part in value] if isinstance(value, list) else value


def _model_at(path: Path, root: type[BaseModel]) -> type[BaseModel]:
    """Find the part of the schema that a path leads to."""
    here: Any = root
    for step in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = here.model_fields[str(step)].annotation
        else:  # an item of a list or mapping: its type is the last argument
            here = [part for part in get_args(here) if part is not Ellipsis][-1]
        if type(None) in get_args(here):
            here = get_args(here)[0]
    return here if isinstance(here, type) and issubclass(here, BaseModel) else root
