"""Turns: what one speaker says in a transcript, a paragraph elsewhere. Spans that together are the whole text."""

import re
from collections.abc import Iterator

from msgspec import Struct

from llmgateway.documents.cutting.blocks import Block, Kind, blocks
from llmgateway.documents.cutting.speakers import Speakers, is_bare

_LINE_START = re.compile(r"^(?=[^\S\n]*\S)", re.MULTILINE)
_BETWEEN_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n\s*")
# A text is a transcript when at least so many of its lines, and of its paragraphs, begin with somebody's name.
_FEWEST_NAMED, _OF_PARAGRAPHS, _OF_LINES = 2, 1 / 4, 1 / 8


class Turn(Struct, frozen=True, gc=False):
    """A turn, with the white space behind it: `text[start:end]`.

    Args:
        speaker: Whose words it holds, where that is known.
        named: Whether it begins with the speaker's name.
        whole: Whether it is a table, a list or a fence of code, which is not cut where prose would be.
    """

    start: int
    end: int
    speaker: str | None = None
    named: bool = False
    whole: bool = False


def turns(text: str) -> Iterator[Turn]:
    """Yield the turns of a text: in a transcript each line that is not empty, elsewhere each paragraph."""
    speakers = Speakers(text)
    if _is_transcript(text, speakers):
        yield from _of_transcript(text, speakers)
        return
    for block in blocks(text):
        speaker = speakers.of(text, block.start, block.end)
        yield Turn(block.start, block.end, speaker, speaker is not None, block.kind is not Kind.PARAGRAPH)


def _is_transcript(text: str, speakers: Speakers) -> bool:
    if speakers.lines < _FEWEST_NAMED:
        return False
    paragraphs = 1 + sum(1 for _ in _BETWEEN_PARAGRAPHS.finditer(text.strip()))
    lines = sum(1 for _ in _LINE_START.finditer(text))
    return speakers.lines >= max(paragraphs * _OF_PARAGRAPHS, lines * _OF_LINES)


def _of_transcript(text: str, speakers: Speakers) -> Iterator[Turn]:
    speaker = None
    for block in blocks(text):
        torn = block.kind in {Kind.PARAGRAPH, Kind.LIST}
        for start, end in _lines(text, block) if torn else [(block.start, block.end)]:
            named = speakers.of(text, start, end)
            speaker = named or speaker
            yield Turn(start, end, speaker, named is not None, not torn)


def _lines(text: str, block: Block) -> Iterator[tuple[int, int]]:
    """Yield the lines of a block; a name alone on its line has the next line with it."""
    start = block.start
    for line in _LINE_START.finditer(text, block.start, block.end):
        if text[start : line.start()].strip() and not is_bare(text, start, line.start()):
            yield start, line.start()
            start = line.start()
    yield start, block.end
