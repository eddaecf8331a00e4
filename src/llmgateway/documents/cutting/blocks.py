"""Paragraphs, and what in Markdown must not be torn: fences of code, tables, lists.

Source: CommonMark, for what begins and ends a fence and a list; GitHub's tables.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from enum import Enum

from msgspec import Struct


class Kind(Enum):
    """What a block is."""

    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    FENCE = "fence"


class Block(Struct, frozen=True, gc=False):
    """A part of a text with the blank lines behind it: `text[start:end]`."""

    start: int
    end: int
    kind: Kind


_LINE = re.compile(
    r"(?P<blank>\s*\n|[^\S\n]+\Z)"
    r"|(?:(?P<fence> {0,3}(?P<mark>`{3,}|~{3,})[^\n]*)"
    r"|(?P<table>[^\S\n]*\|[^\n]*|[^\S\n]*:?-+:?[^\S\n]*\|[ \t|:-]*(?=\n|\Z))"
    r"|(?P<item>[^\S\n]*(?:[-*+•]|\d{1,9}[.)])[^\S\n][^\n]*)"
    r"|(?P<indented>(?: {2}|\t)[^\n]+)"
    r"|(?P<rest>[^\n]+))\n?"
)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)(?:\n|\Z)", re.MULTILINE)
_KINDS = {"fence": Kind.FENCE, "table": Kind.TABLE, "item": Kind.LIST}
# All longer fences are taken to be of this length, so that looking for their ends stays cheap.
_LONGEST_FENCE = 16


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a text; one after the other they are the text."""
    start, after_blank = 0, False
    kind: Kind | None = None
    for name, position in _lines(text):
        if name == "blank":
            after_blank = True
            continue
        goes_on = _going_on(kind, name, after_blank=after_blank) if kind else None
        if kind and not goes_on:
            yield Block(start, position, kind)
            start = position
        kind = goes_on or _KINDS.get(name, Kind.PARAGRAPH)
        after_blank = False
    if text:
        yield Block(start, len(text), kind or Kind.PARAGRAPH)


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """Yield what each line is and where it starts; all blank lines in a row are one, and so is a whole fence."""
    closings: Closings | None = None
    position = 0
    while line := _LINE.match(text, position):
        name, end = line.lastgroup or "rest", line.end()
        if name == "fence":
            closings = closings or Closings(text)
            # One that nobody closes is a line like any other: else the rest of the text would be in it.
            name, end = ("fence", closed) if (closed := closings.after(line["mark"], end)) else ("rest", end)
        yield name, position
        position = end


def _going_on(kind: Kind, name: str, *, after_blank: bool) -> Kind | None:
    """Say what a block is once it has a further line; `None`: the line begins another block."""
    if name == "fence" or kind is Kind.FENCE:
        return None
    if kind is Kind.LIST and name == "indented":
        return kind
    if after_blank or (name == "item" and kind is not Kind.LIST):
        return None
    return Kind.TABLE if name == "table" and kind is Kind.PARAGRAPH else kind


class Closings:
    """The lines of a text that may close a fence."""

    def __init__(self, text: str) -> None:
        found = [
            (f[1][0], min(len(f[1]), _LONGEST_FENCE), f.start(), f.end())
            for f in _FENCE.finditer(text)
            if not f[2].strip()
        ]
        self._lines = {mark: [line[1:] for line in found if line[0] == mark] for mark in "`~"}
        self._starts = {mark: [line[1] for line in lines] for mark, lines in self._lines.items()}
        # From which length on there is none any more, for each mark: nobody looks for it again.
        self._none_from = {"`": _LONGEST_FENCE + 1, "~": _LONGEST_FENCE + 1}

    def after(self, mark: str, position: int) -> int | None:
        """Give the end of the line that closes a fence which was opened with a mark before a position."""
        kind, length = mark[0], min(len(mark), _LONGEST_FENCE)
        if length >= self._none_from[kind]:
            return None
        lines = self._lines[kind]
        for number in range(bisect_left(self._starts[kind], position), len(lines)):
            if lines[number][0] >= length:
                return lines[number][2]
        self._none_from[kind] = length
        return None
