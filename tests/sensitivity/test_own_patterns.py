import itertools
import time

import pytest

from llmgateway.sensitivity.own_patterns import OwnPatterns, faults


def spans(own: OwnPatterns, text: str) -> list[tuple[str, str]]:
    return [(kind, text[start:end]) for kind, start, end in own.find(text, text.encode())]


def test_right_patterns_have_no_faults() -> None:
    assert faults([r"EMP-\d{6}", r"(?i)acme-[a-z]{2,8}", r"\p{Han}{4}"]) == []
    assert not OwnPatterns([])
    assert OwnPatterns(["a"])


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("EMP-(", "missing"),
        (r"(a)\1", "back-references"),
        ("(?=x)y", "look-around"),
        ("a*", "empty text"),
        ("x" * 1001, "1000 characters"),
        (r"(\pL{30}){30}", "large"),
        ("(.{1,100}){9}z", "at most 5000"),
    ],
)
def test_a_faulty_pattern_is_named_with_its_reason(pattern: str, reason: str) -> None:
    (fault,) = faults(["fine", pattern][1:])
    (second,) = faults(["fine", pattern])

    assert reason in fault
    assert pattern[:20] in fault
    assert second.startswith("pattern 2, ")
    with pytest.raises(ValueError, match="pattern 1"):
        OwnPatterns([pattern])


def test_there_are_not_endlessly_many() -> None:
    assert faults(["a"] * 201) == ["201 patterns; at most 200 are taken"]


def test_places_are_characters_and_not_bytes() -> None:
    own = OwnPatterns([r"EMP-\d{6}"])

    assert spans(own, "日本 EMP-123456 🔑 EMP-654321") == [("custom", "EMP-123456"), ("custom", "EMP-654321")]


def test_a_long_text_is_searched_to_its_end_and_across_windows() -> None:
    own = OwnPatterns([r"EMP-\d{6}", "^begin", "end$"])
    text = "begin" + " " * (16 * 1024 - 9) + "EMP-123456" + " " * 100_000 + "EMP-654321 begin end"

    assert [word for _, word in spans(own, text)] == ["EMP-123456", "EMP-654321", "begin", "end"]


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*?){10}b", r"(\w+\s?)*x$", r"([a-z]+)*[0-9]{20}"])
def test_a_catastrophic_pattern_stays_fast(pattern: str) -> None:
    own = OwnPatterns([pattern + "!!"])
    text = "a" * 50_000 + "!"
    started = time.perf_counter()

    found = spans(own, text)

    assert time.perf_counter() - started < 2
    assert found == [] or found[-1][0] == "unsearched"


def test_a_pattern_that_is_found_everywhere_ends_too() -> None:
    own = OwnPatterns(["a.*?b|a"])
    started = time.perf_counter()

    assert len(spans(own, "a" * 200_000)) <= 1001
    assert time.perf_counter() - started < 2


def test_what_was_not_searched_in_time_is_said() -> None:
    seconds = itertools.count(0.0, 0.03)
    own = OwnPatterns(["zzz"], clock=lambda: next(seconds))

    assert spans(own, "x" * 1_000_000)[-1][0] == "unsearched"
