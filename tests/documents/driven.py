"""Given: a pipeline that is asked as a job asks it, and a model that says what it was told to."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct, structs

from llmgateway.documents.pipeline import Pipeline, follow_up, whole
from llmgateway.documents.question import Answer, Question
from llmgateway.documents.recipe import Batch, Plan, Recipe
from llmgateway.flavor import Flavor, Mode

Model = Callable[[Question], Answer | str]


class Driven(Struct, kw_only=True):
    """What a pipeline asked for, and what came of it.

    Args:
        waves: The steps that were asked for side by side.
        asked: Every question that the model was asked, follow-ups as well.
        answers: What it said, by step.
        shown: The text of questions for batches, in their order, then of the last one.
    """

    result: str = ""
    waves: list[list[str]]
    asked: list[Question]
    answers: dict[str, Answer]
    questions: list[Question]

    @property
    def steps(self) -> list[str]:
        return [question.step for question in self.asked]


def drive(pipeline: Pipeline, model: Model, *, done: Mapping[str, Answer] | None = None) -> Driven:
    """Run a pipeline to its end; what is `done` is not asked again."""
    driven = Driven(waves=[], asked=[], answers=dict(done or {}), questions=[])
    try:
        wave = next(pipeline)
        while True:
            driven.waves.append([question.step for question in wave])
            driven.questions += wave
            wave = pipeline.send({question.step: _text(question, model, driven) for question in wave})
    except StopIteration as ended:
        driven.result = ended.value
    return driven


def _text(question: Question, model: Model, driven: Driven) -> str:
    answers: list[Answer] = []
    next_one: Question | None = question
    while next_one is not None:
        if next_one.step not in driven.answers:
            said = model(next_one)
            driven.answers[next_one.step] = Answer(text=said) if isinstance(said, str) else said
            driven.asked.append(next_one)
        answers.append(driven.answers[next_one.step])
        next_one = follow_up(question, answers)
    return whole(question, answers)


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def count_chars(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def recipe_of(*, context_length: int = 100_000, max_generation: int = 1_000, **settings: Any) -> Recipe:
    flavor = Flavor(**{"model": "chat", **settings})
    return Recipe(
        flavor_id="f",
        flavor_name="flavor",
        settings=flavor,
        model="chat",
        context_length=context_length,
        max_generation=max_generation,
    )


def plan_of(text: str, *ends: int, mode: Mode = "iterative", prompt_tokens: int = 100) -> Plan:
    """Cut a text at these places."""
    places = [0, *ends, len(text)]
    batches = tuple(Batch(start, end, len(text[start:end].split()), 1) for start, end in pairwise(places))
    return Plan(
        mode=mode, batches=batches, input_tokens=len(text.split()), prompt_tokens=prompt_tokens, available=10_000
    )


def speaking(plan: Plan, index: int, speaker: str) -> Plan:
    """Let a batch begin in the middle of what somebody says."""
    batches = list(plan.batches)
    batches[index] = structs.replace(batches[index], speaker=speaker)
    return structs.replace(plan, batches=tuple(batches))


def system_of(question: Question) -> str:
    return "\n".join(message["content"] for message in question.messages if message["role"] == "system")


def user_of(question: Question) -> str:
    return "\n".join(message["content"] for message in question.messages if message["role"] == "user")
