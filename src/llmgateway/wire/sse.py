"""Server-sent events as bytes: cut at event ends, looked at without parsing, never changed.

An event is text up to and with a blank line; lines end in LF, CRLF or CR (WHATWG HTML, section 9.2.6).
"""

import re
from typing import Self

from llmgateway.wire.answers import Answer, alone, read_answer

DONE = b"data: [DONE]\n\n"
# What a chunk ends with whose stream is over; text cannot, because JSON has no bare line breaks.
ENDS = (b"[DONE]\n\n", b"[DONE]\r\n\r\n", b"[DONE]\r\r")
# How nearly all streams end, and how much of that is behind where `[DONE]` begins.
_LAST = b"\n" + DONE
_DONE_BYTES = len(DONE) - DONE.index(b"[")
COMMENT = b": keep-alive\n\n"
# An event longer than this is no event: the largest are images as base64.
MAX_EVENT_BYTES = 32 * 1024 * 1024

_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
# What each of them ends with.
_BLANK_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
# JSON escapes quotes within text, so these can only be field names.
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_ERROR_NAME = re.compile(rb"(?:^|[\r\n])event: ?error")
_ERROR = re.compile(rb'"error"\s*:\s*[{"]|' + _ERROR_NAME.pattern)
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')


class EventTooLongError(ValueError):
    """The upstream sends without ever ending an event."""


class EventCutter:
    """Bytes as they arrive in, whole events out; what is left of an event waits for its end.

    Only whole events go on, so that an error event can follow at any time and is never glued to half a line.
    """

    __slots__ = ("_max_event_bytes", "_rest")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()

    @property
    def rest(self) -> bytes:
        """What is there of an event whose end has not come."""
        return bytes(self._rest)

    def feed(self, received: bytes) -> bytes:
        """Return all whole events so far, unchanged. Raises: EventTooLongError."""
        if not self._rest and received.endswith((b"\n\n", b"\r\n\r\n")):
            return received
        # A blank line may lie across the seam, so three bytes of the old part are looked at again.
        start = max(0, len(self._rest) - 3)
        self._rest += received
        end = max(at + len(blank) if (at := self._rest.rfind(blank, start)) >= 0 else 0 for blank in _BLANK_ENDS)
        events = bytes(self._rest[:end])
        del self._rest[:end]
        if len(self._rest) > self._max_event_bytes:
            raise EventTooLongError
        return events


class WholeStream:
    """A stream that has come to its `[DONE]` already, in one piece: nobody who knows it waits for what follows.

    To everybody else it is chunks like any others.
    """

    __slots__ = ("_is_given", "events")

    def __init__(self, events: bytes) -> None:
        self.events = events
        self._is_given = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_given:
            raise StopAsyncIteration
        self._is_given = True
        return self.events

    async def aclose(self) -> None:
        """Give no more; nothing is open."""
        self._is_given = True


def split_events(events: bytes) -> list[bytes]:
    """Split whole events into one item each, each with its blank line."""
    pieces = []
    start = 0
    for match in _BLANK_LINE.finditer(events):
        pieces.append(events[start : match.end()])
        start = match.end()
    if start < len(events):
        pieces.append(events[start:])
    return pieces


