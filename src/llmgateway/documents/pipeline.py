"""What is asked of the model, in which order, for a whole document: a generator that knows no model, queue or clock."""

from collections.abc import Generator, Mapping, Sequence

from llmgateway.documents.output import SEPARATOR, consolidate, last_turns, split_output
from llmgateway.documents.planning import reduces, room
from llmgateway.documents.question import PassType, Question
from llmgateway.documents.recipe import Count, Extras, Plan, Recipe
from llmgateway.documents.running.answering import Joint, follow_up, resumed, whole
from llmgateway.documents.running.questions import Asked, question, shown, step_of, wording
from llmgateway.documents.running.reducing import reduced
from llmgateway.documents.running.structured import structured
from llmgateway.flavor import Flavor

__all__ = [
    "SEPARATOR",
    "Joint",
    "Pipeline",
    "Wave",
    "final_after",
    "follow_up",
    "pipeline",
    "resumed",
    "step_of",
    "whole",
]

# Questions that may be asked side by side.
Wave = Sequence[Question]
# Yields waves, is sent the whole text for each question's step, and returns the job's result.
Pipeline = Generator[Wave, Mapping[str, str], str]
_Parts = Generator[Wave, Mapping[str, str], list[str]]


def pipeline(text: str, recipe: Recipe, plan: Plan, extras: Extras, count: Count) -> Pipeline:
    """Ask for everything that a plan says.

    Raises:
        AnswerError: The result is not what the flavor promises.
    """
    settings = recipe.settings
    if plan.mode == "map_reduce":
        parts = yield from _side_by_side(text, recipe, plan, extras)
    else:
        parts = yield from _one_by_one(text, recipe, plan, extras, count)
    if reduces(plan.mode, settings):
        parts = [(yield from reduced(parts, recipe, extras, count, last=not _reworked(settings)))]
    if settings.output_type == "json":
        return (yield from structured(parts, recipe, count))
    result = SEPARATOR.join(parts)
    return consolidate(result) if settings.consolidate_summary else result


def final_after(plan: Plan, recipe: Recipe) -> bool:
    """Whether the answer for each batch is the result's own text as soon as it is there.

    The result is then these answers, in the order of the batches, with `SEPARATOR` between them.
    """
    return not reduces(plan.mode, recipe.settings) and not _reworked(recipe.settings)


def _reworked(settings: Flavor) -> bool:
    """Whether the text changes after the last question."""
    return settings.consolidate_summary or settings.output_type == "json"


def _side_by_side(text: str, recipe: Recipe, plan: Plan, extras: Extras) -> _Parts:
    words = wording(recipe, extras, _use(plan))
    wave = tuple(
        question(recipe, words.messages(shown(text, batch)), step=step_of(batch), type="map", batch=index)
        for index, batch in enumerate(plan.batches)
    )
    answers = yield wave
    return [answers[each.step] for each in wave]


def _one_by_one(text: str, recipe: Recipe, plan: Plan, extras: Extras, count: Count) -> _Parts:
    words = wording(recipe, extras, _use(plan))
    most_turns = recipe.settings.summary_turns
    parts: list[str] = []
    turns: list[str] = []
    for index, batch in enumerate(plan.batches):
        document = shown(text, batch)
        taken = plan.prompt_tokens + (count([document])[0] if batch.speaker else batch.tokens)
        asked = question(
            recipe,
            words.messages(document, last_turns(turns, room(recipe, taken), count)),
            step=step_of(batch),
            type=_type(plan, index),
            batch=index,
            last=index == len(plan.batches) - 1 and final_after(plan, recipe),
        )
        parts.append((yield (asked,))[asked.step])
        turns = (turns + split_output(parts[-1].rstrip() + SEPARATOR))[-most_turns:] if most_turns else []
    return parts


def _use(plan: Plan) -> Asked:
    """Tell the model of parts only where there are some."""
    return plan.mode if len(plan.batches) > 1 else "single_pass"


def _type(plan: Plan, index: int) -> PassType:
    if plan.mode == "single_pass":
        return "single_pass"
    return "continuation" if index else "initial"
