"""Whether a JSON Schema is one that answers can be checked with: told when it is saved, not in the middle of a job."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from llmgateway.sensitivity.linear import compiled

_MOST_BYTES_OF_PATTERN = 1 << 20
_MOST_DEPTH = 50
_TYPES = frozenset({"null", "boolean", "object", "array", "string", "number", "integer"})
# Known to JSON Schema, and not looked at here: to accept them would be to promise what is not kept.
_UNSUPPORTED = frozenset(
    {
        *("if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies", "patternProperties"),
        *("unevaluatedProperties", "unevaluatedItems", "contains", "minContains", "maxContains", "additionalItems"),
        *("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$anchor"),
    }
)


def fault(schema: Any) -> str | None:
    """Say what is wrong with a schema: its first fault, and where it is; `None` is nothing."""
    if not isinstance(schema, Mapping):
        return "A JSON Schema is an object."
    return next(_faults(schema, schema, "#", 0), None)


def target(root: Any, reference: str) -> Any:
    """Find what a reference within the schema means (RFC 6901).

    Raises:
        KeyError: Nothing.
    """
    if not reference.startswith("#"):
        raise KeyError(reference)
    found = root
    for step in unquote(reference[1:]).split("/")[1:] if reference != "#" else ():
        name = step.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(name)] if isinstance(found, list) else found[name]
        except (LookupError, ValueError, TypeError):
            raise KeyError(reference) from None
    return found


def _faults(root: Any, schema: Any, path: str, depth: int) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping) or depth > _MOST_DEPTH:
        yield f"{path} is no schema, or one that is nested too deeply."
        return
    for keyword, argument in schema.items():
        yield from _keyword_faults(root, keyword, argument, f"{path}/{keyword}")
    if "$id" in schema and schema is not root:
        yield f"{path}/$id is not supported but at the top."
    for where, below in _below(schema, path):
        yield from _faults(root, below, where, depth + 1)


def _keyword_faults(root: Any, keyword: str, argument: Any, where: str) -> Iterator[str]:
    if keyword in _UNSUPPORTED:
        yield f"{where} is not supported."
    elif keyword == "$ref":
        yield from _reference_faults(root, argument, where)
    elif keyword in _EXPECTED:
        is_right, expected = _EXPECTED[keyword]
        if not is_right(argument):
            yield f"{where} must be {expected}."


def _reference_faults(root: Any, reference: Any, where: str) -> Iterator[str]:
    try:
        found = target(root, reference) if isinstance(reference, str) else None
    except KeyError:
        found = None
    if not isinstance(found, Mapping | bool):
        yield f"{where} must name a schema in this one, such as `#/$defs/item`."


def _below(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the schemas within one, each with where it is."""
    for keyword in ("items", "additionalProperties", "propertyNames", "not"):
        if keyword in schema:
            yield f"{path}/{keyword}", schema[keyword]
    for keyword in ("properties", "$defs", "definitions"):
        if isinstance(members := schema.get(keyword), Mapping):
            yield from ((f"{path}/{keyword}/{name}", below) for name, below in members.items())
    for keyword in ("allOf", "anyOf", "oneOf", "prefixItems"):
        if isinstance(several := schema.get(keyword), list):
            yield from ((f"{path}/{keyword}/{index}", below) for index, below in enumerate(several))


def _is_number(argument: Any) -> bool:
    return isinstance(argument, int | float) and not isinstance(argument, bool)


def _is_size(argument: Any) -> bool:
    return _is_number(argument) and 0 <= argument < math.inf and argument == int(argument)


def _is_divisor(argument: Any) -> bool:
    return _is_number(argument) and argument > 0


def _are_types(argument: Any) -> bool:
    return argument in _TYPES if isinstance(argument, str) else _are_names(argument) and _TYPES.issuperset(argument)


def _are_names(argument: Any) -> bool:
    return isinstance(argument, list) and all(isinstance(name, str) for name in argument)


def _is_list(argument: Any) -> bool:
    return isinstance(argument, list) and bool(argument)


def _is_map(argument: Any) -> bool:
    return isinstance(argument, Mapping)


def _is_bool(argument: Any) -> bool:
    return isinstance(argument, bool)


def _is_pattern(argument: Any) -> bool:
    try:
        compiled(argument, most_bytes=_MOST_BYTES_OF_PATTERN)
    except (ValueError, TypeError):
        return False
    return True


_SIZES = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_Expected = tuple[Callable[[Any], bool], str]
_EXPECTED: Mapping[str, _Expected] = {
    "type": (_are_types, "the name of a type, or a list of names"),
    "enum": (lambda argument: isinstance(argument, list), "a list of values"),
    "required": (_are_names, "a list of names"),
    "uniqueItems": (_is_bool, "true or false"),
    "multipleOf": (_is_divisor, "a number above 0"),
    "pattern": (_is_pattern, "a regular expression that RE2 can read"),
    **dict.fromkeys(("properties", "$defs", "definitions"), (_is_map, "an object with schemas")),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), (_is_list, "a list of schemas")),
    **dict.fromkeys(_SIZES, (_is_size, "a whole number")),
    **dict.fromkeys(_BOUNDS, (_is_number, "a number")),
}
