# ruff: noqa: RUF001  the marks of other scripts are what is tested
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.upstream.demo_summary import MAX_SENTENCE_CHARS, MAX_SENTENCES, split_sentences, summarize, terms

STORY = """
The council met on Tuesday to decide about the old bridge. It rained. The bridge was built in 1897 and has not been
repaired since the flood of 1963. Mr. Baker, who has lived by the river all his life, said good morning to everybody.
An engineer explained that the bridge can carry no lorries until its two pillars are repaired. Somebody opened a
window. Repairing the pillars would cost four million, a new bridge eleven million. Coffee was served at ten.
The council decided by nine votes to three to repair the pillars of the bridge and to close it to lorries until then.
The meeting ended at noon. Most members went for lunch. The soup was good.
"""


def test_a_summary_takes_the_sentences_that_carry_the_text_in_their_order() -> None:
    summary = summarize(STORY)

    assert "bridge" in summary
    assert "soup" not in summary
    assert "window" not in summary
    picked = list(split_sentences(summary))
    order = [list(split_sentences(STORY)).index(sentence) for sentence in picked]
    assert order == sorted(order)
    assert len(picked) == 2


def test_a_summary_of_a_long_text_has_five_sentences() -> None:
    text = " ".join(f"Sentence {number} speaks of ship {number % 7} and harbour {number % 5}." for number in range(400))

    assert len(list(split_sentences(summarize(text)))) == MAX_SENTENCES


def test_a_sentence_said_twice_is_given_once() -> None:
    assert summarize("The ship sank. " * 100) == "The ship sank."


def test_nothing_in_nothing_out() -> None:
    assert summarize(" \n\n ") == ""


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("She said “no.” He left.", ["She said “no.”", "He left."]),
        ("Dr. Li met J. R. at 3.14 p.m. today. Then?", ["Dr. Li met J. R. at 3.14 p.m. today.", "Then?"]),
        ("Das ist z.B. so. Ach so.", ["Das ist z.B. so.", "Ach so."]),
        ("Он ушёл. Она осталась!", ["Он ушёл.", "Она осталась!"]),
        ("今日は晴れです。「本当？」明日は雨！", ["今日は晴れです。", "「本当？」", "明日は雨！"]),
        ("我们去了。他没有去", ["我们去了。", "他没有去"]),
        ("नमस्ते दुनिया। आप कैसे हैं? ठीक॥", ["नमस्ते दुनिया।", "आप कैसे हैं?", "ठीक॥"]),
        ("هل أنت بخير؟ نعم، شكرا. وأنت؟", ["هل أنت بخير؟", "نعم، شكرا.", "وأنت؟"]),
        ("یہ پہلا ہے۔ یہ دوسرا ہے۔", ["یہ پہلا ہے۔", "یہ دوسرا ہے۔"]),
        ("Բարեւ։ Ինչպես ես։", ["Բարեւ։", "Ինչպես ես։"]),
        ("ሰላም። እንዴት ነህ።", ["ሰላም።", "እንዴት ነህ።"]),
        ("안녕하세요. 반갑습니다!", ["안녕하세요.", "반갑습니다!"]),
        ("A heading\n\nA text\nof two lines.", ["A heading", "A text of two lines."]),
    ],
)  # fmt: skip
def test_pitfall_116_sentences_end_where_their_script_ends_them(text: str, sentences: list[str]) -> None:
    assert list(split_sentences(text)) == sentences


def test_pitfall_115_a_text_without_marks_is_cut_by_length_at_a_space_and_nothing_is_lost() -> None:
    thai = " ".join(["ภาษาไทยไม่มีเครื่องหมายจบประโยค"] * 40)

    sentences = list(split_sentences(thai))

    assert max(map(len, sentences)) <= MAX_SENTENCE_CHARS
    assert " ".join(sentences) == thai


def test_a_cut_never_parts_a_letter_from_its_accent() -> None:
    sentences = list(split_sentences("e\u0301" * 1001))

    assert not any(sentence.startswith("\u0301") for sentence in sentences)
    assert "".join(sentences) == "e\u0301" * 1001


@given(st.text())
def test_every_character_that_is_not_space_is_in_some_sentence(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@given(st.text(max_size=2000))
def test_a_summary_is_the_same_every_time_and_says_nothing_new(text: str) -> None:
    summary = summarize(text)

    assert summary == summarize(text)
    assert set(summary.split()) <= {word for sentence in split_sentences(text) for word in sentence.split()}


def test_scripts_without_spaces_are_counted_by_pairs_of_characters() -> None:
    assert list(terms("東京都 A3東京 猫 Größe, größe")) == ["東京", "京都", "a3", "東京", "猫", "grösse", "grösse"]
    assert list(terms("हिन्दी में")) == ["हिन्दी", "में"]


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"w{n % 7}{n % 977}{'. ' if n % 12 == 0 else ' '}" for n in range(150_000)),
        "".join(chr(0x4E00 + n * 7919 % 4096) + ("。" if n % 20 == 0 else "") for n in range(320_000)),
        "a" * 1_000_000,
        "!" * 999_999 + "x",
        '."' * 500_000 + "x",
        ("\n" + " " * 999) * 1000,
        "A. " * 333_000,
        "e" + "\u0301" * 500_000,
    ],
    ids=["words", "ideographs", "one word", "marks", "quotes", "spaces", "abbreviations", "accents"],
)
def test_a_megabyte_of_any_text_takes_about_a_second_at_most(text: str) -> None:
    started = time.process_time()

    summarize(text)

    # 0.6 s at most on a quiet machine, four times that under coverage; this is to find what takes minutes.
    assert time.process_time() - started < (8 if "coverage" in sys.modules else 2)
