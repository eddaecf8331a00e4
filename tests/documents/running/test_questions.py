import pytest

from llmgateway.documents.recipe import Batch, Extras, Recipe
from llmgateway.documents.running.questions import Asked, question, schema_of, shown, step_of, wording
from llmgateway.flavor import OutputType
from tests.documents.driven import recipe_of

NOTHING = Extras()


def said(recipe: Recipe, extras: Extras = NOTHING, use: Asked = "single_pass", previous: str = "") -> tuple[str, str]:
    messages = wording(recipe, extras, use).messages("THE DOCUMENT", previous)
    by_role = {message["role"]: message["content"] for message in messages}
    return by_role.get("system", ""), by_role["user"]


def test_without_prompts_of_its_own_a_flavor_sums_up_in_the_documents_language() -> None:
    system, user = said(recipe_of())

    assert "Write in the language of the document" in system
    assert "summary" in system
    assert "Markdown" in system
    assert user == "<document>\n\nTHE DOCUMENT\n\n</document>"


def test_a_flavors_own_prompts_are_sent_as_they_are() -> None:
    recipe = recipe_of(system_prompt="You are brief.", user_prompt="Sum up:\n{{document}}")

    assert said(recipe) == ("You are brief.", "Sum up:\nTHE DOCUMENT")


def test_an_empty_system_prompt_is_none() -> None:
    messages = wording(recipe_of(system_prompt="", user_prompt="{}"), NOTHING, "single_pass").messages("D")

    assert [message["role"] for message in messages] == ["user"]


def test_with_a_system_prompt_of_its_own_the_model_is_told_where_the_document_is() -> None:
    system, user = said(recipe_of(system_prompt="Translate to French."))

    assert system.startswith("Translate to French.\n\n")
    assert "between <document> and </document>" in system
    assert user == "<document>\n\nTHE DOCUMENT\n\n</document>"


def test_with_a_user_prompt_of_its_own_nothing_is_said_of_a_summary() -> None:
    system, _ = said(recipe_of(user_prompt="Translate:\n{}"))

    assert "Keep names" in system
    assert "summary" not in system
    assert "<document>" not in system


def test_instructions_and_language_are_added_to_the_system_prompt() -> None:
    recipe = recipe_of(system_prompt="You are brief.", user_prompt="{}")

    system, _ = said(recipe, Extras(instructions="Only {{document}} and decisions.", language="Deutsch"))

    assert system == "You are brief.\n\nOnly {{document}} and decisions.\n\nAnswer in this language: Deutsch"


def test_instructions_and_language_that_have_a_place_are_not_said_twice() -> None:
    recipe = recipe_of(system_prompt="Heed: {{instructions}}.", user_prompt="In {{language}}: {{document}}")

    system, user = said(recipe, Extras(instructions="be kind", language="{}"))

    assert (system, user) == ("Heed: be kind.", "In {}: THE DOCUMENT")


def test_a_language_that_is_named_takes_the_place_of_the_documents() -> None:
    system, _ = said(recipe_of(), Extras(language="suomi"))

    assert "Write in suomi." in system
    assert "language of the document" not in system


def test_what_was_written_before_has_tags_of_its_own() -> None:
    system, user = said(recipe_of(), use="iterative", previous="- so far")

    assert user == "<previous>\n\n- so far\n\n</previous>\n\n<document>\n\nTHE DOCUMENT\n\n</document>"
    assert "do not repeat" in system


@pytest.mark.parametrize("prompt", ["Sum up: {}", "Sum up: {{document}}"])
def test_a_prompt_without_a_place_for_what_was_written_before_has_it_in_front(prompt: str) -> None:
    system, user = said(recipe_of(system_prompt="S", user_prompt=prompt), use="iterative", previous="{} {{document}}")

    assert user == "<previous>\n\n{} {{document}}\n\n</previous>\n\nSum up: THE DOCUMENT"
    assert "do not repeat" in system


def test_a_prompt_with_a_place_for_it_is_sent_as_it_is() -> None:
    recipe = recipe_of(system_prompt="S", user_prompt="Before: {} Now: {}")

    assert said(recipe, use="iterative", previous="P") == ("S", "Before: P Now: THE DOCUMENT")
    assert said(recipe, use="iterative") == ("S", "Before:  Now: THE DOCUMENT")
    assert said(recipe, use="single_pass") == ("S", "Before:  Now: THE DOCUMENT")


def test_nothing_is_said_of_earlier_parts_where_none_are_shown() -> None:
    system, _ = said(recipe_of(summary_turns=0), use="iterative")

    assert "<previous>" not in system


def test_a_reduce_prompt_is_used_for_that_alone() -> None:
    recipe = recipe_of(system_prompt="S", user_prompt="Part: {}", reduce_prompt="Whole: {}")

    assert said(recipe, use="reduce") == ("S", "Whole: THE DOCUMENT")
    assert said(recipe, use="map_reduce") == ("S", "Part: THE DOCUMENT")


@pytest.mark.parametrize(
    ("output_type", "output_schema", "ends"),
    [
        ("json", None, "Answer with one JSON object alone: no text before or after it and no code fence."),
        ("json", {"type": "array"}, 'It must be valid under this JSON Schema:\n{"type":"array"}'),
        ("text", None, "S"),
    ],
)
def test_json_is_asked_for_in_words_as_well(
    output_type: OutputType, output_schema: dict[str, str] | None, ends: str
) -> None:
    recipe = recipe_of(system_prompt="S", user_prompt="{}", output_type=output_type, output_schema=output_schema)

    system, _ = said(recipe)

    assert system.endswith(ends)
    assert schema_of(recipe.settings) == (None if output_type == "text" else output_schema or {})


def test_a_question_asks_for_as_much_as_the_flavor_allows() -> None:
    asked = question(recipe_of(max_generation=321), (), step="s", type="map", batch=4)

    assert (asked.max_tokens, asked.batch, asked.last, asked.schema) == (321, 4, False, None)


def test_a_batch_is_named_by_its_place_and_says_who_goes_on_speaking() -> None:
    text = "Ann: one two"

    assert step_of(Batch(5, 12, 2, 1)) == "batch:5-12"
    assert shown(text, Batch(5, 12, 2, 1, "Ann")) == "Ann (continued): one two"
    assert shown(text, Batch(0, 12, 3, 1)) == text
