from typing import Any

import pytest

from llmgateway.documents.running.schema_form import fault, target


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:x", "title": "T", "x-note": 1},
        {"type": ["string", "null"], "format": "date", "default": None},
        {"properties": {"if": {"type": "string"}, "patternProperties": True}},
        {"$defs": {"a/b~c d": {"type": "null"}}, "items": {"$ref": "#/$defs/a~1b~0c%20d"}},
        {"anyOf": [{"type": "null"}, {"minLength": 1.0}], "additionalProperties": False},
    ],
)
def test_a_schema_that_can_be_checked_with_is_right(schema: dict[str, Any]) -> None:
    assert fault(schema) is None


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ([], "A JSON Schema is an object."),
        ({"type": "integr"}, "#/type must be the name of a type, or a list of names."),
        ({"properties": {"a": {"type": 3}}}, "#/properties/a/type must be the name of a type, or a list of names."),
        ({"properties": []}, "#/properties must be an object with schemas."),
        ({"properties": {"a": 1}}, "#/properties/a is no schema, or one that is nested too deeply."),
        ({"items": [{}]}, "#/items is no schema, or one that is nested too deeply."),
        ({"anyOf": []}, "#/anyOf must be a list of schemas."),
        ({"required": "a"}, "#/required must be a list of names."),
        ({"minLength": -1}, "#/minLength must be a whole number."),
        ({"minimum": True}, "#/minimum must be a number."),
        ({"multipleOf": 0}, "#/multipleOf must be a number above 0."),
        ({"uniqueItems": 1}, "#/uniqueItems must be true or false."),
        ({"enum": "a"}, "#/enum must be a list of values."),
        ({"pattern": "(?=a)"}, "#/pattern must be a regular expression that RE2 can read."),
        ({"pattern": 1}, "#/pattern must be a regular expression that RE2 can read."),
        ({"if": {}}, "#/if is not supported."),
        ({"patternProperties": {"(a+)+$": {}}}, "#/patternProperties is not supported."),
        ({"$ref": "https://example.org/schema"}, "#/$ref must name a schema in this one, such as `#/$defs/item`."),
        ({"$ref": "#/$defs/none"}, "#/$ref must name a schema in this one, such as `#/$defs/item`."),
        ({"$ref": "#/title", "title": "T"}, "#/$ref must name a schema in this one, such as `#/$defs/item`."),
        ({"$ref": 1}, "#/$ref must name a schema in this one, such as `#/$defs/item`."),
        ({"items": {"$id": "urn:x"}}, "#/items/$id is not supported but at the top."),
    ],
)
def test_a_schema_that_would_not_be_kept_is_refused(schema: Any, found: str) -> None:
    assert fault(schema) == found


def test_a_schema_is_not_nested_without_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"items": schema}

    assert "nested too deeply" in (fault(schema) or "")


def test_references_go_through_lists_as_well() -> None:
    assert target({"anyOf": [{"type": "null"}]}, "#/anyOf/0") == {"type": "null"}
    with pytest.raises(KeyError):
        target({"anyOf": []}, "#/anyOf/0")


@pytest.mark.parametrize("size", [float("inf"), float("nan"), -1, 1.5, 10**400])
def test_a_size_without_end_is_none(size: float) -> None:
    found = fault({"type": "string", "minLength": size})

    assert found == (None if size == 10**400 else "#/minLength must be a whole number.")
