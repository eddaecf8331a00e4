"""Two streams made one: a second model goes on with what a first one began, and the client must not see the seam.

`Overlap` finds where the second text really begins; `Joined` gives its events the first one's names. Pure.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from llmgateway.wire.sse import DONE, payload, split_events

# Shorter repetitions are found in most texts that go on as they should.
MIN_OVERLAP_CHARS = 12
# Who repeats a sentence or a paragraph repeats the last one.
_MOST_OVERLAP_CHARS = 4000
# A word that was broken off is sometimes begun anew: `Par` and then `Paris`.
_MIN_WORD_CHARS = 3
# With fewer, a model that was given a prefix may well go on by chance as the answer began.
_MIN_PREFIX_CHARS = 4
# Whoever begins as the answer did for so long, and then differs, gives another answer and not the rest of this one.
_OTHER_ANSWER_CHARS = 32
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
BEYOND_TEXT = ("tool_calls", "function_call", "audio", "refusal")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class JoinError(ValueError):
    """The second text is not the rest of the first.

    Args:
        hopeless: Nobody else can go on with what the client has by now either.
    """

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class Told(Struct):
    """What the client has of an answer so far.

    Args:
        parts: The text in pieces.
        head: `id`, `created`, `model` and `system_fingerprint` of its chunks; empty when none has come.
        has_role, has_thoughts: Whether the role, or any reasoning, was told.
        is_more: It holds more than text, such as tool calls: nobody else can go on with that.
        is_finished: The reason why it ends has been told.
        has_usage: The chunk with the usage was given.
        is_done: So was its end, `[DONE]`.
        prompt_tokens, completion_tokens: Used by those who broke off, as a client would count them.
    """

    parts: list[str] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=dict)
    has_role: bool = False
    has_thoughts: bool = False
    is_more: bool = False
    is_finished: bool = False
    has_usage: bool = False
    is_done: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self.parts)

    def ending(self, *, include_usage: bool) -> bytes:
        """Give the events that are missing of an answer that is complete but for them."""
        if not include_usage or self.has_usage:
            return DONE
        usage = _usage_of(self.prompt_tokens, self.completion_tokens)
        chunk = {"object": "chat.completion.chunk", **self.head, "choices": [], "usage": usage}
        return _event_of(chunk) + DONE


class Overlap:
    """Takes out of a continuation what was said before.

    The second model is shown the text without the blanks at its end. It may go on exactly; repeat the end of it, such
    as the last sentence; or begin with the whole of it. What it says is held back for as long as it may still be a
    repetition, which is never longer than what it repeats. Leading blanks may differ.

    Args:
        said: The text so far, as the client has it.
        exact: The provider was given it as a prefix, which it goes on with: only a repetition of all of it counts.
    """

    __slots__ = ("_alive", "_done", "_exact", "_held", "_held_chars", "_is_open", "_skip", "_start", "_text")

    def __init__(self, said: str, *, exact: bool = False) -> None:
        self._text = said.rstrip()
        self._skip = said[len(self._text) :]
        self._start = len(self._text) - len(self._text.lstrip())
        self._exact = exact
        self._held: list[str] = []
        self._held_chars = 0  # without leading blanks
        self._alive: list[int] | None = None
        self._done: int | None = None
        self._is_open = not self._text

    def feed(self, text: str) -> str:
        """Take the next piece, give what is new of all that is held. Raises: JoinError for another answer."""
        if self._is_open:
            return self._without_blanks(text)
        self._held.append(text)
        if self._alive is None:
            begun = text.lstrip()
            if not begun:
                return ""
            self._alive = self._places(has_blanks=len("".join(self._held)) > len(begun))
            text = begun
        self._narrow(text)
        return "" if self._alive else self._decided()

    def end(self) -> str:
        """Give what is held when nothing more comes. Raises: JoinError for another answer."""
        return "" if self._is_open else self._decided()

    def _places(self, *, has_blanks: bool) -> list[int]:
        """Where in the text so far the continuation may have begun."""
        length = len(self._text)
        if self._exact:
            return [self._start] if length - self._start >= _MIN_PREFIX_CHARS else []
        first = max(self._start + 1, length - _MOST_OVERLAP_CHARS)
        places = [self._start, *range(first, length - MIN_OVERLAP_CHARS + 1)]
        if not has_blanks and not self._skip and (word := self._last_word()) is not None:
            places.append(word)
        return places

    def _last_word(self) -> int | None:
        at = len(self._text)
        while at > self._start and self._text[at - 1].isalpha():
            at -= 1
        return at if _MIN_WORD_CHARS <= len(self._text) - at < MIN_OVERLAP_CHARS and at > self._start else None

    def _narrow(self, new: str) -> None:
        """Drop the places that this piece rules out, and note the earliest that is repeated to its end."""
        alive: list[int] = []
        for place in self._alive or ():
            at = place + self._held_chars
            if at + len(new) < len(self._text):
                if self._text.startswith(new, at):
                    alive.append(place)
            elif new.startswith(self._text[at:]) and self._counts(place):
                self._done = place if self._done is None else min(place, self._done)
        self._alive = alive
        self._held_chars += len(new)

    def _counts(self, place: int) -> bool:
        """Tell a repetition from a text that repeats itself, such as a row of dashes or zeros."""
        if place == self._start:
            return True
        again = self._text[place:]
        own = any(again[step:] == again[:-step] for step in range(1, len(again) // 2 + 1))
        return not own and any(map(str.isalnum, again))

    def _decided(self) -> str:
        held = "".join(self._held)
        begun = held.lstrip()
        self._held.clear()
        self._is_open = True
        if self._done is not None:
            return self._without_blanks(begun[len(self._text) - self._done :])
        start = self._text[self._start : self._start + _OTHER_ANSWER_CHARS]
        if len(start) == _OTHER_ANSWER_CHARS and begun.startswith(start):
            raise JoinError("began the answer anew, with other words")
        return self._without_blanks(held)

    def _without_blanks(self, text: str) -> str:
        """Leave out the blanks that the client has and the second model was not shown."""
        if not self._skip or not text:
            return text
        same = 0
        while same < min(len(text), len(self._skip)) and text[same] == self._skip[same]:
            same += 1
        self._skip = self._skip[same:] if same == len(text) else ""
        return text[same:]


class Joined:
    """Rewrites the second stream: the first one's id, date and model, no second role, nothing that was said before.

    The usage that a client sees is that of one answer: the first prompt, and what all models said of it.

    Args:
        told: What the client has; grows with what is given here.
        is_json: The client asked for JSON: an answer that came to an end must be some.
    """

    __slots__ = ("_hide_thoughts", "_is_json", "_overlap", "_told")

    def __init__(self, told: Told, *, exact: bool, is_json: bool) -> None:
        self._told = told
        self._overlap = Overlap(told.text, exact=exact)
        self._is_json = is_json
        # Its own thoughts on what was said already would be a second beginning.
        self._hide_thoughts = told.has_thoughts or bool(told.parts)

    def feed(self, events: bytes) -> bytes:
        """Take whole events, give what the client is to see of them. Raises: JoinError."""
        known = len(self._told.parts)
        try:
            return b"".join(map(self._event, split_events(events)))
        except JoinError:
            # Nothing of these events reaches the client.
            del self._told.parts[known:]
            raise

    def _event(self, event: bytes) -> bytes:
        content = payload(event)
        if content == b"[DONE]":
            self._told.is_done = True
            return self._rest() + event
        try:
            fields = msgspec.json.decode(content, type=dict[str, Any])
        except _UNREADABLE:
            return event
        return self._chunk(fields)

    def _chunk(self, fields: dict[str, Any]) -> bytes:
        told, usage, choices = self._told, fields.get("usage"), fields.get("choices")
        self._name(fields)
        if isinstance(usage, dict):
            spoken = told.completion_tokens + int(usage.get("completion_tokens") or 0)
            fields["usage"] = _usage_of(told.prompt_tokens or int(usage.get("prompt_tokens") or 0), spoken)
        if not choices:
            told.has_usage = told.has_usage or isinstance(usage, dict)
            return _event_of(fields) if isinstance(usage, dict) else b""
        says = [self._choice(choice) for choice in choices if isinstance(choice, dict)]
        return _event_of(fields) if any(says) else b""

    def _name(self, fields: dict[str, Any]) -> None:
        head = self._told.head
        if head:
            fields.pop("system_fingerprint", None)
            fields.update(head)
        elif fields.get("choices"):
            self._told.head = head_of(fields)

    def _choice(self, choice: dict[str, Any]) -> bool:
        """Rewrite what is said of a choice; tell whether anything is left to say."""
        told, delta = self._told, choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
        says = self._opens(delta)
        more = any(delta.get(name) for name in BEYOND_TEXT)
        ends = choice.get("finish_reason") is not None
        given = delta.get("content")
        text = self._overlap.feed(given) if isinstance(given, str) else ""
        if more or ends:
            text += self._overlap.end()
        if text:
            told.parts.append(text)
        if text or isinstance(given, str):
            delta["content"] = text
        told.is_more = told.is_more or more
        if ends:
            self._check(choice["finish_reason"])
            told.is_finished = True
        return says or ends or more or any(value for name, value in delta.items() if name != "role")

    def _opens(self, delta: dict[str, Any]) -> bool:
        """Let a role through once, and thoughts only where nothing was told yet."""
        if self._hide_thoughts:
            for name in THOUGHTS:
                delta.pop(name, None)
        if self._told.has_role:
            delta.pop("role", None)
            return False
        self._told.has_role = "role" in delta
        return self._told.has_role

    def _check(self, reason: object) -> None:
        if not self._is_json or reason != "stop" or self._told.is_more:
            return
        try:
            msgspec.json.decode(self._told.text)
        except _UNREADABLE:
            raise JoinError("did not go on so that the whole is JSON", hopeless=True) from None

    def _rest(self) -> bytes:
        """Give what is held when the stream ends without saying why."""
        text = self._overlap.end()
        if not text:
            return b""
        self._told.parts.append(text)
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return _event_of({"object": "chat.completion.chunk", **self._told.head, "choices": [choice]})


def head_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give what all chunks of one stream have in common."""
    names = ("id", "created", "model", "system_fingerprint")
    return {name: fields[name] for name in names if fields.get(name) is not None}


def _usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    total_tokens = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total_tokens}


def _event_of(fields: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"
