# ruff: noqa: RUF001  the marks and words of all scripts

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.cutting.sentences import character_ends, sentence_ends, word_ends

# Each holds a text as ICU 78 cuts it (the locale `root`, for Greek `el`).
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def pieces(text: str) -> list[str]:
    return [text[start:end] for start, end in itertools.pairwise([0, *sentence_ends(text)])]


def f1(ends: set[int], expected: set[int]) -> float:
    return 2 * len(ends & expected) / (len(ends) + len(expected))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_pitfall_116_sentences_end_where_icu_ends_them_in_every_script(path: Path) -> None:
    expected = json.loads(path.read_text(encoding="utf-8"))["sentences"]
    text = "".join(expected)

    ends = sentence_ends(text)

    assert "".join(pieces(text)) == text
    assert f1({*ends[:-1]}, {*itertools.accumulate(map(len, expected[:-1]))}) >= 0.95


def test_there_are_golden_texts_of_many_scripts() -> None:
    assert len(GOLDEN) >= 20


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Miller came.",
        "We met Mr. and Mrs. Smith.",
        "Das gilt z. B. Anna.",
        "Elle voit M. Dupont.",
        "Офис на ул. Ленина.",
        "By J. R. R. Tolkien.",
        "It cost 3.5 million.",
        "At 9 a.m. we met.",
        "See www.Example.org now.",
    ],
)
def test_a_full_stop_within_a_sentence_does_not_end_it(text: str) -> None:
    assert pieces(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Τι ώρα είναι; Δέκα.", ["Τι ώρα είναι; ", "Δέκα."]),
        ("First; then.", ["First; then."]),
        ("A line that is\nbroken here. And\nanother.", ["A line that is\nbroken here. ", "And\nanother."]),
        ("He said “no.” Then he left.", ["He said “no.” ", "Then he left."]),
        ("😀 One. 👩‍👩‍👧 Two.", ["😀 One. ", "👩‍👩‍👧 Two."]),
        ("", []),
    ],
)
def test_sentences_of_special_kinds(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_words_and_characters_are_those_that_people_see() -> None:
    thai = "สวัสดีครับ"

    assert [*word_ends("we can't 😀 go")] == [2, 3, 8, 9, 10, 11, 13]
    assert [*word_ends(thai)] == [6, 10]
    assert [*character_ends("e\u0301👩‍👩‍👧🇫🇷x")] == [2, 7, 9, 10]
    assert [*character_ends("")] == []


@settings(deadline=None)
@given(st.text(st.characters()))
def test_any_text_is_cut_without_loss(text: str) -> None:
    for ends in (sentence_ends(text), word_ends(text), character_ends(text)):
        assert [*ends] == sorted(set(ends))
        assert [*ends][-1:] == ([len(text)] if text else [])
