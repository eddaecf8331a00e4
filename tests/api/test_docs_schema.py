from typing import Any

import pytest

from llmgateway.api.docs_schema import fields_html, name_of, text_html


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["integer", "null"]}, "integer or null"),
        ({"type": "array", "items": {"type": "number"}}, "array of number"),
        ({"type": ["array", "null"], "items": {"type": "string"}}, "array of string or null"),
        ({"$ref": "#/components/schemas/Usage"}, '<a href="#schema-Usage">Usage</a>'),
        ({"const": "list"}, '<code>"list"</code>'),
        ({"type": "string", "enum": ["a", "<b>"]}, '<code>"a"</code> or <code>"&lt;b&gt;"</code>'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "string"}]}, "string or null"),
        ({}, "anything"),
    ],
)
def test_a_type_is_said_in_a_few_words(schema: dict[str, Any], name: str) -> None:
    assert name_of(schema) == name


def test_fields_are_listed_with_their_bounds_and_folded_below() -> None:
    inner = {"type": "object", "properties": {"url": {"type": "string"}}}
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "default": 2, "description": "How `many`."},
            "parts": {"type": "array", "items": inner},
        },
        "required": ["n"],
    }

    shown = fields_html(schema)

    assert "integer (at least 1; 2 when left out)" in shown
    assert "How <code>many</code>." in shown
    assert shown.count("required") == 2
    assert "<details>" in shown
    assert "<code>url</code>" in shown


def test_a_plain_value_has_no_fields() -> None:
    assert fields_html({"type": "array", "items": {}}) == ""


def test_text_is_escaped() -> None:
    assert text_html("<b> & `<i>`") == "&lt;b&gt; &amp; <code>&lt;i&gt;</code>"
