"""Cuts what is too long: at the ends of sentences, and where one is too long itself, at ever finer ends."""

# ruff: noqa: RUF001  the marks and words of all scripts

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from llmgateway.documents.cutting.sentences import character_ends, sentence_ends, word_ends
from llmgateway.documents.recipe import Count

# Where a text may be cut: offsets that rise, the last being its end.
Ends = Callable[[str], Sequence[int]]

# No tokenizer puts more into a token, save for blanks and rules: what is longer need not be counted to be too long.
MOST_CHARS_A_TOKEN = 64
_LINES = re.compile(r"\n(?:\s*\n)?")
_CLAUSES = re.compile(r"[,;:.!?…،؛؟।۔–—][\"'»”’)\]]{0,3}\s+|[、，；：。！？…︒]")
_BLANKS = re.compile(r"\s+")
# A piece that is so full is not tried with one more sentence.
_FULL_ENOUGH = 0.9
_AIM = 0.97
_GUESSES = 4


class Cutter:
    """Cuts texts into pieces of at most so many tokens.

    Args:
        count: Is asked of candidates alone, some two times the text in all.
    """

    def __init__(self, count: Count) -> None:
        self._count = count
        # Learned from the text, for the first guess of each piece.
        self._chars_a_token = 4.0

    def cut(self, text: str, most_tokens: int, levels: Sequence[Ends]) -> Iterator[tuple[int, int]]:
        """Yield length and tokens of each piece; one after the other they are the text.

        Args:
            levels: From the coarsest ends to the finest, which are those of single characters.
        """
        ends, *finer = levels[0](text), *levels[1:]
        start = index = 0
        while start < len(text):
            fitting = self._fitting(text, start, ends, index, most_tokens) if len(ends) > 1 or not finer else None
            if fitting is not None:
                index, tokens = fitting
                yield ends[index] - start, tokens
            elif finer:
                yield from self.cut(text[start : ends[index]], most_tokens, finer)
            else:
                yield 1, self._tokens(text[start])
            start = ends[index]
            index += 1

    def _fitting(
        self, text: str, start: int, ends: Sequence[int], first: int, most_tokens: int
    ) -> tuple[int, int] | None:
        """Find an end, from the first one on, up to which nearly as much is taken as fits; and its tokens."""
        fitting = None
        low, high = first - 1, bisect_right(ends, start + most_tokens * MOST_CHARS_A_TOKEN)
        guesses = 0
        while high - low > 1:
            aim = bisect_right(ends, start + int(most_tokens * self._chars_a_token * _AIM)) - 1
            # Where a text is dense here and thin there, guesses go astray: halves do not.
            index = min(max(aim, low + 1), high - 1) if guesses < _GUESSES else (low + high) // 2
            guesses += 1
            tokens = self._tokens(text[start : ends[index]])
            self._chars_a_token = (ends[index] - start) / max(tokens, 1)
            if tokens > most_tokens:
                high = index
                continue
            low, fitting = index, (index, tokens)
            if tokens >= most_tokens * _FULL_ENOUGH:
                break
        return fitting

    def _tokens(self, text: str) -> int:
        return self._count([text])[0]


def _line_ends(text: str) -> Sequence[int]:
    return _after(_LINES, text)


def _clause_ends(text: str) -> Sequence[int]:
    return _after(_CLAUSES, text)


def _blank_ends(text: str) -> Sequence[int]:
    return _after(_BLANKS, text)


def _all_ends(text: str) -> Sequence[int]:
    return range(1, len(text) + 1)


def _after(marks: re.Pattern[str], text: str) -> Sequence[int]:
    ends = array("L", (mark.end() for mark in marks.finditer(text)))
    if not ends or ends[-1] != len(text):
        ends.append(len(text))
    return ends


_FINER: tuple[Ends, ...] = (_clause_ends, _blank_ends, word_ends, character_ends, _all_ends)
# How prose is cut, and how that of which each line is a thing of its own.
PROSE: tuple[Ends, ...] = (sentence_ends, _line_ends, *_FINER)
LINES: tuple[Ends, ...] = (_line_ends, sentence_ends, *_FINER)
