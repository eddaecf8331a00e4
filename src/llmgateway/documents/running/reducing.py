"""Brings the answers for all parts together: at once where they fit, and as a tree where they do not."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from llmgateway.documents.output import SEPARATOR, split_output
from llmgateway.documents.planning import room, tokens_of
from llmgateway.documents.question import AnswerError, Question
from llmgateway.documents.recipe import Count, Extras, Recipe
from llmgateway.documents.running.questions import Wording, question, wording

# A tree whose levels hardly get shorter would go on for ever.
_LEAST_SHRINK = 0.9
_SEPARATOR_TOKENS = 2
_WORDS_PER_TOKEN = 0.6
_LEAST_WORDS = 20
_ONLY_SOME = (
    "These are only some of the parts: the results are brought together once more. Keep every fact, name, number,"
    " decision and task, in about {} words at most."
)

Reducing = Generator[Sequence[Question], Mapping[str, str], str]


class Sized(Struct, frozen=True):
    """A piece of what is to be brought together."""

    text: str
    tokens: int


def reduced(parts: Sequence[str], recipe: Recipe, extras: Extras, count: Count, *, last: bool) -> Reducing:
    """Bring parts together, in their order; none is left out.

    Args:
        last: Whether the result is the job's, as it comes.

    Raises:
        AnswerError: `answer_too_long`: the model does not make them shorter.
    """
    words = wording(recipe, extras, "reduce")
    space = room(recipe, tokens_of(words, count))
    level, before = 0, 0.0
    pieces = sized(parts, count)
    while (tokens := joined_tokens([piece.tokens for piece in pieces])) > space:
        if level and tokens > before * _LEAST_SHRINK:
            raise AnswerError(
                "model_error",
                "answer_too_long",
                f"The answers for the parts have {tokens} tokens, {space} fit into the model's window at once, and it"
                " does not make them shorter: use a model with a longer window, or `reduce_summary` false.",
            )
        asked = _level(pieces, words, recipe, count, level=level, space=space)
        answers = yield asked
        pieces = sized([answers[each.step] for each in asked], count)
        level, before = level + 1, tokens
    messages = words.messages(SEPARATOR.join(piece.text for piece in pieces))
    final = question(recipe, messages, step=_step(level, 0, pieces), type="reduce", last=last)
    answers = yield (final,)
    return answers[final.step]


def groups(sizes: Sequence[int], space: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of neighbours that fit together; one that is larger alone stands alone."""
    start, filled = 0, 0
    for index, tokens in enumerate(sizes):
        if index > start and filled + _SEPARATOR_TOKENS + tokens > space:
            yield start, index
            start, filled = index, 0
        filled += tokens + (_SEPARATOR_TOKENS if index > start else 0)
    if sizes:
        yield start, len(sizes)


def joined_tokens(sizes: Sequence[int]) -> int:
    """Give the size of parts once they stand together."""
    return sum(sizes) + _SEPARATOR_TOKENS * max(len(sizes) - 1, 0)


def sized(texts: Sequence[str], count: Count) -> list[Sized]:
    """Count each text."""
    return [Sized(text, tokens) for text, tokens in zip(texts, count(texts), strict=True)]


def _level(
    pieces: Sequence[Sized], words: Wording, recipe: Recipe, count: Count, *, level: int, space: int
) -> list[Question]:
    """Ask for each group of neighbours that fits."""
    # The sentence that asks to be short takes room as well.
    fits = max(space - count([_ONLY_SOME])[0] - _SEPARATOR_TOKENS, space // 2, 1)
    small = [part for piece in pieces for part in _pieces(piece, fits, count)]
    ranges = list(groups([part.tokens for part in small], fits))
    target = max(_LEAST_WORDS, int(min(space / max(len(ranges), 2), recipe.max_generation) * _WORDS_PER_TOKEN))
    system = f"{words.system}\n\n{_ONLY_SOME.format(target)}".strip()
    shorter = msgspec.structs.replace(words, system=system)
    return [
        question(
            recipe,
            shorter.messages(SEPARATOR.join(part.text for part in small[start:end])),
            step=_step(level, index, small[start:end]),
            type="reduce",
        )
        for index, (start, end) in enumerate(ranges)
    ]


def _pieces(piece: Sized, space: int, count: Count) -> Iterator[Sized]:
    """Cut what does not fit alone: between turns, then anywhere."""
    if piece.tokens <= space or len(piece.text) == 1:
        yield piece
        return
    turns = sized(split_output(piece.text), count)
    if len(turns) == 1:
        middle = _middle(piece.text)
        for half in sized([piece.text[:middle], piece.text[middle:]], count):
            yield from _pieces(half, space, count)
        return
    for start, end in groups([turn.tokens for turn in turns], space):
        together = turns[start:end]
        if len(together) == 1:
            yield from _pieces(together[0], space, count)
        else:
            tokens = joined_tokens([turn.tokens for turn in together])
            yield Sized("".join(turn.text for turn in together), tokens)


def _middle(text: str) -> int:
    half = len(text) // 2
    space = text.find(" ", half, half + half // 2)
    return half if space == -1 else space + 1


def _step(level: int, index: int, pieces: Sequence[Sized]) -> str:
    digest = sha256("\0".join(piece.text for piece in pieces).encode(errors="replace")).hexdigest()[:12]
    return f"reduce:{level}.{index}:{digest}"
