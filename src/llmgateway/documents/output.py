"""What a model wrote, in turns: paragraphs and list items, with tables and code fences kept whole."""

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby, pairwise

from llmgateway.documents.cutting.speakers import Speakers
from llmgateway.documents.recipe import Count

# Between the answers for two parts of a document.
SEPARATOR = "\n\n"

_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]")
# CommonMark 0.31, 4.5: a fence ends with at least as many of the same marks, and nothing behind them.
_FENCE = re.compile(r"[ \t>]*(?P<marks>`{3,}|~{3,})(?P<rest>[^\n]*)")
_LABEL = re.compile(
    r"(?P<lead>[ \t]*(?:(?:[-*+•]|\d{1,9}[.)])[ \t]+)?(?:\*\*|__)?)"
    r"(?P<name>[^\W\d_][^\n:：*|#<>{}()\[\]/\\]{0,59}?)"  # noqa: RUF001  the wide colon of Chinese and Japanese
    r"(?P<close>[ \t]?(?:(?:\*\*|__)[:：]|[:：](?:\*\*|__)?))[ \t]*(?=\S)"  # noqa: RUF001  likewise
)
_MOST_WORDS = 5


def split_output(text: str) -> list[str]:
    """Cut what a model wrote into its turns; joined, they are the text.

    A turn is a paragraph or an item of a list with all that belongs to it: lines that go on, nested items, a table, a
    fence. A heading belongs to the turn that it stands above.
    """
    starts = [0, *_starts(text.splitlines(keepends=True)), len(text)]
    return [text[start:end] for start, end in pairwise(starts) if start < end]


def last_turns(turns: Sequence[str], room_tokens: int, count: Count) -> str:
    """Give as many of the last turns as there is room for: at least the end of the very last one."""
    sizes = count(turns) if turns else []
    first = len(turns)
    left = room_tokens
    while first and sizes[first - 1] <= left:
        first -= 1
        left -= sizes[first]
    if first < len(turns) or not turns:
        return "".join(turns[first:]).rstrip()
    return _end_of(turns[-1].rstrip(), room_tokens, count)


def consolidate(text: str) -> str:
    """Put consecutive turns of one speaker together; other labels before a colon stay as they are."""
    turns = split_output(text)
    labels = [found["name"] for turn in turns if (found := _label(turn))]
    speakers = Speakers("\n".join(f"{label}: ." for label in labels)).names
    merged: list[str] = []
    for name, together in groupby(turns, lambda turn: _speaker(turn, speakers)):
        same = list(together)
        merged += [_merged(same)] if name else same
    return "".join(merged)


def _starts(lines: Sequence[str]) -> Iterator[int]:
    """Yield where a turn begins, but for the first."""
    at = 0
    turn = _Turn()
    for line in lines:
        if turn.ended_by(line):
            if at:
                yield at
            turn = _Turn()
        turn.add(line)
        at += len(line)


class _Turn:
    """The turn that is being read: what of the next line belongs to it."""

    def __init__(self) -> None:
        self._first = ""
        self._only_heading = False
        self._after_blank = False
        self._fence = ""

    def ended_by(self, line: str) -> bool:
        if self._fence or not self._first or not line.strip() or self._only_heading:
            return False
        if _ITEM.match(line):
            return self._after_blank or _indent(line) <= _indent(self._first) or not _ITEM.match(self._first)
        if self._after_blank:
            return not (_ITEM.match(self._first) and _indent(line) > _indent(self._first))
        return bool(_HEADING.match(line) or (_label(line) and _label(self._first)))

    def add(self, line: str) -> None:
        self._after_blank = not line.strip() and not self._fence
        if self._after_blank:
            return
        if not self._first or self._only_heading:
            self._first = line
            self._only_heading = _HEADING.match(line) is not None
        self._fence = _fence_after(self._fence, line)


def _fence_after(fence: str, line: str) -> str:
    found = _FENCE.match(line)
    if found is None:
        return fence
    marks, rest = found["marks"], found["rest"].strip()
    if not fence:
        return marks if not (marks[0] == "`" and "`" in rest) else ""
    return "" if marks.startswith(fence) and not rest else fence


def _indent(line: str) -> int:
    widened = line.expandtabs(4)
    return len(widened) - len(widened.lstrip())


def _label(line: str) -> re.Match[str] | None:
    found = _LABEL.match(line)
    return found if found and len(found["name"].split()) <= _MOST_WORDS else None


def _speaker(turn: str, speakers: Collection[str]) -> str:
    """Name who speaks in a turn that is text alone; nobody where it has a form of its own."""
    found = _label(turn)
    if found is None or " ".join(found["name"].split()) not in speakers:
        return ""
    below = turn.rstrip().splitlines()[1:]
    if any(not line.strip() or "|" in line or any(p.match(line) for p in (_ITEM, _HEADING, _FENCE)) for line in below):
        return ""
    return found["name"]


def _merged(turns: Sequence[str]) -> str:
    text = turns[0].rstrip()
    for turn in turns[1:]:
        found = _label(turn)
        said = turn[found.end() if found else 0 :].rstrip()
        text += ("; " if text[-1:].isalnum() else " ") + said
    last = turns[-1]
    return text + last[len(last.rstrip()) :]


def _end_of(text: str, room_tokens: int, count: Count) -> str:
    tokens = count([text])[0]
    chars = len(text) * max(room_tokens, 0) // max(tokens, 1)
    while chars > 0:
        end = text[-chars:]
        begun = re.search(r"\s", end)
        end = end[begun.end() :] if begun and begun.end() <= len(end) // 4 else end
        if count([end])[0] <= room_tokens:
            return end
        chars = chars * 3 // 4
    return ""
