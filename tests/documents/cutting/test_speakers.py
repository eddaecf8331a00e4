# ruff: noqa: RUF001  the marks and words of all scripts

import pytest

from llmgateway.documents.cutting.speakers import Speakers, is_bare


def named(text: str) -> str | None:
    return Speakers(text).of(text, 0, len(text))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("O'Brien: yes", "O'Brien"),
        ("Dr. X: yes", "Dr. X"),
        ("Иван: да", "Иван"),
        ("田中：はい", "田中"),
        ("田中:はい", "田中"),
        ("أحمد: نعم", "أحمد"),
        ("राम: हाँ", "राम"),
        ("สมชาย: ครับ", "สมชาย"),
        ("김철수: 네", "김철수"),
        ("Իվան: այո", "Իվան"),
        ("Δρ. Νίκος: ναι", "Δρ. Νίκος"),
        ("Jean-Luc d'Artagnan: oui", "Jean-Luc d'Artagnan"),
        ("Mary van der Berg: x", "Mary van der Berg"),
        ("SPEAKER_00: x", "SPEAKER_00"),
        ("Speaker  1: x", "Speaker 1"),
        ("[00:01:02] Anna: x", "Anna"),
        ("00:01:02,345 --> 00:01:03,000 Anna: x", "Anna"),
        ("00:01:02.345 - Anna: x", "Anna"),
        ("12:30 PM | Anna: x", "Anna"),
        ("Anna (00:12): x", "Anna"),
        ("Anna 00:12: x", "Anna"),
        ("**Anna:** x", "Anna"),
        ("**Anna**: x", "Anna"),
        ("  Anna : x", "Anna"),
        ("Anna:", "Anna"),
    ],
)
def test_a_short_label_like_a_name_is_a_speaker(line: str, name: str) -> None:
    assert named(line) == name


@pytest.mark.parametrize(
    "line",
    [
        "At 10:30 we begin",
        "At 10:30: we begin",
        "http://example.org",
        "https://example.org: down",
        "Note: x",
        "NOTE: x",
        "Step 2: go",
        "Hinweis: x",
        "Примечание: x",
        "注意：小心",
        "他说：好",
        "10:30: x",
        "1: x",
        "C:\\Windows: x",
        "He said this. Then: x",
        "The following points matter: x",
        "Yes, Anna: x",
        "no label",
        "# Anna: x",
        "Anna said so and I: x" * 3,
        "Anna\n: x",
        "",
    ],
)
def test_other_colons_name_nobody(line: str) -> None:
    assert named(line) is None
    assert named(f"{line}\n{line}\n") is None


def test_a_label_that_recurs_is_a_speaker_without_capitals() -> None:
    assert named("speaker 1: x") is None
    assert named("speaker 1: x\nspeaker 1: y") == "speaker 1"
    assert named("this is a longer label: x\nthis is a longer label: y") is None


def test_lines_that_name_somebody_are_counted() -> None:
    assert Speakers("Anna: x\nBen: y\nAnna: z\nNote: n\nplain").lines == 3


def test_a_name_may_stand_alone_on_its_line() -> None:
    assert is_bare("Anna: \n", 0, 7)
    assert not is_bare("Anna: hi\n", 0, 9)
    assert not is_bare("Anna\n", 0, 5)
