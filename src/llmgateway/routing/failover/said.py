"""What a chat's stream has told its client, kept as cheaply as can be and read only when the stream breaks."""

import re
from typing import Any

import msgspec

from llmgateway.wire.joining import BEYOND_TEXT, THOUGHTS, Told, head_of
from llmgateway.wire.sse import payload, split_events
from llmgateway.wire.texts import unescaped

# Usual answers end before anything of them is read.
_MOST_RAW_BYTES = 64 * 1024
# An answer longer than this is not taken up again.
_MOST_CHARS = 1024 * 1024
# An event with one piece of text and nothing else, as nearly all are; quotes within texts are escaped. A pattern that
# begins with plain letters is searched for faster.
_PLAIN = re.compile(rb'delta":\s?\{"content":\s?"([^"\\]*+(?:\\.[^"\\]*+)*+)"\}')
_FINISHED = re.compile(rb'finish_reason":\s?"')


class Said:
    """Keeps events as they are, and of the older ones only what they told."""

    __slots__ = ("_chars", "_chunks", "_raw_bytes", "_told")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._raw_bytes = 0
        self._chars = 0
        self._told = Told()

    def append(self, chunk: bytes) -> None:
        """Take whole events, one or more."""
        self._chunks.append(chunk)
        self._raw_bytes += len(chunk)
        if self._raw_bytes > _MOST_RAW_BYTES:
            self._take_out()

    def told(self) -> Told:
        """Give what the client has by now."""
        self._take_out()
        return self._told

    def _take_out(self) -> None:
        raw, told = b"".join(self._chunks), self._told
        self._chunks.clear()
        self._raw_bytes = 0
        texts = _PLAIN.findall(raw) if told.head else []
        if texts and len(texts) == raw.count(b"data:") and _FINISHED.search(raw) is None:
            parts = [unescaped(b"".join(texts))]
        else:
            parts = _read(raw, told)
        self._chars += sum(map(len, parts))
        if self._chars > _MOST_CHARS:
            # So long a text is in nobody's window again.
            told.is_more = True
            told.parts.clear()
        else:
            told.parts += parts


def _read(raw: bytes, told: Told) -> list[str]:
    """Note all that events tell but their text, which is given."""
    parts: list[str] = []
    for event in split_events(raw):
        content = payload(event)
        try:
            fields = msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told.is_done = told.is_done or content == b"[DONE]"
            continue
        choices = fields.get("choices")
        if isinstance(choices, list) and choices:
            told.head = told.head or head_of(fields)
            parts += [text for choice in choices if isinstance(choice, dict) and (text := _note(choice, told))]
        elif isinstance(fields.get("usage"), dict):
            told.has_usage = True
    return parts


def _note(choice: dict[str, Any], told: Told) -> str:
    told.is_finished = told.is_finished or choice.get("finish_reason") is not None
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return ""
    told.has_role = told.has_role or "role" in delta
    told.has_thoughts = told.has_thoughts or any(delta.get(name) for name in THOUGHTS)
    content = delta.get("content") or ""
    # Some providers give a list of parts: what it holds is theirs alone.
    more = any(delta.get(name) for name in BEYOND_TEXT) or not isinstance(content, str) or choice.get("index")
    told.is_more = told.is_more or bool(more)
    return content if isinstance(content, str) else ""
