from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it carries no types

from llmgateway.documents.running.schema import MOST_FAULTS, faults
from llmgateway.documents.running.schema_form import fault

SCALARS = st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, 2, 2.5, -3, "", "a", "ab", "1"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["null", "boolean", "object", "array", "string", "number", "integer"])
SIZES = st.integers(0, 3)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(VALUES, min_size=1, max_size=3),
            "const": VALUES,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "additionalProperties": inner,
            "propertyNames": st.sampled_from([{"pattern": "^[ab]$"}, {"maxLength": 0}, {"enum": ["a"]}]),
            "items": inner,
            "prefixItems": lists,
            "minItems": SIZES,
            "maxItems": SIZES,
            "uniqueItems": st.booleans(),
            "minProperties": SIZES,
            "maxProperties": SIZES,
            "minLength": SIZES,
            "maxLength": SIZES,
            "pattern": st.sampled_from(["^a", "b$", "[0-9]+"]),
            "minimum": st.integers(-2, 3),
            "maximum": st.integers(-2, 3),
            "exclusiveMinimum": st.integers(-2, 3),
            "exclusiveMaximum": st.integers(-2, 3),
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "allOf": lists,
            "anyOf": lists,
            "oneOf": lists,
            "not": inner,
            "$ref": st.sampled_from(["#/$defs/one"]),
            "title": st.just("an annotation"),
        },
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(st.booleans() | st.just({}), _schemas, max_leaves=6).filter(
    lambda schema: isinstance(schema, dict)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=VALUES, schema=SCHEMAS, one=SCHEMAS.filter(lambda one: "$ref" not in str(one)))
def test_the_verdict_is_that_of_the_reference(value: Any, schema: dict[str, Any], one: dict[str, Any]) -> None:
    schema = {**schema, "$defs": {"one": one}}
    assert fault(schema) is None

    found = faults(value, schema)

    assert (not found) == Draft202012Validator(schema).is_valid(value), found


@pytest.mark.parametrize(
    ("value", "schema", "found"),
    [
        ({"a": [1, "x"]}, {"properties": {"a": {"items": {"type": "integer"}}}}, ["$.a[1]: must be integer"]),
        ({}, {"required": ["a"]}, ["$: `a` is missing"]),
        (True, {"enum": [1, "a"]}, ['$: must be one of [1, "a"]']),
        (True, {"const": 1}, ["$: must be 1"]),
        (0.3, {"multipleOf": 0.1}, []),
        (3, {"multipleOf": 2}, ["$: must be a multiple of 2"]),
        (2, {"exclusiveMinimum": 2, "exclusiveMaximum": 2}, ["$: must be more than 2", "$: must be less than 2"]),
        (2, {"minimum": 3, "maximum": 1}, ["$: must be at least 3", "$: must be at most 1"]),
        ("é", {"maxLength": 1}, []),
        ([1, 1.0], {"uniqueItems": True}, ["$: no two items may be the same"]),
        ({"x": {"x": {"x": 1}}}, {"properties": {"x": {"$ref": "#"}}, "type": "object"}, ["$.x.x.x: must be object"]),
        ({"a": 1}, {"additionalProperties": False}, ["$.a: there is no such property"]),
    ],
)
def test_faults_say_where_and_what(value: Any, schema: dict[str, Any], found: list[str]) -> None:
    assert faults(value, schema) == found


def test_there_is_an_end_to_faults() -> None:
    assert len(faults([""] * 50, {"items": {"type": "null"}})) == MOST_FAULTS


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {
            "$defs": {
                str(number): {"allOf": [{"$ref": f"#/$defs/{number + 1}"}] * 2} if number < 60 else {}
                for number in range(61)
            },
            "$ref": "#/$defs/0",
        },
    ],
)
def test_a_schema_without_an_end_is_no_endless_work(schema: dict[str, Any]) -> None:
    assert fault(schema) is None

    assert "too many steps" in faults({}, schema)[-1]


def test_patterns_take_linear_time() -> None:
    schema = {"pattern": "^(a+)+$"}

    assert faults("a" * 50_000 + "b", schema) == ["$: must match ^(a+)+$"]
