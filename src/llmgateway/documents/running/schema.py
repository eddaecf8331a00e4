"""Whether a JSON value is what a JSON Schema says: the part of draft 2020-12 that describes answers of models.

Schemas come from clients. So nothing is ever fetched, patterns take linear time, and looking ends after a bounded
number of steps, whatever refers to whatever.
"""

import json
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from llmgateway.documents.running import schema_form
from llmgateway.sensitivity.linear import compiled

MOST_FAULTS = 10
_MOST_STEPS = 200_000
_MOST_DEPTH = 100
_PATTERN_BYTES = 1 << 20
_Faults = Iterator[str]


class TooMuchError(Exception):
    """The schema refers to itself without end, or needs more steps than anybody means."""


def faults(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Say where a value differs from a schema that `schema_form.fault` finds nothing wrong with, at most ten times.

    Never quotes the value itself.
    """
    looking = _Looking(schema)
    found: list[str] = []
    try:
        for fault in looking.at(value, schema, "$", 0):
            found.append(fault)
            if len(found) == MOST_FAULTS:
                break
    except TooMuchError:
        found.append("$: looking at it took too many steps; the schema is too complex")
    return found


class _Looking:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def at(self, value: Any, schema: Any, path: str, depth: int) -> _Faults:
        self._steps += 1
        if self._steps > _MOST_STEPS or depth > _MOST_DEPTH:
            raise TooMuchError
        if isinstance(schema, bool):
            if not schema:
                yield f"{path}: nothing is allowed here"
            return
        yield from _own_faults(value, schema, path)
        yield from self._referred(value, schema, path, depth)
        if isinstance(value, dict):
            yield from self._members(value, schema, path, depth)
        elif isinstance(value, list):
            yield from self._items(value, schema, path, depth)

    def _referred(self, value: Any, schema: Mapping[str, Any], path: str, depth: int) -> _Faults:
        if "$ref" in schema:
            yield from self.at(value, schema_form.target(self._root, schema["$ref"]), path, depth + 1)
        for part in schema.get("allOf", ()):
            yield from self.at(value, part, path, depth + 1)
        if "anyOf" in schema and not any(self._fits(value, part, depth) for part in schema["anyOf"]):
            yield f"{path}: fits none of `anyOf`"
        if "oneOf" in schema and (fits := sum(self._fits(value, part, depth) for part in schema["oneOf"])) != 1:
            yield f"{path}: fits {fits} of `oneOf`, and exactly one is right"
        if "not" in schema and self._fits(value, schema["not"], depth):
            yield f"{path}: fits what `not` excludes"

    def _members(self, value: Mapping[str, Any], schema: Mapping[str, Any], path: str, depth: int) -> _Faults:
        named = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        for name, member in value.items():
            below = f"{path}.{name}"
            if name in named:
                yield from self.at(member, named[name], below, depth + 1)
            elif others is False:
                yield f"{below}: there is no such property"
            else:
                yield from self.at(member, others, below, depth + 1)
            if "propertyNames" in schema:
                yield from self.at(name, schema["propertyNames"], f"{below} (the name)", depth + 1)

    def _items(self, value: list[Any], schema: Mapping[str, Any], path: str, depth: int) -> _Faults:
        first = schema.get("prefixItems", [])
        for index, item in enumerate(value):
            expected = first[index] if index < len(first) else schema.get("items", True)
            yield from self.at(item, expected, f"{path}[{index}]", depth + 1)

    def _fits(self, value: Any, schema: Any, depth: int) -> bool:
        return next(self.at(value, schema, "$", depth + 1), None) is None


def _own_faults(value: Any, schema: Mapping[str, Any], path: str) -> _Faults:
    """Look at what is said of the value itself, without what is in it."""
    types = schema.get("type", ())
    wanted = [types] if isinstance(types, str) else types
    if wanted and not any(_is(value, name) for name in wanted):
        yield f"{path}: must be {' or '.join(wanted)}"
    if "const" in schema and _canonical(value) != _canonical(schema["const"]):
        yield f"{path}: must be {_canonical(schema['const'])}"
    if "enum" in schema and _canonical(value) not in {_canonical(each) for each in schema["enum"]}:
        yield f"{path}: must be one of {_canonical(schema['enum'])}"
    yield from _sized_faults(value, schema, path)


def _sized_faults(value: Any, schema: Mapping[str, Any], path: str) -> _Faults:
    match value:
        case str():
            yield from _text_faults(value, schema, path)
        case dict():
            yield from _between(len(value), schema, path, "Properties", "properties")
            yield from (f"{path}: `{name}` is missing" for name in schema.get("required", ()) if name not in value)
        case list():
            yield from _between(len(value), schema, path, "Items", "items")
            if schema.get("uniqueItems") and len({_canonical(item) for item in value}) < len(value):
                yield f"{path}: no two items may be the same"
        case int() | float() if not isinstance(value, bool):
            yield from _number_faults(value, schema, path)


def _text_faults(value: str, schema: Mapping[str, Any], path: str) -> _Faults:
    yield from _between(len(value), schema, path, "Length", "characters")
    if "pattern" in schema and _pattern(schema["pattern"]).search(value) is None:
        yield f"{path}: must match {schema['pattern']}"


def _number_faults(value: float, schema: Mapping[str, Any], path: str) -> _Faults:
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{path}: must be at least {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        yield f"{path}: must be at most {schema['maximum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield f"{path}: must be more than {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        yield f"{path}: must be less than {schema['exclusiveMaximum']}"
    if "multipleOf" in schema and Fraction(str(value)) % Fraction(str(schema["multipleOf"])):
        yield f"{path}: must be a multiple of {schema['multipleOf']}"


def _between(size: int, schema: Mapping[str, Any], path: str, of: str, what: str) -> _Faults:
    if size < schema.get(f"min{of}", 0):
        yield f"{path}: must have at least {schema[f'min{of}']} {what}"
    if size > schema.get(f"max{of}", size):
        yield f"{path}: must have at most {schema[f'max{of}']} {what}"


def _is(value: Any, name: str) -> bool:
    match value:
        case None:
            return name == "null"
        case bool():
            return name == "boolean"
        case int() | float():
            return name == "number" or (name == "integer" and value == int(value))
        case str():
            return name == "string"
        case _:
            return name == ("object" if isinstance(value, dict) else "array")


def _canonical(value: Any) -> str:
    """Write a value so that equal ones are written the same: 1.0 is 1, and no number is `true`."""
    return json.dumps(_even(value), sort_keys=True, ensure_ascii=False)


def _even(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _even(member) for name, member in value.items()}
        case list() | tuple():
            return [_even(item) for item in value]
        case _:
            return value


@lru_cache(maxsize=256)
def _pattern(expression: str) -> Any:
    return compiled(expression, most_bytes=_PATTERN_BYTES)
