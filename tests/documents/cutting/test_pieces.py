# ruff: noqa: RUF001  the marks and words of all scripts

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.cutting.pieces import LINES, PROSE, Cutter, Ends
from llmgateway.documents.recipe import Count


def by_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def by_chars(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def by_bytes(texts: Sequence[str]) -> list[int]:
    return [len(text.encode(errors="surrogatepass")) for text in texts]


def cut(text: str, most_tokens: int, count: Count = by_words, levels: Sequence[Ends] = PROSE) -> list[str]:
    lengths = [chars for chars, _ in Cutter(count).cut(text, most_tokens, levels)]
    return [text[start:end] for start, end in itertools.pairwise([0, *itertools.accumulate(lengths)])]


@pytest.mark.parametrize(
    ("text", "most_tokens", "expected"),
    [
        ("One two. Three four. Five.", 4, ["One two. Three four. ", "Five."]),
        ("One two. Three four five, six seven. Eight.", 3, ["One two. ", "Three four five, ", "six seven. ", "Eight."]),
        ("one two three four five", 2, ["one two ", "three four ", "five"]),
        ("one two\nthree four five", 3, ["one two\n", "three four five"]),
    ],
)
def test_cuts_are_at_sentences_then_lines_then_clauses_then_words(
    text: str, most_tokens: int, expected: list[str]
) -> None:
    assert cut(text, most_tokens) == expected


@pytest.mark.parametrize(
    ("text", "most_chars", "expected"),
    [
        ("我们讨论。你们决定。", 5, ["我们讨论。", "你们决定。"]),
        ("我们讨论，你们决定", 5, ["我们讨论，", "你们决定"]),
        ("สวัสดีครับ", 6, ["สวัสดี", "ครับ"]),
        ("e\u0301e\u0301", 3, ["e\u0301", "e\u0301"]),
        ("a" + "\u0301" * 4, 2, ["a\u0301", "\u0301\u0301", "\u0301"]),
    ],
)
def test_without_blanks_cuts_are_at_words_then_at_characters(text: str, most_chars: int, expected: list[str]) -> None:
    assert cut(text, most_chars, by_chars) == expected


def test_a_table_is_cut_between_its_lines_first() -> None:
    text = "| a b |\n| c. D |\n| e |\n"

    assert cut(text, 8, levels=LINES) == ["| a b |\n| c. D |\n", "| e |\n"]


def test_a_single_character_is_not_cut() -> None:
    assert cut("é田", 1, by_bytes) == ["é", "田"]


@settings(deadline=None)
@given(st.text(st.characters()), st.integers(1, 20), st.sampled_from([by_chars, by_bytes]))
def test_pieces_are_the_text_and_none_is_too_long(text: str, most_tokens: int, count: Count) -> None:
    pieces = cut(text, most_tokens, count)

    assert "".join(pieces) == text
    assert all(count([piece])[0] <= most_tokens or len(piece) == 1 for piece in pieces)


@pytest.mark.parametrize("text", ["word " * 20_000, "a" * 100_000, "a. " * 30_000, ("." * 900 + " " * 100 + "x") * 100])
def test_hardly_more_is_counted_than_there_is(text: str) -> None:
    counted = 0

    def count(texts: Sequence[str]) -> list[int]:
        nonlocal counted
        counted += sum(map(len, texts))
        return [-(-len(text) // 4) for text in texts]

    assert "".join(cut(text, 500, count)) == text
    assert counted < 4 * len(text)
