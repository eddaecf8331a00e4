import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.cutting.blocks import Kind, blocks

P, L, T, F = Kind.PARAGRAPH, Kind.LIST, Kind.TABLE, Kind.FENCE


def cut(text: str) -> list[tuple[Kind, str]]:
    return [(block.kind, text[block.start : block.end]) for block in blocks(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n\n\nc", [(P, "a\nb\n\n\n"), (P, "c")]),
        ("\n \n a\n", [(P, "\n \n a\n")]),
        ("- a\n- b\n  c\n\n  d\n\ne", [(L, "- a\n- b\n  c\n\n  d\n\n"), (P, "e")]),
        ("a:\n1. b\n2) c\nlazy\n\n3. d", [(P, "a:\n"), (L, "1. b\n2) c\nlazy\n\n"), (L, "3. d")]),
        ("| a |\n|---|\n| b |\n\nc", [(T, "| a |\n|---|\n| b |\n\n"), (P, "c")]),
        ("a | b\n--- | ---\nc | d\n- e", [(T, "a | b\n--- | ---\nc | d\n"), (L, "- e")]),
        ("a\n```py\n\nb\n```\nc", [(P, "a\n"), (F, "```py\n\nb\n```\n"), (P, "c")]),
        ("~~~~\n~~~\n```\n~~~~~\nx", [(F, "~~~~\n~~~\n```\n~~~~~\n"), (P, "x")]),
        ("```a\n\nb", [(P, "```a\n\n"), (P, "b")]),
        ("````\n```\n\n~~~\nx\n~~~", [(P, "````\n```\n\n"), (F, "~~~\nx\n~~~")]),
        ("a\n    \n    b", [(P, "a\n    \n"), (P, "    b")]),
        (" \n\t\n", [(P, " \n\t\n")]),
        ("   ", [(P, "   ")]),
        ("", []),
    ],
)
def test_paragraphs_lists_tables_and_fences(text: str, expected: list[tuple[Kind, str]]) -> None:
    assert cut(text) == expected


@settings(deadline=None)
@given(st.text(st.sampled_from("a \n\t|-`~*1.:\x0b\u2028é")))
def test_the_blocks_are_the_text(text: str) -> None:
    assert "".join(part for _, part in cut(text)) == text


@pytest.mark.parametrize(
    "text", ["```a\n" * 100_000, "".join("`" * n + "\n" for n in range(900, 3, -1)), "|" * 500_000, " " * 500_000 + "x"]
)
def test_what_looks_like_something_without_end_takes_no_time(text: str) -> None:
    assert sum(len(part) for _, part in cut(text)) == len(text)
