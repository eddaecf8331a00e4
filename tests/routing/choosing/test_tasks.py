import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmgateway.errors import InvalidRequestError
from llmgateway.routing.choosing.tasks import ANY_TASK, TASKS, guessed, task_of
from tests.timing import relative_cost

Prompts = Mapping[str, Sequence[str]]
_PROMPTS = yaml.safe_load(Path(__file__).with_name("prompts.yaml").read_text(encoding="utf-8"))
TUNED: Prompts = _PROMPTS["tuned"]
HELD_OUT: Prompts = _PROMPTS["held_out"]
LONG = "The committee met again on the question of who pays for the bridge. " * 40


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hello"}], **fields}).encode()


def accuracy(prompts: Prompts) -> float:
    guesses = [guessed(prompt) == task for task, those in prompts.items() for prompt in those]
    return sum(guesses) / len(guesses)


def test_the_corpus_is_large_and_no_prompt_is_in_both_parts() -> None:
    tuned = {prompt for those in TUNED.values() for prompt in those}
    held_out = {prompt for those in HELD_OUT.values() for prompt in those}

    assert len(tuned) >= 180
    assert len(held_out) >= 110
    assert not tuned & held_out
    assert set(TUNED) == set(HELD_OUT) == set(TASKS)


@pytest.mark.parametrize("prompts", [TUNED, HELD_OUT], ids=["tuned", "held out"])
def test_nine_of_ten_prompts_are_told_for_what_they_are(prompts: Prompts) -> None:
    assert accuracy(prompts) >= 0.9


@pytest.mark.parametrize("task", TASKS)
def test_no_task_is_only_found_where_its_rules_were_made(task: str) -> None:
    assert accuracy({task: HELD_OUT[task]}) >= 0.75


def test_instructions_below_a_long_text_are_found() -> None:
    assert guessed(LONG + "\n\nSummarize the above in two sentences.") == "summarization"
    assert guessed("Translate into German: " + LONG) == "translation"


def test_a_system_message_counts_where_the_question_says_little() -> None:
    system = "You are a translation engine. Translate whatever you are given into German."

    assert guessed("The house is green.", system) == "translation"
    assert guessed("Where is the station?", system) == "translation"
    assert guessed("Write a Python function that adds two numbers.", system) == "code"
    assert guessed("The house is green.", "You are a helpful assistant.") == ANY_TASK


@pytest.mark.parametrize("text", ["", " ", "\n", "?", "```", "💥" * 500, "how " * 500, "\x00", "list all " * 300])
def test_any_text_has_some_task(text: str) -> None:
    assert guessed(text, text) in TASKS


def test_a_task_that_is_given_is_taken() -> None:
    given = body(metadata={"task_type": "code"})

    assert task_of(given) == "code"
    assert task_of(given, "translation") == "translation"
    assert task_of(body(), "legal", ["legal"]) == "legal"
    assert task_of(body()) == ANY_TASK


def test_without_one_it_is_guessed_from_the_body() -> None:
    messages = [{"role": "system", "content": "Answer in French."}, {"role": "user", "content": "Summarize this: …"}]

    assert task_of(body(messages=messages)) == "summarization"
    assert (
        task_of(json.dumps({"model": "auto", "prompt": "What is the capital of Peru?"}).encode())
        == "question_answering"
    )
    assert task_of(b"broken") == ANY_TASK


@pytest.mark.parametrize(
    ("given", "named", "param"),
    [
        (body(), "Code", "X-Task-Type"),
        (body(metadata={"task_type": "code"}), "", "X-Task-Type"),
        (body(metadata={"task_type": "poetry"}), None, "metadata.task_type"),
        (body(metadata={"task_type": 7}), None, "metadata.task_type"),
        (body(metadata={"task_type": ["code"]}), None, "metadata.task_type"),
    ],
)
def test_a_task_that_nobody_knows_is_refused_with_those_that_are(given: bytes, named: str | None, param: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"text_generation, summarization, .*, legal") as caught:
        task_of(given, named, ["legal", "code"])

    assert (caught.value.param, caught.value.status) == (param, 400)


def test_the_error_quotes_little_of_a_long_name() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        task_of(body(), "x" * 10_000)

    assert len(caught.value.message) < 400


@pytest.mark.alone
def test_a_guess_costs_microseconds_however_long_the_text() -> None:
    assert relative_cost(lambda: guessed("How many moons does Jupiter have?"), number=1000) < 2
    assert relative_cost(lambda: guessed(LONG, LONG), number=500) < 10
    assert relative_cost(lambda: guessed("how to list all " * 1000, LONG), number=100) < 100
