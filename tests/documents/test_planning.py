from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.planning import plan, reduces, replan, room
from llmgateway.documents.recipe import Batch, Extras, Plan, Recipe
from llmgateway.documents.running.questions import shown, step_of
from llmgateway.errors import DocumentError
from tests.documents.driven import count_words, recipe_of

NOTHING = Extras()
BARE: dict[str, Any] = {"system_prompt": "", "user_prompt": "{{document}}", "reduce_prompt": "{{document}}"}
LINES = "\n".join(f"Ann: sentence {number} is here." for number in range(40))
LONG_TURN = "Ann: " + " ".join(f"Sentence number {number} is quite short." for number in range(60)) + "\n\nBob: Yes."


def planned(text: str, recipe: Recipe, extras: Extras = NOTHING) -> Plan:
    return plan(text, recipe, extras, count_words)


def refused(text: str, recipe: Recipe) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        planned(text, recipe)
    return caught.value


def text_of(text: str, batches: Sequence[Batch]) -> str:
    return "".join(text[batch.start : batch.end] for batch in batches)


def test_a_single_pass_takes_the_document_as_one() -> None:
    made = planned(LINES, recipe_of(processing_mode="single_pass"))

    (batch,) = made.batches
    assert (made.mode, batch.start, batch.end) == ("single_pass", 0, len(LINES))
    assert made.input_tokens == batch.tokens >= 200
    assert made.turns == 40


def test_the_window_is_what_prompts_answer_and_margin_leave() -> None:
    bare = planned(LINES, recipe_of(processing_mode="single_pass", context_length=10_000, **BARE))
    own = planned(
        LINES, recipe_of(processing_mode="single_pass", context_length=10_000, **{**BARE, "system_prompt": "a b c"})
    )
    told = planned(
        LINES, recipe_of(processing_mode="single_pass", context_length=10_000, **BARE), Extras(instructions="a b")
    )

    assert bare.available == 10_000 - 1_000 - 200 - bare.prompt_tokens
    assert own.prompt_tokens == bare.prompt_tokens + 3 + 4  # the words, and what frames a message
    assert told.prompt_tokens == bare.prompt_tokens + 2 + 4
    assert (own.available, told.available) == (bare.available - 7, bare.available - 6)


def test_the_margin_is_never_small() -> None:
    assert room(recipe_of(context_length=1_000, max_generation=100), 100) == 1_000 - 100 - 100 - 64


def test_room_for_earlier_output_is_kept_where_it_is_carried() -> None:
    without = planned(LINES, recipe_of(summary_turns=0, **BARE)).available

    assert planned(LINES, recipe_of(summary_turns=4, **BARE)).available < without - 300
    assert planned(LINES, recipe_of(summary_turns=4, processing_mode="map_reduce", **BARE)).available == without
    tight: dict[str, Any] = {"context_length": 500, "max_generation": 100, **BARE}
    assert (
        planned(LINES, recipe_of(summary_turns=20, **tight)).available
        >= 0.6 * planned(LINES, recipe_of(summary_turns=0, **tight)).available
    )


def test_batches_take_turns_until_they_have_the_most_or_the_window_is_full() -> None:
    many = planned(LINES, recipe_of(max_new_turns=7))
    full = planned(LINES, recipe_of(max_new_turns=50, context_length=300, max_generation=100, **BARE))

    assert [batch.turns for batch in many.batches] == [7, 7, 7, 7, 7, 5]
    assert len(full.batches) > 1
    assert all(batch.tokens <= full.available for batch in full.batches)
    for made in (many, full):
        assert text_of(LINES, made.batches) == LINES
        assert made.input_tokens == sum(batch.tokens for batch in made.batches)


def test_a_document_that_does_not_fit_is_refused_with_the_figures() -> None:
    error = refused(LINES, recipe_of(processing_mode="single_pass", context_length=300, max_generation=100, **BARE))

    assert error.code == "context_exceeded"
    assert error.details is not None
    assert set(error.details) == {"input_tokens", "available", "context_length"}
    assert error.details["context_length"] == 300
    assert error.details["available"] < error.details["input_tokens"]  # type: ignore[operator]
    assert "iterative" in error.message


@pytest.mark.parametrize("mode", ["single_pass", "iterative", "map_reduce"])
def test_prompts_that_leave_no_room_are_refused(mode: str) -> None:
    prompts: dict[str, Any] = {**BARE, "system_prompt": "word " * 400}
    error = refused("short", recipe_of(processing_mode=mode, context_length=500, max_generation=100, **prompts))

    assert (error.code, error.details) == (
        "context_exceeded",
        {"input_tokens": 1, "available": 0, "context_length": 500},
    )
    assert "shorten the prompts" in error.message


def test_a_reduce_prompt_that_leaves_no_room_is_found_before_the_first_call() -> None:
    prompts: dict[str, Any] = {**BARE, "reduce_prompt": "{{document}} " + "word " * 400}

    error = refused("short", recipe_of(reduce_summary=True, context_length=500, max_generation=100, **prompts))

    assert error.code == "context_exceeded"
    planned("short", recipe_of(context_length=500, max_generation=100, **prompts))


def test_a_prompt_that_never_shows_the_document_is_refused() -> None:
    assert refused(LINES, recipe_of(user_prompt="Sum it up.")).code == "prompt_invalid"


@pytest.mark.parametrize("text", ["", " \n\t\u2003"])
def test_an_empty_document_is_refused(text: str) -> None:
    assert refused(text, recipe_of()).code == "empty_input"