def payload(event: bytes) -> bytes:
    """Return an event's data: its `data:` lines, joined by LF."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and event.find(b"\r") < 0:
        return event[6:-2]  # of one line, as nearly all are
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def _end_of_done(events: bytes, at: int) -> int:
    """Return where the `[DONE]` event ends, blank line included; 0 when `[DONE]` is only spoken of in a text.

    Args:
        at: Where it is spoken of first.
    """
    while at >= 0:
        for field in (b"data: ", b"data:"):
            start = at - len(field)
            if events.startswith(field, max(start, 0)) and (start == 0 or events[start - 1 : start] in {b"\n", b"\r"}):
                return _event_around(events, at, 0, has_returns=events.find(b"\r") >= 0)[1]
        at = events.find(b"[DONE]", at + 1)
    return 0


def _event_around(events: bytes, at: int, after: int, *, has_returns: bool) -> tuple[int, int]:
    """Return where the event at this place begins and ends, its blank line included.

    Args:
        after: Where an event begins that is this one or one before it: no search goes further back.
        has_returns: Whether there is a carriage return, which is rare: without one a search costs less.
    """
    if not has_returns:
        start, end = events.rfind(b"\n\n", after, at), events.find(b"\n\n", at)
        return start + 2 if start >= 0 else after, end + 2 if end >= 0 else len(events)
    starts = [found + len(end) for end in _BLANK_ENDS if (found := events.rfind(end, after, at)) >= 0]
    blank = _BLANK_LINE.search(events, at)
    return max(starts, default=after), len(events) if blank is None else blank.end()


def _error_of(event: bytes) -> bytes | None:
    """Return the payload of an event that says so by name, or by a top-level `error` that is not null."""
    found = payload(event)
    if _ERROR_NAME.search(event):
        return found
    answer = read_answer(found)
    return found if answer is not None and answer.is_failure else None


class ChatScan:
    """Reads a chat or completion stream as it passes: usage, errors, its end; drops what the client did not ask for.

    `started` says whether any event has come that is more than a comment; `error` is the payload of the upstream's
    error event, once one has come.

    Args:
        include_usage: Whether the client asked for the chunk with `choices: []` and a usage. If not, it is taken out;
            if so, and the provider tells the usage beside its choices only, one is made before the end.
    """

    __slots__ = ("_cutter", "_include_usage", "_last", "_usage_alone", "_usage_event", "done", "error", "started")

    def __init__(self, *, include_usage: bool) -> None:
        self._cutter = EventCutter()
        self._include_usage = include_usage
        self._usage_alone = False
        self._last = (b"", b"")
        self._usage_event = b""
        self.started = False
        self.done = False
        self.error: bytes | None = None

    def feed(self, received: bytes) -> bytes:
        """Take what arrived, return what may go on: whole events, or nothing yet.

        After `data: [DONE]` nothing goes on; at an error event `error` is set and that event is held back.

        Raises:
            EventTooLongError: The upstream never ends an event.
        """
        events = self._cutter.feed(received)
        if not events:
            return events
        self._last = (self._last[1], events)
        # What is rarely there is looked for from the end: that search skips what cannot be the mark, and takes less
        # than half the time. Not `in`: that first makes an error which says that a mark is no number, and costs more
        # than the search.
        find, rfind = events.find, events.rfind
        self.started = self.started or find(b"data:") >= 0
        if rfind(b"[DONE]") >= 0:
            at = find(b"[DONE]")
            if at == len(events) - _DONE_BYTES and events.endswith(_LAST):
                self.done = True
            elif end := _end_of_done(events, at):
                self.done = True
                events = events[:end]
        if rfind(b'"error"') >= 0 or rfind(b"event:") >= 0:
            events = self._until_error(events)
        if (at := find(b'"usage"')) >= 0:
            events = self._note_usage(events, at)
        if self.done and self._include_usage and self._usage_event and not self._usage_alone and self.error is None:
            events = self._with_usage(events)
        return events

    @property
    def rest(self) -> bytes:
        """What is there of an event whose end has not come."""
        return self._cutter.rest

    @property
    def finished(self) -> bool:
        """Whether an answer that ends without `[DONE]` had said why it stops: some providers leave `[DONE]` out."""
        return any(_FINISHED.search(events) for events in self._last)

    def usage(self) -> Answer | None:
        """The last event that carried a usage."""
        return read_answer(payload(self._usage_event)) if self._usage_event else None

    def _until_error(self, events: bytes) -> bytes:
        if not _ERROR.search(events):
            return events
        kept = []
        for event in split_events(events):
            if _ERROR.search(event) and (error := _error_of(event)) is not None:
                self.error = error
                break
            kept.append(event)
        return b"".join(kept)

    def _note_usage(self, events: bytes, at: int) -> bytes:
        """Keep the last event that has a usage.

        Args:
            at: Where the name stands first. To search for more than a name goes through the bytes one by one.
        """
        kept = []
        passed = 0
        has_returns = events.find(b"\r") >= 0
        while at >= 0:
            looked = at + 1
            if _USAGE.match(events, at):
                start, looked = _event_around(events, at, passed, has_returns=has_returns)
                self._usage_event = events[start:looked]
                self._usage_alone = _NO_CHOICES.search(self._usage_event) is not None
                drop = self._usage_alone and not self._include_usage
                kept.append(events[passed : start if drop else looked])
                passed = looked
            at = events.find(b'"usage"', looked)
        return b"".join((*kept, events[passed:])) if kept else events

    def _with_usage(self, events: bytes) -> bytes:
        *before, done = split_events(events)
        chunk = alone(payload(self._usage_event))
        return b"".join(before) + (b"data: " + chunk + b"\n\n" if chunk else b"") + done
