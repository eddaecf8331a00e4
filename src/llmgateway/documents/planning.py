"""Plans what will be asked about a document before anything is: how it is cut, and whether it fits."""

from collections.abc import Collection, Sequence
from itertools import groupby

import msgspec

from llmgateway.documents import prompts
from llmgateway.documents.cutting.batches import cut
from llmgateway.documents.recipe import Batch, Count, Extras, Plan, Recipe
from llmgateway.documents.running.questions import Asked, Wording, step_of, wording
from llmgateway.errors import DocumentError
from llmgateway.flavor import Flavor, Mode

# Tokenizers differ, providers frame messages in their own ways, and a part may begin with its speaker's name.
_MARGIN_SHARE, _LEAST_MARGIN = 50, 64
# What frames a message (OpenAI Cookbook: How to count tokens with tiktoken).
_FRAME_TOKENS = 4
# A long paragraph; no more than a quarter of the window is kept for turns of the output.
_TURN_TOKENS, _CARRIED_SHARE = 150, 4
# With less there would be a call for every few words, or a tree that never gets narrower.
_LEAST_ROOM, _LEAST_REDUCE_ROOM = 16, 128
_ENDLESS = 1 << 40


def plan(text: str, recipe: Recipe, extras: Extras, count: Count) -> Plan:
    """Plan a whole document.

    Raises:
        DocumentError: `empty_input`, `prompt_invalid`, or `context_exceeded`: it does not fit into the model's window,
            or the prompts leave no room in it.
    """
    if not text.strip():
        raise DocumentError("The document is empty: there is nothing to work on.", code="empty_input")
    return _planned(text, recipe, extras, count, recipe.settings.processing_mode)


def replan(  # noqa: PLR0917  as `plan`, with what there is before
    text: str, old: Plan, done: Collection[str], recipe: Recipe, extras: Extras, count: Count
) -> Plan:
    """Plan the rest anew for another flavor: batches that are done stay as they are.

    Args:
        done: Steps that are answered to their end.

    Raises:
        DocumentError: As `plan`.
    """
    if not any(step_of(batch) in done for batch in old.batches):
        return _afresh(text, recipe, extras, count)
    window = _window(text, recipe, extras, count, old.mode)
    batches: list[Batch] = []
    for is_done, together in groupby(old.batches, lambda batch: step_of(batch) in done):
        run = list(together)
        batches += run if is_done else _cut_anew(text, run, recipe.settings, window.available, count)
    return msgspec.structs.replace(window, batches=tuple(batches), input_tokens=sum(batch.tokens for batch in batches))


def reduces(mode: Mode, settings: Flavor) -> bool:
    """Whether the answers are brought together at the end; one call for the whole document has nothing to."""
    return mode == "map_reduce" or (mode == "iterative" and settings.reduce_summary)


