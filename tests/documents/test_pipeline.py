from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from llmgateway.documents.pipeline import SEPARATOR, final_after, pipeline
from llmgateway.documents.question import Answer, AnswerError, Question
from llmgateway.documents.recipe import Extras, Plan, Recipe
from llmgateway.flavor import Mode
from tests.documents.driven import (
    Driven,
    Model,
    count_words,
    drive,
    plan_of,
    recipe_of,
    speaking,
    system_of,
    user_of,
)

NOTHING = Extras()
# Words, so that a part of it is found in one question alone.
TEXT = " ".join(f"word{number}" for number in range(60))
FINAL = st.sampled_from(["single_pass", "iterative"])
SETTINGS = st.fixed_dictionaries(
    {
        "reduce_summary": st.booleans(),
        "consolidate_summary": st.booleans(),
        "summary_turns": st.integers(0, 4),
        "output_type": st.sampled_from(["markdown", "text"]),
    }
)


def run(recipe: Recipe, plan: Plan, model: Model, *, text: str = TEXT, done: dict[str, Answer] | None = None) -> Driven:
    return drive(pipeline(text, recipe, plan, NOTHING, count_words), model, done=done)


def by_step(answer: str = "Answer for {}.") -> Callable[[Question], str]:
    return lambda question: answer.format(question.step)


def ends_of(text: str) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, len(text) - 1), unique=True, max_size=6).map(sorted)


def test_a_single_pass_is_one_question_that_is_the_end_of_the_result() -> None:
    driven = run(recipe_of(), plan_of(TEXT, mode="single_pass"), by_step())

    (asked,) = driven.asked
    assert (asked.type, asked.last, asked.batch, asked.step) == ("single_pass", True, 0, f"batch:0-{len(TEXT)}")
    assert TEXT in user_of(asked)
    assert driven.result == f"Answer for {asked.step}."


def test_batches_are_asked_for_one_after_the_other_and_joined_by_a_blank_line() -> None:
    driven = run(recipe_of(), plan_of(TEXT, 100, 200), by_step())

    assert driven.waves == [["batch:0-100"], ["batch:100-200"], [f"batch:200-{len(TEXT)}"]]
    assert [question.type for question in driven.asked] == ["initial", "continuation", "continuation"]
    assert [question.last for question in driven.asked] == [False, False, True]
    assert driven.result == "\n\n".join(f"Answer for {step}." for step in driven.steps)


def test_the_rolling_context_is_turns_of_the_output_not_lines() -> None:
    answers = iter(["- one\n  still one\n- two", "- three\n- four\n  still four", "five\nstill five\n\nsix", "end"])

    driven = run(recipe_of(summary_turns=3), plan_of(TEXT, 100, 200, 300), lambda _: next(answers))

    previous = [user_of(question).partition("</previous>")[0] for question in driven.asked]
    assert "<previous>" not in previous[0]
    assert previous[1] == "<previous>\n\n- one\n  still one\n- two\n\n"
    assert previous[2] == "<previous>\n\n- two\n\n- three\n- four\n  still four\n\n"
    assert previous[3] == "<previous>\n\n- four\n  still four\n\nfive\nstill five\n\nsix\n\n"


def test_no_turns_are_shown_where_none_are_wanted() -> None:
    driven = run(recipe_of(summary_turns=0), plan_of(TEXT, 100), by_step())

    assert not any("<previous>" in user_of(question) + system_of(question) for question in driven.asked)


def test_turns_that_are_longer_than_the_room_are_shown_by_their_end() -> None:
    plan = structs.replace(plan_of(TEXT, 100, prompt_tokens=0), available=100)
    recipe = recipe_of(context_length=400, max_generation=200)

    driven = run(recipe, plan, lambda _: "early " * 500 + "late")

    document = driven.asked[1]
    previous = user_of(document).partition("</previous>")[0].split()
    assert previous[-1] == "late"
    assert 20 < len(previous) <= 136 - plan.batches[1].tokens + 1


def test_a_batch_in_the_middle_of_a_turn_says_who_speaks_in_the_question_alone() -> None:
    plan = speaking(plan_of(TEXT, 100), 1, "Ann")

    driven = run(recipe_of(), plan, by_step("said"))

    assert f"Ann (continued): {TEXT[100:]}" in user_of(driven.asked[1])
    assert "continued" not in driven.result + user_of(driven.asked[0])


def test_a_map_is_one_wave_in_the_order_of_the_document_and_then_a_reduce() -> None:
    plan = plan_of(TEXT, 100, 200, mode="map_reduce")

    driven = run(recipe_of(), plan, by_step())

    assert driven.waves[0] == ["batch:0-100", "batch:100-200", f"batch:200-{len(TEXT)}"]
    assert [question.type for question in driven.asked] == ["map", "map", "map", "reduce"]
    assert [question.last for question in driven.asked] == [False, False, False, True]
    assert "\n\n".join(f"Answer for {step}." for step in driven.waves[0]) in user_of(driven.asked[-1])
    assert driven.result == f"Answer for {driven.asked[-1].step}."


def test_a_reduce_follows_batches_where_it_is_wanted_even_of_one() -> None:
    settings = recipe_of(reduce_summary=True)

    assert len(run(settings, plan_of(TEXT, 100), by_step()).asked) == 3
    assert len(run(settings, plan_of(TEXT), by_step()).asked) == 2
    assert len(run(settings, plan_of(TEXT, mode="single_pass"), by_step()).asked) == 1


