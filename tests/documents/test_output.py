import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.output import consolidate, last_turns, split_output
from tests.documents.driven import count_chars, count_words

MARKDOWN = st.lists(
    st.sampled_from(
        [
            "",
            "",
            "text",
            "- item",
            "  - nested",
            "1. first",
            "# Heading",
            "```",
            "~~~~",
            "    code",
            "| a | b |",
            "Ann: hi",
            "\t",
        ]
    ),
    max_size=25,
).map("\n".join)


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("one\nstill one\n\ntwo\n", ["one\nstill one\n\n", "two\n"]),
        ("- a\n- b\n  on\n- c", ["- a\n", "- b\n  on\n", "- c"]),
        ("- a\n  - nested\n\n  more of a\n- b", ["- a\n  - nested\n\n  more of a\n", "- b"]),
        ("1. a\n2) b\n10. c", ["1. a\n", "2) b\n", "10. c"]),
        ("intro:\n- a\n- b", ["intro:\n", "- a\n", "- b"]),
        ("# Title\n\nparagraph\n\n## Next\n- a\n- b", ["# Title\n\nparagraph\n\n", "## Next\n- a\n", "- b"]),
        ("text\n# Title\nmore", ["text\n", "# Title\nmore"]),
        ("```py\na\n\nb\n- c\n```\n\nend", ["```py\na\n\nb\n- c\n```\n\n", "end"]),
        ("````\n```\n\n````\n\nend", ["````\n```\n\n````\n\n", "end"]),
        ("```\nnever closed\n\nanything", ["```\nnever closed\n\nanything"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n\nend", ["| a | b |\n|---|---|\n| 1 | 2 |\n\n", "end"]),
        ("Ann: hello\nBob: hi\nAnn: bye", ["Ann: hello\n", "Bob: hi\n", "Ann: bye"]),
        ("\n\nlate", ["\n\nlate"]),
        ("", []),
    ],
)
def test_turns_are_paragraphs_and_items_not_lines(text: str, turns: list[str]) -> None:
    assert split_output(text) == turns


@settings(deadline=None)
@given(MARKDOWN | st.text())
def test_turns_are_the_text(text: str) -> None:
    turns = split_output(text)

    assert "".join(turns) == text
    assert all(turn.strip() for turn in turns) or not text.strip()


def test_the_last_turns_are_carried_while_there_is_room() -> None:
    turns = split_output("- one two\n- three four five\n- six")

    assert last_turns(turns, 100, count_words) == "- one two\n- three four five\n- six"
    assert last_turns(turns, 6, count_words) == "- three four five\n- six"
    assert last_turns(turns, 5, count_words) == "- six"


def test_of_a_turn_that_is_too_long_the_end_is_carried() -> None:
    turns = ["first\n\n", "word " * 50 + "and the end"]

    carried = last_turns(turns, 20, count_words)

    assert carried.endswith("word and the end")
    assert 10 < len(carried.split()) <= 20


@settings(deadline=None)
@given(turns=st.lists(st.text(min_size=1, max_size=30), max_size=5), room_tokens=st.integers(-5, 60))
def test_no_more_is_carried_than_there_is_room_for(turns: list[str], room_tokens: int) -> None:
    carried = last_turns(turns, room_tokens, count_chars)

    assert len(carried) <= max(room_tokens, 0)
    assert "".join(turns).rstrip().endswith(carried)


def test_consecutive_turns_of_one_speaker_become_one() -> None:
    text = "Ann: We ship in May.\n\nAnn: The price stays.\n\nBob: Agreed.\n\nAnn: Good.\n"

    assert consolidate(text) == "Ann: We ship in May. The price stays.\n\nBob: Agreed.\n\nAnn: Good.\n"


def test_items_and_bold_labels_are_turns_of_a_speaker_as_well() -> None:
    text = "- **Ann Lee:** ships in May\n- **Ann Lee:** keeps the price\n- **Bob:** agrees\n"

    assert consolidate(text) == "- **Ann Lee:** ships in May; keeps the price\n- **Bob:** agrees\n"


def test_the_wide_colon_ends_a_label_too() -> None:
    assert consolidate("田中：はい。\n\n田中：行きます。") == "田中：はい。 行きます。"  # noqa: RUF001


@pytest.mark.parametrize(
    "text",
    [
        "Note: one.\n\nNote: two.",
        "Ann: one.\n\n```\nAnn: code\n```\n\nAnn: two.",
        "Ann: a table\n| x |\n\nAnn: two.",
        "Ann: a list\n- x\n\nBob: two.",
        "no label at all\n\nand none here",
        "",
    ],
)
def test_what_is_not_plainly_one_speaker_stays(text: str) -> None:
    assert consolidate(text) == text


@settings(deadline=None)
@given(MARKDOWN)
def test_consolidating_twice_changes_nothing_more(text: str) -> None:
    once = consolidate(text)

    assert consolidate(once) == once
