"""Puts turns together into batches, as many as fit."""

from collections.abc import Iterator

from msgspec import Struct

from llmgateway.documents.cutting.pieces import LINES, MOST_CHARS_A_TOKEN, PROSE, Cutter
from llmgateway.documents.cutting.turns import Turn, turns
from llmgateway.documents.recipe import Batch, Count

# Counted together: a call of a tokenizer has its price, and so has memory.
_GROUP_TURNS, _GROUP_CHARS = 2048, 1 << 18
# Texts put together have about as many tokens as they had apart, though not for sure: near the limit it is counted.
_SURE_PART, _SURE_TOKENS = 1 / 2, 1000


class _Limits(Struct, frozen=True):
    available: int
    a_turn: int
    a_block: int
    most_turns: int | None


class _Piece(Struct, frozen=True, gc=False):
    start: int
    end: int
    tokens: int
    turns: int
    # `None` too where the piece says itself who speaks.
    speaker: str | None


def cut(
    text: str, *, create_new_turn_after: int, max_new_turns: int | None, available: int, count: Count
) -> tuple[Batch, ...]:
    """Cut a text into consecutive batches that together are the text.

    None has more tokens than are available, unless it is a single character. A table, a list or a fence of code is
    kept whole as long as it fits a batch, and counts as so many turns as it is long.

    Args:
        create_new_turn_after: Tokens; a longer turn is cut at the ends of sentences.
        max_new_turns: Turns of a batch; `None` is no limit.
        available: Tokens of a batch.
    """
    available = max(available, 1)
    a_turn = min(max(create_new_turn_after, 1), available)
    a_block = available if max_new_turns is None else min(available, a_turn * max_new_turns)
    limits = _Limits(available, a_turn, a_block, max_new_turns)
    return tuple(_batches(text, _pieces(text, limits, count), limits, count))


def _pieces(text: str, limits: _Limits, count: Count) -> Iterator[_Piece]:
    cutter = Cutter(count)
    for group in _groups(turns(text)):
        counted = iter(count([text[turn.start : turn.end] for turn in group if _may_fit(turn, limits)]))
        for turn in group:
            tokens = next(counted) if _may_fit(turn, limits) else None
            if tokens is not None and tokens <= _most_tokens(turn, limits):
                yield _piece(turn, turn.start, turn.end, tokens, limits)
            else:
                yield from _cut_up(text, turn, limits, cutter)


def _groups(all_turns: Iterator[Turn]) -> Iterator[list[Turn]]:
    group: list[Turn] = []
    for turn in all_turns:
        group.append(turn)
        if len(group) == _GROUP_TURNS or turn.end - group[0].start > _GROUP_CHARS:
            yield group
            group = []
    if group:
        yield group


def _cut_up(text: str, turn: Turn, limits: _Limits, cutter: Cutter) -> Iterator[_Piece]:
    start = turn.start
    levels = LINES if turn.whole else PROSE
    for chars, tokens in cutter.cut(text[turn.start : turn.end], _most_tokens(turn, limits), levels):
        yield _piece(turn, start, start + chars, tokens, limits)
        start += chars


def _piece(turn: Turn, start: int, end: int, tokens: int, limits: _Limits) -> _Piece:
    speaker = None if turn.named and start == turn.start else turn.speaker
    return _Piece(start, end, tokens, _weight(tokens, limits) if turn.whole else 1, speaker)


def _weight(tokens: int, limits: _Limits) -> int:
    """Say as how many turns a block counts: as many as prose of its length would be, and as a batch may hold."""
    weight = max(1, -(-tokens // limits.a_turn))
    return weight if limits.most_turns is None else min(weight, limits.most_turns)


def _may_fit(turn: Turn, limits: _Limits) -> bool:
    return turn.end - turn.start <= _most_tokens(turn, limits) * MOST_CHARS_A_TOKEN


def _most_tokens(turn: Turn, limits: _Limits) -> int:
    return limits.a_block if turn.whole else limits.a_turn


def _batches(text: str, pieces: Iterator[_Piece], limits: _Limits, count: Count) -> Iterator[Batch]:
    taken: list[_Piece] = []
    turns_taken = tokens_taken = 0
    for piece in pieces:
        while taken and not _has_room(turns_taken + piece.turns, tokens_taken + piece.tokens, limits):
            batch, taken = _closed(text, taken, tokens_taken, limits, count)
            turns_taken, tokens_taken = sum(one.turns for one in taken), sum(one.tokens for one in taken)
            yield batch
        taken.append(piece)
        turns_taken += piece.turns
        tokens_taken += piece.tokens
    while taken:
        batch, taken = _closed(text, taken, sum(one.tokens for one in taken), limits, count)
        yield batch


def _has_room(all_turns: int, tokens: int, limits: _Limits) -> bool:
    return tokens <= limits.available and (limits.most_turns is None or all_turns <= limits.most_turns)


def _closed(text: str, taken: list[_Piece], tokens: int, limits: _Limits, count: Count) -> tuple[Batch, list[_Piece]]:
    """Make a batch of as many of the pieces as really fit, and give those that are left."""
    start, kept = taken[0].start, len(taken)
    if tokens > limits.available * _SURE_PART or limits.available < _SURE_TOKENS:
        tokens = count([text[start : taken[-1].end]])[0]
        while kept > 1 and tokens > limits.available:
            kept -= 1
            tokens = count([text[start : taken[kept - 1].end]])[0]
    these = taken[:kept]
    return Batch(start, these[-1].end, tokens, sum(one.turns for one in these), these[0].speaker), taken[kept:]
