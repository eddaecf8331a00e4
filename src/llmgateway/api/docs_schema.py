"""JSON Schemas as HTML: a list of fields, each with its type and meaning; other schemas are linked, not repeated."""

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

JSON = dict[str, Any]

_CODE = re.compile(r"`([^`]+)`")
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minLength": "length at least {}",
    "maxLength": "length at most {}",
    "minItems": "items: at least {}",
    "maxItems": "items: at most {}",
    "default": "{} when left out",
}


def text_html(text: str) -> str:
    """Escape a text, and show what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def name_of(schema: JSON) -> str:
    """Say a schema's type in a few words; a schema with a name is a link to it."""
    match schema:
        case {"$ref": str(target)}:
            name = target.rpartition("/")[2]
            return f'<a href="#schema-{name}">{name}</a>'
        case {"const": value}:
            return f"<code>{escape(json.dumps(value), quote=False)}</code>"
        case {"enum": [*values]}:
            return " or ".join(f"<code>{escape(json.dumps(value), quote=False)}</code>" for value in values)
        case {"anyOf": [*choices]} | {"oneOf": [*choices]}:
            return " or ".join(dict.fromkeys(name_of(choice) for choice in choices))
    return _name_of_type(schema)


def _name_of_type(schema: JSON) -> str:
    types = schema.get("type", "anything")
    names = [types] if isinstance(types, str) else types
    if "items" in schema:
        names = [f"array of {name_of(schema['items'])}" if name == "array" else name for name in names]
    return " or ".join(names)


def fields_html(schema: JSON) -> str:
    """List the fields of an object, or of the objects in an array or a choice; nothing for a plain value."""
    return "".join(_lists(schema))


def _lists(schema: JSON) -> Iterator[str]:
    if "properties" in schema:
        required = schema.get("required", [])
        fields = "".join(_field(name, inner, name in required) for name, inner in schema["properties"].items())
        yield f'<dl class="fields">{fields}</dl>'
    items = [schema["items"]] if "items" in schema else []
    for inner in [*items, *schema.get("anyOf", []), *schema.get("oneOf", [])]:
        yield from _lists(inner)


def _field(name: str, schema: JSON, is_required: bool) -> str:
    mark = ' <span class="required">required</span>' if is_required else ""
    bounds = "; ".join(words.format(json.dumps(schema[key])) for key, words in _BOUNDS.items() if key in schema)
    facts = f'<span class="dim">{name_of(schema)}{f" ({bounds})" if bounds else ""}</span>'
    inner = fields_html(schema)
    folded = f"<details><summary>Its fields</summary>{inner}</details>" if inner else ""
    meaning = text_html(schema.get("description", ""))
    return f"<dt><code>{escape(name)}</code>{mark} {facts}</dt><dd>{meaning}{folded}</dd>"
