import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmgateway.documents.prompts import FORMS, GUIDES, RULES, SUMMARY, Use, check, fill, names_in
from llmgateway.errors import DocumentError

# Texts that look like what is looked for.
TRICKY = st.text(alphabet="{}% document previous$\\1é\n", max_size=40) | st.sampled_from(
    ["{{document}}", "{{previous}}", "{}", "{0}", "%s", "%(document)s", "{{ language }}", "\\g<0>", "{{{document}}}"]
)


def test_named_placeholders_are_filled() -> None:
    filled = fill(
        "In {{language}}: {{ document }}\n{{previous}}|{{tags}}", {"language": "fr", "document": "D", "previous": "P"}
    )

    assert filled == "In fr: D\nP|{{tags}}"


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("Sum up: {}", "Sum up: D"),
        ("Before: {} Now: {}", "Before: P Now: D"),
        ("In {{language}}: {}", "In fr: D"),
        ("{} {} {}", "{} {} {}"),
        ('Like {"items": {}}: {{document}}', 'Like {"items": {}}: D'),
        ("{{}} {{document}} { }", "{{}} D { }"),
        ("{{unknown}} {}", "{{unknown}} D"),
    ],
)
def test_bare_placeholders_stand_for_the_document_and_what_was_before(template: str, filled: str) -> None:
    assert fill(template, {"language": "fr", "document": "D", "previous": "P"}) == filled


def test_bare_braces_of_a_system_prompt_are_text() -> None:
    assert fill("Answer {} with {{language}}.", {"language": "fr"}) == "Answer {} with fr."


@settings(deadline=None)
@given(before=TRICKY, document=TRICKY, previous=TRICKY)
@example(before="", document="{{previous}} {} %s", previous="{{document}}")
def test_whatever_looks_like_a_placeholder_within_a_text_is_text(before: str, document: str, previous: str) -> None:
    literal = before.replace("{", "(").replace("}", ")")

    named = fill(f"{literal}<{{{{previous}}}}|{{{{document}}}}>", {"document": document, "previous": previous})
    bare = fill(f"{literal}<{{}}|{{}}>", {"document": document, "previous": previous})

    assert named == bare == f"{literal}<{previous}|{document}>"


def test_placeholders_are_found_by_what_they_stand_for() -> None:
    assert names_in("{{ document }} {{tags}} {}") == {"document", "tags"}
    assert names_in("{} {}") == {"document", "previous"}
    assert names_in("{} {} {}") == frozenset()


@settings(deadline=None)
@given(TRICKY)
def test_what_has_no_value_stays_as_it_is(template: str) -> None:
    assert fill(template, {}) == template


@pytest.mark.parametrize(
    ("prompt", "use"),
    [
        ("{{document}}", "single_pass"),
        ("{}", "single_pass"),
        ("{}", "map_reduce"),
        ("{} {}", "iterative"),
        ("{{document}}", "iterative"),
        ("{{previous}} {{document}} {}", "iterative"),
        ("{{document}}", "reduce"),
        ("{{fields}} {{document}}", "field_extraction"),
        ("{{tags}} {}", "categorization"),
        ("{{language}} and {} and {}", "system"),
    ],
)
def test_a_prompt_that_takes_what_it_is_given_is_right(prompt: str, use: Use) -> None:
    check(prompt, use)


@pytest.mark.parametrize(
    ("prompt", "use", "required", "actual"),
    [
        ("Sum it up.", "single_pass", 1, 0),
        ("{} {}", "single_pass", 1, 2),
        ("{}", "iterative", 2, 1),
        ("{} {} {}", "iterative", 2, 3),
        ("{} {}", "map_reduce", 1, 2),
        ("{{document}} {{document}}", "iterative", 1, 2),
        ("{{previous}}", "iterative", 1, 0),
        ("{{previous}} {{previous}} {{document}}", "iterative", 1, 2),
        ("{{dokument}}", "single_pass", 1, 0),
        ("Bring it together.", "reduce", 1, 0),
        ("{{document}}", "system", 0, 1),
    ],
)
def test_a_prompt_with_another_number_of_placeholders_is_refused(
    prompt: str, use: Use, required: int, actual: int
) -> None:
    with pytest.raises(DocumentError) as caught:
        check(prompt, use)

    assert caught.value.code == "prompt_invalid"
    assert caught.value.details == {"required": required, "actual": actual}
    assert str(actual) in caught.value.message


def test_what_is_said_of_itself_has_no_place_for_a_document() -> None:
    for text in (RULES, SUMMARY, *FORMS.values(), *GUIDES.values()):
        check(text, "system")


def test_minutes_that_go_on_are_told_not_to_repeat() -> None:
    assert "only what this part adds" in GUIDES["iterative"]
    assert all("<document>" in guide for guide in GUIDES.values())
