import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.cutting.turns import turns


def cut(text: str) -> list[tuple[str | None, str]]:
    return [(turn.speaker, text[turn.start : turn.end]) for turn in turns(text)]


def test_in_a_transcript_each_line_is_a_turn_and_the_speaker_goes_on() -> None:
    text = "\nAnna: one\ntwo\n\nBen: three\n - four\n"

    assert cut(text) == [
        ("Anna", "\nAnna: one\n"),
        ("Anna", "two\n\n"),
        ("Ben", "Ben: three\n"),
        ("Ben", " - four\n"),
    ]
    assert [turn.named for turn in turns(text)] == [True, False, True, False]


def test_a_name_alone_on_its_line_has_the_next_one_with_it() -> None:
    assert cut("Anna:\none\ntwo\nBen:\nthree") == [
        ("Anna", "Anna:\none\n"),
        ("Anna", "two\n"),
        ("Ben", "Ben:\nthree"),
    ]


def test_elsewhere_each_paragraph_is_a_turn() -> None:
    text = "One line\nand another.\n\nSecond.\n \nAnna: third.\n"

    assert cut(text) == [
        (None, "One line\nand another.\n\n"),
        (None, "Second.\n \n"),
        ("Anna", "Anna: third.\n"),
    ]


def test_code_and_tables_of_a_transcript_stay_whole() -> None:
    text = "Anna: look\n```\na: b\n\nc\n```\nBen: yes\n| a |\n|---|\n| b |\n"

    assert [(turn.whole, text[turn.start : turn.end]) for turn in turns(text)] == [
        (False, "Anna: look\n"),
        (True, "```\na: b\n\nc\n```\n"),
        (True, "Ben: yes\n| a |\n|---|\n| b |\n"),
    ]


def test_a_few_labels_in_a_long_text_make_no_transcript() -> None:
    text = "Some prose here.\nAnd more.\n\n" * 20 + "Anna: one\nBen: two\n"

    assert len(cut(text)) == 21


@settings(deadline=None)
@given(st.text(st.sampled_from("ab: \n\n|-`*A1\x0b\u3000é")) | st.text())
def test_the_turns_are_the_text(text: str) -> None:
    spans = [(turn.start, turn.end) for turn in turns(text)]

    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


@pytest.mark.parametrize("text", ["", "\n", " \n\n\t"])
def test_a_text_of_blanks_has_no_more_than_one_turn(text: str) -> None:
    assert len(cut(text)) == bool(text)
