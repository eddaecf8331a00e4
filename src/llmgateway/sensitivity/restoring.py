"""Puts back into an answer what the placeholders stand for, whole or in a stream, where one may come in pieces."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, Self

import msgspec

from llmgateway.errors import GatewayError
from llmgateway.wire.sse import payload, split_events

PLACEHOLDER = re.compile(r"\[[A-Z][A-Z0-9_]*_[0-9]+\]")
# A string of JSON, and whether it is a tool call's arguments: JSON once more. Quotes within texts are escaped.
_STRING = re.compile(rb'("arguments"\s*:\s*)?("content"\s*:\s*)?"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
# What a placeholder, or its beginning at the end of a text, looks like within an event.
_MAY_BE = re.compile(rb'\[(?:[A-Z]|")')
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
_DONE = b"[DONE]"

# A text that grows: the choice's index, the field, and the tool call's index.
Channel = tuple[int, str, int]


class Chunks(Protocol):
    """The pieces of a stream."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


class Restorer:
    """Knows what the placeholders of one call stand for.

    Args:
        values: By placeholder.
        json_content: The answer's text itself is to be JSON, so that values are escaped in it.
    """

    def __init__(self, values: Mapping[str, str], *, json_content: bool = False) -> None:
        self._values = dict(values)
        self._escaped = {name: _escape(value) for name, value in self._values.items()}
        self.json_content = json_content

    def text(self, text: str, *, is_json: bool = False) -> str:
        """Put everything back into a text; one that is JSON stays JSON."""
        values = self._escaped if is_json else self._values
        return PLACEHOLDER.sub(lambda found: values.get(found[0], found[0]), text)

    def body(self, body: bytes) -> bytes:
        """Put everything back into a whole answer; all other bytes stay what they were."""
        if not any(name.encode() in body for name in self._values):
            return body
        return _STRING.sub(self._string, body)

    def unfinished(self, text: str) -> int:
        """Say how many characters at the end of a text may be the beginning of a placeholder."""
        at = text.rfind("[")
        if at < 0:
            return 0
        end = text[at:]
        return len(end) if any(name.startswith(end) and name != end for name in self._values) else 0

    def _string(self, found: re.Match[bytes]) -> bytes:
        if b"[" not in found[3]:
            return found[0]
        before, within = (found[1] or b"") + (found[2] or b""), found[3].decode()
        is_json = bool(found[1]) or (bool(found[2]) and self.json_content)
        values = self._escaped if is_json else self._values
        new = PLACEHOLDER.sub(lambda one: _escape(values[one[0]]) if one[0] in values else one[0], within)
        return before + b'"' + new.encode() + b'"'


class RestoredChunks:
    """A stream with everything put back.

    The beginning of a placeholder is held back until the rest of it has come, or something that cannot be the rest.
    """

    def __init__(self, chunks: Chunks, restorer: Restorer) -> None:
        self._chunks = chunks
        self._restorer = restorer
        self._held: dict[Channel, str] = {}
        self._head: dict[str, Any] = {}
        self._error: GatewayError | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._error is not None:
            raise self._error
        if self._over:
            raise StopAsyncIteration
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            self._over = True
            if not self._held:
                raise
            return self._rest()
        except GatewayError as error:
            if not self._held:
                raise
            # What was held back came before the error.
            self._error = error
            return self._rest()
        if not self._held and _MAY_BE.search(chunk) is None:
            return chunk
        return b"".join(self._event(event) for event in split_events(chunk))

    async def aclose(self) -> None:
        self._over = True
        await self._chunks.aclose()

    def _event(self, event: bytes) -> bytes:
        content = payload(event)
        if content == _DONE:
            return (self._rest() if self._held else b"") + event
        try:
            fields = msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return event
        choices = fields.get("choices")
        if not isinstance(choices, list):
            return event
        self._head = {name: fields[name] for name in ("id", "object", "created", "model") if name in fields}
        # All of them, also after the first that changed.
        changed = [self._choice(choice) for choice in choices if isinstance(choice, dict)]
        return _event_of(fields) if any(changed) else event

    def _choice(self, choice: dict[str, Any]) -> bool:
        index = choice.get("index", 0)
        delta = choice.get("delta")
        texts = _texts_of(delta, index) if isinstance(delta, dict) else _texts_of(choice, index, ("text",))
        finished = choice.get("finish_reason") is not None
        changed = False
        for channel, place, name in texts:
            new = self._passed(channel, place[name], finished=finished)
            changed = changed or new != place[name]
            place[name] = new
        spoken = {channel for channel, _, _ in texts}
        for channel in [one for one in self._held if one[0] == index and (finished or (spoken and one not in spoken))]:
            _add(choice, channel, self._held.pop(channel))
            changed = True
        return changed

    def _passed(self, channel: Channel, text: str, *, finished: bool) -> str:
        text = self._held.pop(channel, "") + text
        if not finished and (held := self._restorer.unfinished(text)):
            self._held[channel] = text[-held:]
            text = text[:-held]
        return self._restorer.text(text, is_json=self._is_json(channel))

    def _is_json(self, channel: Channel) -> bool:
        return channel[1] in {"tool_calls", "function_call"} or (
            channel[1] == "content" and self._restorer.json_content
        )

    def _rest(self) -> bytes:
        """Make an event of what is held back: the answer ended without saying so."""
        choices = []
        for channel, text in self._held.items():
            choice: dict[str, Any] = {"index": channel[0], "finish_reason": None}
            _add(choice, channel, text)
            choices.append(choice)
        self._held.clear()
        return b"".join(_event_of({**self._head, "choices": [choice]}) for choice in choices)


def _texts_of(
    fields: dict[str, Any], index: int, names: tuple[str, ...] = _TEXTS
) -> list[tuple[Channel, dict[str, Any], str]]:
    """Give every text of a choice: what it goes on, and where it stands."""
    found = [((index, name, 0), fields, name) for name in names if isinstance(fields.get(name), str) and fields[name]]
    if isinstance(calls := fields.get("tool_calls"), list):
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), str) and function["arguments"]:
                found.append(((index, "tool_calls", call.get("index", 0)), function, "arguments"))
    called = fields.get("function_call")
    if isinstance(called, dict) and isinstance(called.get("arguments"), str) and called["arguments"]:
        found.append(((index, "function_call", 0), called, "arguments"))
    return found


def _add(choice: dict[str, Any], channel: Channel, text: str) -> None:
    """Give what was held back of a text to this event of its choice."""
    _, name, number = channel
    if name == "text":
        choice["text"] = (choice.get("text") or "") + text
        return
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        delta = choice["delta"] = {}
    if name == "tool_calls":
        calls = delta.get("tool_calls") or []
        delta["tool_calls"] = [{"index": number, "function": {"arguments": text}}, *calls]
    elif name == "function_call":
        delta[name] = {"arguments": text}
    else:
        delta[name] = text


def _event_of(fields: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def _escape(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