def room(recipe: Recipe, prompt_tokens: int) -> int:
    """Give the tokens that are left in the window beside prompts and answer."""
    margin = max(_LEAST_MARGIN, recipe.context_length // _MARGIN_SHARE)
    return recipe.context_length - recipe.max_generation - prompt_tokens - margin


def tokens_of(words: Wording, count: Count) -> int:
    """Count the prompts around a part."""
    messages = words.messages("")
    return sum(count([message["content"] for message in messages])) + _FRAME_TOKENS * (len(messages) + 1)


def _afresh(text: str, recipe: Recipe, extras: Extras, count: Count) -> Plan:
    settings = recipe.settings
    try:
        return _planned(text, recipe, extras, count, settings.processing_mode)
    except DocumentError as error:
        if error.code != "context_exceeded" or settings.processing_mode != "single_pass":
            raise
        if not settings.auto_fallback_to_iterative:
            raise
        return _planned(text, recipe, extras, count, "iterative")


def _planned(text: str, recipe: Recipe, extras: Extras, count: Count, mode: Mode) -> Plan:
    window = _window(text, recipe, extras, count, mode)
    if mode == "single_pass":
        batch = _in_one(text, count)
        if batch.tokens > window.available:
            raise _too_long(recipe, batch.tokens, window.available)
        batches: Sequence[Batch] = (batch,)
    else:
        batches = _cut(text, recipe.settings, window.available, count)
    return msgspec.structs.replace(window, batches=tuple(batches), input_tokens=sum(batch.tokens for batch in batches))


def _window(text: str, recipe: Recipe, extras: Extras, count: Count, mode: Mode) -> Plan:
    """Give a plan without batches: what the prompts take, and what they leave."""
    prompt_tokens, left = _left(recipe, extras, count, mode)
    if mode == "iterative":
        left -= min(recipe.settings.summary_turns * _TURN_TOKENS, max(left, 0) // _CARRIED_SHARE)
    if left < _LEAST_ROOM:
        raise _no_room(recipe, count([text])[0], left)
    if reduces(mode, recipe.settings):
        _, left_to_reduce = _left(recipe, extras, count, "reduce")
        if left_to_reduce < _LEAST_REDUCE_ROOM:
            raise _no_room(recipe, count([text])[0], left_to_reduce)
    return Plan(mode=mode, batches=(), input_tokens=0, prompt_tokens=prompt_tokens, available=left)


def _left(recipe: Recipe, extras: Extras, count: Count, use: Asked) -> tuple[int, int]:
    words = wording(recipe, extras, use)
    if "document" not in prompts.names_in(words.user):
        prompts.check(words.user, use)
    prompt_tokens = tokens_of(words, count)
    return prompt_tokens, room(recipe, prompt_tokens)


def _cut(text: str, settings: Flavor, available: int, count: Count) -> Sequence[Batch]:
    batches = cut(
        text,
        create_new_turn_after=settings.create_new_turn_after,
        max_new_turns=settings.max_new_turns,
        available=available,
        count=count,
    )
    return _without_blank_ones(text, batches)


def _without_blank_ones(text: str, batches: Sequence[Batch]) -> Sequence[Batch]:
    """Put white space that would be batches of its own at the end of others: nobody can say anything about it."""
    kept: list[Batch] = []
    for batch in batches:
        if text[batch.start : batch.end].strip():
            kept.append(batch if kept else msgspec.structs.replace(batch, start=batches[0].start))
        elif kept:
            kept[-1] = msgspec.structs.replace(kept[-1], end=batch.end)
    return kept or batches


def _in_one(text: str, count: Count) -> Batch:
    batches = cut(text, create_new_turn_after=_ENDLESS, max_new_turns=None, available=_ENDLESS, count=count)
    return Batch(
        start=0,
        end=len(text),
        tokens=sum(batch.tokens for batch in batches),
        turns=sum(batch.turns for batch in batches),
    )


def _cut_anew(text: str, run: Sequence[Batch], settings: Flavor, available: int, count: Count) -> list[Batch]:
    """Cut a run of batches again; whoever was speaking at its beginning still is."""
    start, end, speaker = run[0].start, run[-1].end, run[0].speaker
    # With the name before it, the rest of a turn is cut like a turn of its own.
    label = f"{speaker}: " if speaker else ""
    batches: list[Batch] = []
    for batch in _cut(label + text[start:end], settings, available, count):
        first, after = (max(0, at - len(label)) + start for at in (batch.start, batch.end))
        if first < after:
            said_by = speaker if first == start else batch.speaker
            batches.append(msgspec.structs.replace(batch, start=first, end=after, speaker=said_by))
    return batches


def _too_long(recipe: Recipe, input_tokens: int, available: int) -> DocumentError:
    return _exceeded(
        f"The document has {input_tokens} tokens, and {available} fit into the model's window of"
        f" {recipe.context_length}: use a flavor with `processing_mode` iterative, or a model with a longer window.",
        recipe,
        input_tokens,
        available,
    )


def _no_room(recipe: Recipe, input_tokens: int, available: int) -> DocumentError:
    return _exceeded(
        f"The prompts and {recipe.max_generation} tokens for the answer leave no room for a document in the model's"
        f" window of {recipe.context_length} tokens: shorten the prompts, or choose a model with a longer window.",
        recipe,
        input_tokens,
        max(available, 0),
    )


def _exceeded(message: str, recipe: Recipe, input_tokens: int, available: int) -> DocumentError:
    return DocumentError(
        message,
        code="context_exceeded",
        details={"input_tokens": input_tokens, "available": available, "context_length": recipe.context_length},
    )