def test_consecutive_turns_of_a_speaker_are_merged_without_a_model() -> None:
    answers = iter(["Ann: one.", "Ann: two.\n\nBob: three."])

    driven = run(recipe_of(consolidate_summary=True), plan_of(TEXT, 100), lambda _: next(answers))

    assert driven.result == "Ann: one. two.\n\nBob: three."
    assert not any(question.last for question in driven.asked)


def test_output_stays_as_the_model_wrote_it() -> None:
    text = "# Minutes\n\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\n\n\nx = {}\n```\n\n  end  "

    driven = run(recipe_of(), plan_of(TEXT, mode="single_pass"), lambda _: text)

    assert driven.result == text


def test_pitfall_114_a_batch_that_was_cut_off_is_whole_in_the_result() -> None:
    def model(question: Question) -> Answer | str:
        if question.step == "batch:200-300":
            return Answer(text="Third, first ha", finish_reason="length")
        return "lf and second half." if "+1" in question.step else f"Answer for {question.step}."

    driven = run(recipe_of(), plan_of(TEXT, 100, 200, 300), model)

    assert driven.steps == [
        "batch:0-100",
        "batch:100-200",
        "batch:200-300",
        "batch:200-300+1",
        f"batch:300-{len(TEXT)}",
    ]
    assert "\n\nThird, first half and second half.\n\n" in driven.result
    assert "Third, first half and second half." in user_of(driven.asked[-1])


def test_pitfall_114_a_batch_without_an_end_fails_the_job() -> None:
    def model(question: Question) -> Answer | str:
        return Answer(text="on and ", finish_reason="length") if "100" in question.step else "fine"

    with pytest.raises(AnswerError, match="no end"):
        run(recipe_of(), plan_of(TEXT, 50, 100, 200), model)


def test_json_is_put_together_from_parts_and_never_shown_before() -> None:
    answers = iter(['{"items": [1], "title": null}', '```json\n{"items": [2], "title": "T"}\n```'])

    driven = run(recipe_of(output_type="json"), plan_of(TEXT, 100), lambda _: next(answers))

    assert driven.result == '{\n  "items": [\n    1,\n    2\n  ],\n  "title": "T"\n}'
    assert [(question.last, question.schema) for question in driven.asked] == [(False, {}), (False, {})]


def test_prompts_and_documents_with_braces_are_plain_text() -> None:
    text = "{{previous}} {} {{document}} %s {0} {{language}}"
    recipe = recipe_of(system_prompt="S", user_prompt="{}|{}")

    driven = run(recipe, plan_of(text, 20), lambda _: "{{document}} {} %d", text=text)

    assert user_of(driven.asked[0]) == f"|{text[:20]}"
    assert user_of(driven.asked[1]) == f"{{{{document}}}} {{}} %d|{text[20:]}"


@settings(deadline=None)
@given(ends=ends_of(TEXT), mode=st.sampled_from(["iterative", "map_reduce"]))
def test_each_batch_is_in_exactly_one_question(ends: list[int], mode: Mode) -> None:
    recipe = recipe_of(user_prompt="[{{document}}]", system_prompt="", reduce_prompt="({{document}})", summary_turns=0)

    driven = run(recipe, plan_of(TEXT, *ends, mode=mode), by_step())

    batches = [user_of(question)[1:-1] for question in driven.asked if question.batch is not None]
    assert "".join(batches) == TEXT
    assert [question.batch for question in driven.asked][: len(ends) + 1] == list(range(len(ends) + 1))


@settings(deadline=None)
@given(
    ends=ends_of(TEXT),
    mode=st.sampled_from(["iterative", "map_reduce"]),
    settings=SETTINGS,
    cut_off=st.sets(st.integers(0, 8)),
    kept=st.integers(0, 20),
)
def test_whoever_goes_on_asks_for_exactly_the_rest(
    ends: list[int], mode: Mode, settings: dict[str, Any], cut_off: set[int], kept: int
) -> None:
    recipe, plan = recipe_of(**settings), plan_of(TEXT, *ends, mode=mode)

    def model(question: Question) -> Answer:
        is_cut = question.batch in cut_off and "+" not in question.step
        return Answer(text=f"Said for {question.step}. ", finish_reason="length" if is_cut else "stop")

    whole = run(recipe, plan, model)
    done = {step: whole.answers[step] for step in whole.steps[:kept]}
    rest = run(recipe, plan, model, done=done)

    assert rest.steps == whole.steps[kept:]
    assert rest.result == whole.result
    assert len(set(whole.steps)) == len(whole.steps)
    assert [structs.asdict(a) for a in rest.asked] == [structs.asdict(a) for a in whole.asked[kept:]]


@settings(deadline=None)
@given(
    ends=ends_of(TEXT), mode=FINAL, settings=SETTINGS, said=st.lists(st.text(alphabet="a \n", min_size=1), min_size=7)
)
def test_what_is_final_is_the_result_piece_by_piece(
    ends: list[int], mode: Mode, settings: dict[str, Any], said: list[str]
) -> None:
    plan = plan_of(TEXT, *(ends if mode == "iterative" else []), mode=mode)
    recipe = recipe_of(**settings)
    answers = iter(said)

    driven = run(recipe, plan, lambda _: f"x{next(answers)}y")

    assert [question.last for question in driven.questions].count(True) <= 1
    if final_after(plan, recipe):
        texts = [f"x{text}y" for text in said[: len(driven.asked)]]
        assert driven.result == SEPARATOR.join(texts)
        assert driven.asked[-1].last
