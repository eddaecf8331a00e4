from itertools import count as numbers
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.question import AnswerError, Question
from llmgateway.documents.recipe import Extras, Recipe
from llmgateway.documents.running.reducing import groups, joined_tokens, reduced
from tests.documents.driven import Driven, Model, count_chars, count_words, drive, recipe_of, system_of, user_of

NOTHING = Extras()
BARE: dict[str, Any] = {"system_prompt": "", "reduce_prompt": "[{{document}}]"}


def run(parts: list[str], recipe: Recipe, model: Model, *, last: bool = True, chars: bool = False) -> Driven:
    return drive(reduced(parts, recipe, NOTHING, count_chars if chars else count_words, last=last), model)


def small(room_tokens: int) -> Recipe:
    """Leaves as much room beside prompts, answer and margin."""
    return recipe_of(context_length=room_tokens + 64 + 10 + 9, max_generation=10, **BARE)


def test_what_fits_is_brought_together_at_once() -> None:
    driven = run(["one", "two {}", "three"], recipe_of(**BARE), lambda _: "all")

    (asked,) = driven.asked
    assert (asked.type, asked.last, asked.batch) == ("reduce", True, None)
    assert user_of(asked) == "[one\n\ntwo {}\n\nthree]"
    assert driven.result == "all"


def test_where_more_follows_the_answer_is_not_the_last() -> None:
    driven = run(["one", "two"], recipe_of(**BARE), lambda _: "all", last=False)

    assert not driven.asked[-1].last


def test_what_does_not_fit_is_brought_together_as_a_tree() -> None:
    parts = [f"part{number} " + "word " * 39 for number in range(12)]

    driven = run(parts, small(200), lambda question: f"sum of {question.step}")

    waves = [len(wave) for wave in driven.waves]
    assert waves[0] >= 3
    assert waves[-1] == 1
    assert [question.last for question in driven.asked] == [False] * (sum(waves) - 1) + [True]
    first = "\n".join(user_of(question) for question in driven.asked[: waves[0]])
    assert all(f"part{number} " in first for number in range(12))
    assert "words at most" in system_of(driven.asked[0])
    assert system_of(driven.asked[-1]) == ""
    assert all(f"sum of {step}" in user_of(driven.asked[-1]) for step in driven.waves[-2])


def test_a_part_that_is_longer_than_the_window_is_cut_between_its_turns() -> None:
    turns = [f"- item{number} " + "word " * 20 for number in range(30)]

    driven = run(["\n".join(turns)], small(200), lambda _: "short")

    asked = [user_of(question) for question in driven.asked[:-1]]
    assert len(asked) > 1
    for number in range(30):
        assert sum(f"- item{number} " + "word " * 19 in text for text in asked) == 1


def test_turns_that_are_longer_than_the_window_are_cut_anywhere() -> None:
    text = "short one\n\n" + "word " * 300 + "\n\nshort two\n\nshort three"

    driven = run([text], small(200), lambda _: "short")

    asked = " ".join(user_of(question)[1:-1] for question in driven.asked[: len(driven.waves[0])])
    assert asked.split() == text.split()
    assert all(count_words([user_of(question)])[0] <= 200 for question in driven.asked)


def test_equal_parts_are_asked_for_each() -> None:
    driven = run(["word " * 150] * 4, small(200), lambda _: "short")

    assert len(set(driven.steps)) == len(driven.steps) == 5


def test_another_input_is_another_step() -> None:
    one = run(["one"], recipe_of(**BARE), lambda _: "x")
    two = run(["two"], recipe_of(**BARE), lambda _: "x")

    assert one.steps != two.steps
    assert one.steps == run(["one"], recipe_of(**BARE), lambda _: "y").steps


def test_a_model_that_makes_nothing_shorter_is_a_failure_not_a_loop_and_not_a_part_left_out() -> None:
    with pytest.raises(AnswerError) as caught:
        run(["word " * 150] * 4, small(200), lambda _: "word " * 160)

    assert (caught.value.kind, caught.value.code) == ("model_error", "answer_too_long")
    assert "word word" not in caught.value.message


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=12),
    room_tokens=st.integers(60, 300),
    share=st.floats(0.05, 0.6),
)
def test_the_tree_ends_and_leaves_nothing_out(sizes: list[int], room_tokens: int, share: float) -> None:
    marks = numbers()
    parts = ["".join(chr(0x4E00 + next(marks)) for _ in range(size)) for size in sizes]

    def model(question: Question) -> str:
        text = user_of(question)[1:-1]
        return text[: max(1, int(len(text) * share))]

    driven = run(parts, small(room_tokens), model, chars=True)

    first = "".join(user_of(question) for question in driven.asked[: len(driven.waves[0])])
    assert [char for char in first if char >= "\u4e00"] == list("".join(parts))
    assert driven.waves[-1] == driven.steps[-1:]
    # Below, the ends that a wave's answers have are all asked about in the next one.
    for wave, after in zip(driven.waves, driven.waves[1:], strict=False):
        asked_after = "".join(user_of(question) for question in driven.asked if question.step in after)
        assert all(char in asked_after for step in wave for char in driven.answers[step].text.strip())


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 50), max_size=30), space=st.integers(1, 80))
def test_groups_are_neighbours_that_fit(sizes: list[int], space: int) -> None:
    ranges = list(groups(sizes, space))

    assert [index for start, end in ranges for index in range(start, end)] == list(range(len(sizes)))
    assert all(end - start == 1 or joined_tokens(sizes[start:end]) <= space for start, end in ranges)
