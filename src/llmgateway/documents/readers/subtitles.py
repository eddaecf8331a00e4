"""SRT and WebVTT: what is said, by whom; numbers, timings and styles are taken out.

Source: W3C, WebVTT: The Web Video Text Tracks Format. SRT has no standard: what players read.
"""

import html
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from msgspec import Struct

from llmgateway.documents.readers.content import Content

_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{2}[,.]\d{1,3}"
_TIMING = re.compile(rf"^[^\S\n]*({_TIME})[^\S\n]*-->[^\S\n]*({_TIME})[^\n]*$", re.MULTILINE)
_SUBRIP = re.compile(rf"\s*\d+[^\S\n]*\n[^\S\n]*{_TIME}[^\S\n]*-->[^\S\n]*{_TIME}")
_WEBVTT = re.compile(r"\ufeff?WEBVTT(?:[ \t\n]|$)")
# Bounded, so that a line of nothing but beginnings of tags takes no time.
_VOICE = re.compile(r"<v(?:\.[^\s>]{0,99})?[ \t]{1,9}([^>\n]{1,200})>|</v>")
# Timestamps within a cue: captions that a machine made, where each cue repeats the line before it.
_KARAOKE = re.compile(rf"<{_TIME}>")
_TAG = re.compile(rf"</?(?:[biuscv]|font|ruby|rt|lang)(?:[. \t][^<>\n]*)?>|<{_TIME}>|\{{\\[^{{}}\n]*\}}")
_DASH = re.compile(r"[-‐-—]\s*(?=\S)")  # noqa: RUF001  hyphens and dashes, as subtitles have them
# Without names a pause is all that tells one paragraph from the next.
_PAUSE_S = 2.0


class _Said(Struct):
    speaker: str | None
    lines: list[str]
    start_s: float
    end_s: float
    # Whether a dash says that it is somebody else who speaks now.
    dashed: bool = False


def is_webvtt(content: Content) -> bool:
    """Whether it has the first line of the standard."""
    return _WEBVTT.match(content.text) is not None


def is_subrip(content: Content) -> bool:
    """Whether it begins with a number and a timing."""
    return _SUBRIP.match(content.text) is not None


def text_of(content: Content) -> str:
    """Give a line for each turn, with the speaker before it where one is named; else paragraphs."""
    turns = list(_turns(_without_repeats(_said(content.text), repeated=_KARAOKE.search(content.text) is not None)))
    named = any(turn.speaker for turn in turns)
    return "".join(_written(turn) + ("\n" if named else "\n\n") for turn in turns).rstrip("\n") + "\n" if turns else ""


def _said(text: str) -> Iterator[_Said]:
    """Yield what is said in each cue, a voice at a time."""
    timings = list(_TIMING.finditer(text))
    for timing, following in zip_longest(timings, timings[1:]):
        body = text[timing.end() : following.start() if following else len(text)].lstrip("\n")
        # A cue ends at a blank line; SRT is also found without one, then the next cue's number is left.
        cue = body.split("\n\n", 1)[0] if "\n\n" in body else re.sub(r"\n\d+\s*$", "", body)
        start_s, end_s = _seconds(timing[1]), _seconds(timing[2])
        for speaker, words in _voices(cue):
            lines = _lines(words)
            if sum(_DASH.match(line) is not None for line in lines) > 1:
                yield from (
                    _Said(speaker, [_DASH.sub("", line, count=1)], start_s, end_s, dashed=True) for line in lines
                )
            elif lines:
                yield _Said(speaker, lines, start_s, end_s)


def _voices(cue: str) -> Iterator[tuple[str | None, str]]:
    speaker, start = None, 0
    for voice in _VOICE.finditer(cue):
        yield speaker, cue[start : voice.start()]
        speaker, start = _name(voice[1]), voice.end()
    yield speaker, cue[start:]


def _name(given: str | None) -> str | None:
    # A colon would end the label that the name becomes.
    return " ".join(html.unescape(given).replace(":", " ").split()) or None if given else None


def _lines(words: str) -> list[str]:
    return [line for raw in words.split("\n") if (line := " ".join(html.unescape(_TAG.sub("", raw)).split()))]


def _without_repeats(said: Iterable[_Said], *, repeated: bool) -> Iterator[_Said]:
    last = None
    for one in said:
        lines = one.lines[1:] if repeated and one.lines[0] == last else one.lines
        last = one.lines[-1]
        if lines:
            yield _Said(one.speaker, lines, one.start_s, one.end_s, one.dashed)


def _turns(said: Iterable[_Said]) -> Iterator[_Said]:
    """Merge what one speaker says in consecutive cues."""
    turn: _Said | None = None
    for one in said:
        if turn is not None and _goes_on(turn, one):
            turn.lines += one.lines
            turn.end_s = one.end_s
            continue
        if turn is not None:
            yield turn
        turn = one
    if turn is not None:
        yield turn


def _goes_on(turn: _Said, one: _Said) -> bool:
    if turn.speaker or one.speaker:
        return turn.speaker == one.speaker
    return not one.dashed and one.start_s - turn.end_s < _PAUSE_S and not _labelled(one.lines[0])


def _labelled(line: str) -> bool:
    """Whether a line names its own speaker: SRT has no other way."""
    label, colon, _ = line.partition(": ")
    return bool(colon) and len(label) <= 30 and label[:1].isupper()  # noqa: PLR2004  as long as names are


def _written(turn: _Said) -> str:
    return (f"{turn.speaker}: " if turn.speaker else "") + " ".join(turn.lines)


def _seconds(time: str) -> float:
    total_s = 0.0
    for part in time.replace(",", ".").split(":"):
        total_s = total_s * 60 + float(part)
    return total_s
