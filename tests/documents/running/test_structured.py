import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.question import AnswerError, Question
from llmgateway.documents.recipe import Recipe
from llmgateway.documents.running.structured import merged, read, structured, unfenced
from tests.documents.driven import Driven, Model, count_words, drive, recipe_of, system_of, user_of

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "items": {"type": "array", "items": {"type": "integer"}}},
    "required": ["title", "items"],
    "additionalProperties": False,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def run(parts: list[str], model: Model, recipe: Recipe | None = None, **settings: Any) -> Driven:
    recipe = recipe or recipe_of(output_type="json", **settings)
    return drive(structured(parts, recipe, count_words), model)


def never(question: Question) -> str:
    raise AssertionError(question.step)


def test_a_valid_answer_is_taken_as_it_was_written() -> None:
    assert run([' {"a":  1}\n'], never).result == '{"a":  1}'
    assert run(['```json\n{"a": "```"}\n```'], never).result == '{"a": "```"}'
    assert run(['{"title": "T", "items": [1]}'], never, output_schema=SCHEMA).result == '{"title": "T", "items": [1]}'
    assert run(["[1]"], never, output_schema={"type": "array"}).result == "[1]"


def test_a_broken_answer_is_repaired_once_by_the_model() -> None:
    driven = run(['{"title": "T", "items": [1,]}'], lambda _: '{"title": "T", "items": [1]}', output_schema=SCHEMA)

    (asked,) = driven.asked
    assert asked.step.startswith("repair:whole.0:")
    assert asked.schema == SCHEMA
    assert not asked.last
    assert '{"title": "T", "items": [1,]}' in user_of(asked)
    assert "no JSON" in user_of(asked)
    assert '"additionalProperties":false' in system_of(asked)
    assert driven.result == '{"title": "T", "items": [1]}'


def test_the_model_is_told_where_its_answer_differs_from_the_schema() -> None:
    driven = run(['{"items": ["x"], "{}": 1}'], lambda _: '{"title": "", "items": []}', output_schema=SCHEMA)

    told = user_of(driven.asked[0])
    assert "$: `title` is missing" in told
    assert "$.items[0]: must be integer" in told
    assert "$.{}: there is no such property" in told


@pytest.mark.parametrize("repaired", ["still no JSON: SECRET", '{"title": 1}', "[]"])
def test_an_answer_that_stays_wrong_fails(repaired: str) -> None:
    with pytest.raises(AnswerError) as caught:
        run(["SECRET"], lambda _: repaired, output_schema=SCHEMA)

    assert (caught.value.kind, caught.value.code) == ("model_error", "invalid_output")
    assert "SECRET" not in caught.value.message


@pytest.mark.parametrize(
    "text", ["[1]", "3", "null", "NaN", '{"a": 1} and more', '{"a": NaN}', "{'a': 1}", "{a: 1}", "[" * 5000]
)
def test_without_a_schema_an_answer_is_one_json_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text, {"type": "object"})


def test_what_is_too_long_to_be_repaired_fails_at_once() -> None:
    recipe = recipe_of(output_type="json", context_length=1_000, max_generation=500)

    with pytest.raises(AnswerError, match="too long"):
        run(["word " * 400], never, recipe)


def test_a_schema_that_is_none_fails_with_its_fault() -> None:
    with pytest.raises(AnswerError, match="#/type must be the name of a type"):
        run(["{}"], never, output_schema={"type": "integr"})


def test_parts_are_put_together_and_then_checked() -> None:
    parts = ['{"title": null, "items": [1]}', '{"title": "T", "items": [2, 3]}', '{"title": "late"}']

    driven = run(parts, never, output_schema=SCHEMA)

    assert json.loads(driven.result) == {"title": "T", "items": [1, 2, 3]}


def test_broken_parts_are_repaired_side_by_side() -> None:
    driven = run(['{"a": [1]}', "{", "}"], lambda question: '{"a": [2]}' if ".1:" in question.step else '{"a": [3]}')

    assert [[step.rpartition(":")[0] for step in wave] for wave in driven.waves] == [["repair:part.1", "repair:part.2"]]
    assert json.loads(driven.result) == {"a": [1, 2, 3]}


def test_what_is_put_together_is_repaired_where_the_whole_is_not_right() -> None:
    driven = run(
        ['{"items": [1]}', '{"items": [2]}'], lambda _: '{"title": "T", "items": [1, 2]}', output_schema=SCHEMA
    )

    assert [step.rpartition(":")[0] for step in driven.steps] == ["repair:whole.0"]
    assert json.loads(driven.result)["title"] == "T"


@pytest.mark.parametrize(
    ("values", "together"),
    [
        ([[1], [2, [3]]], [1, 2, [3]]),
        ([{"a": 1, "b": None}, {"a": 2, "b": 3, "c": 4}], {"a": 1, "b": 3, "c": 4}),
        ([{"a": {"x": [1]}}, {"a": {"x": [2], "y": "z"}}], {"a": {"x": [1, 2], "y": "z"}}),
        ([{"a": "one"}, {"a": ["two"]}, {"a": None}], {"a": ["one", "two"]}),
        ([None, False, True], False),
        ([None, None], None),
        ([], None),
    ],
)
def test_lists_are_joined_objects_merged_and_scalars_taken_once(values: list[Any], together: Any) -> None:
    assert merged(values) == together


@settings(deadline=None)
@given(JSON)
def test_one_value_is_itself(value: Any) -> None:
    assert merged([value]) == value
    assert merged([None, value]) == value


@settings(deadline=None)
@given(st.lists(st.lists(JSON, max_size=3), min_size=1, max_size=4))
def test_no_item_of_a_list_is_lost(values: list[list[Any]]) -> None:
    assert merged(values) == [item for value in values for item in value]


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("```\n{}\n```", "{}"),
        (" ```json\n{}```\n", "{}"),
        ("text\n```\n{}\n```", "text\n```\n{}\n```"),
        ("``` ``` \n x ```", "``` ``` \n x ```"),
        ("```", "```"),
    ],
)
def test_a_fence_around_the_whole_is_taken_off(text: str, inside: str) -> None:
    assert unfenced(text) == inside