def test_the_same_document_is_planned_the_same_way() -> None:
    assert planned(LONG_TURN, recipe_of(create_new_turn_after=20)) == planned(
        LONG_TURN, recipe_of(create_new_turn_after=20)
    )


def test_what_is_brought_together_at_the_end() -> None:
    assert reduces("map_reduce", recipe_of().settings)
    assert reduces("iterative", recipe_of(reduce_summary=True).settings)
    assert not reduces("iterative", recipe_of().settings)
    assert not reduces("single_pass", recipe_of(reduce_summary=True).settings)


def test_a_plan_made_anew_keeps_what_is_done() -> None:
    old = planned(LINES, recipe_of(max_new_turns=10))
    done = {step_of(old.batches[1])}

    new = replan(LINES, old, done, recipe_of(max_new_turns=3), NOTHING, count_words)

    assert old.batches[1] in new.batches
    assert [batch.turns for batch in new.batches] == [3, 3, 3, 1, 10, 3, 3, 3, 3, 3, 3, 2]
    assert text_of(LINES, new.batches) == LINES
    assert new.mode == old.mode


def test_a_plan_of_which_nothing_is_done_is_made_afresh_in_the_other_flavors_mode() -> None:
    old = planned(LINES, recipe_of(max_new_turns=10))

    new = replan(LINES, old, set(), recipe_of(processing_mode="single_pass"), NOTHING, count_words)

    assert (new.mode, len(new.batches)) == ("single_pass", 1)


def test_a_single_pass_that_does_not_fit_any_more_goes_in_batches_where_that_is_allowed() -> None:
    old = planned(LINES, recipe_of(processing_mode="single_pass"))
    small: dict[str, Any] = {"processing_mode": "single_pass", "context_length": 300, "max_generation": 100, **BARE}

    new = replan(LINES, old, set(), recipe_of(**small), NOTHING, count_words)

    assert new.mode == "iterative"
    assert text_of(LINES, new.batches) == LINES
    with pytest.raises(DocumentError, match="processing_mode"):
        replan(LINES, old, set(), recipe_of(auto_fallback_to_iterative=False, **small), NOTHING, count_words)
    for mode in ("single_pass", "iterative"):
        full = recipe_of(**{**small, "processing_mode": mode, "system_prompt": "word " * 400})
        with pytest.raises(DocumentError, match="shorten"):
            replan(LINES, old, set(), full, NOTHING, count_words)


def test_whoever_was_speaking_still_is_when_the_rest_is_cut_anew() -> None:
    old = planned(LONG_TURN, recipe_of(create_new_turn_after=60, max_new_turns=1))
    done = {step_of(old.batches[0])}
    assert old.batches[1].speaker == "Ann"

    new = replan(LONG_TURN, old, done, recipe_of(create_new_turn_after=20, max_new_turns=1), NOTHING, count_words)

    assert len(new.batches) > len(old.batches)
    assert {batch.speaker for batch in new.batches[1:-1]} == {"Ann"}
    assert new.batches[-1].speaker is None
    assert shown(LONG_TURN, new.batches[1]).startswith("Ann (continued): ")
    assert text_of(LONG_TURN, new.batches) == LONG_TURN


def test_a_name_that_is_longer_than_a_piece_is_no_piece_of_its_own() -> None:
    text = "Ann van der Lee: one two three four five six seven eight"
    old = Plan(
        mode="iterative",
        batches=(Batch(0, 27, 6, 1), Batch(27, 56, 5, 1, "Ann van der Lee")),
        input_tokens=11,
        prompt_tokens=0,
        available=9,
    )
    recipe = recipe_of(create_new_turn_after=1, max_new_turns=1, **BARE)

    new = replan(text, old, {step_of(old.batches[0])}, recipe, NOTHING, count_words)

    assert text_of(text, new.batches) == text
    assert new.batches[1].speaker == "Ann van der Lee"
    assert len(new.batches) > 3


@settings(deadline=None)
@given(
    text=st.text(alphabet="ab.: \n", min_size=1, max_size=200).filter(str.strip),
    turns=st.integers(1, 5),
    after=st.integers(1, 5),
    kept=st.sets(st.integers(0, 20)),
    new_after=st.integers(1, 5),
)
def test_no_character_is_lost_or_doubled_by_a_plan_made_anew(
    text: str, turns: int, after: int, kept: set[int], new_after: int
) -> None:
    old = planned(text, recipe_of(create_new_turn_after=after, max_new_turns=turns))
    done = {step_of(batch) for index, batch in enumerate(old.batches) if index in kept}

    new = replan(text, old, done, recipe_of(create_new_turn_after=new_after), NOTHING, count_words)

    assert text_of(text, old.batches) == text_of(text, new.batches) == text
    assert {step_of(batch) for batch in new.batches} >= done


def count_fours(texts: Sequence[str]) -> list[int]:
    return [-(-len(text) // 4) for text in texts]


@pytest.mark.parametrize("blank", [" ", "\n", "\u3000\n \t\n"])
def test_nobody_is_asked_about_white_space_alone(blank: str) -> None:
    gap = blank * 4000
    text = gap + "Ann: One." + gap + "Two.\n\nBob: Three." + gap

    made = plan(text, recipe_of(create_new_turn_after=50, max_new_turns=2), NOTHING, count_fours)

    assert text_of(text, made.batches) == text
    assert sum(shown(text, batch).count("T") for batch in made.batches) == 2
    for batch in made.batches:
        content = shown(text, batch)
        assert content.strip()
        assert count_fours([content])[0] <= made.available
