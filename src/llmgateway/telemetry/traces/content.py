"""Prompts and answers as attributes, for those who ask for it: bounded, and without anything that looks like a key.

Their form is the one of OpenTelemetry's conventions for generative AI (`gen_ai.input.messages`).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from llmgateway.exchange import Complete, Exchange, Reply
from llmgateway.telemetry.traces.asked import MAX_READ_BYTES, UNREADABLE
from llmgateway.telemetry.traces.span import Attributes
from llmgateway.wire.secrets import hide_keys

MAX_CONTENT_BYTES = 64 * 1024
# A key that begins before the cut is still seen whole.
_MARGIN_CHARS = 4096
_MOST_BYTES_PER_CHAR = 6  # in JSON: `\u0000`
_MAX_WORD_CHARS = 32
_BRACES_BYTES = 160  # what is written around a text


class _Room:
    """How much may still be written."""

    def __init__(self) -> None:
        self.left_bytes = MAX_CONTENT_BYTES

    def text(self, value: object) -> str:
        """Take a text, without keys, as far as there is room for it."""
        written = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        clean = hide_keys(written[: self.left_bytes + _MARGIN_CHARS])
        size_bytes = len(msgspec.json.encode(clean))
        if size_bytes > self.left_bytes:
            clean = clean[: max(0, self.left_bytes // _MOST_BYTES_PER_CHAR)]
            size_bytes = self.left_bytes
        self.take(size_bytes)
        return clean

    def take(self, size_bytes: int) -> None:
        """Make it less."""
        self.left_bytes = max(0, self.left_bytes - size_bytes)


def messages(exchange: Exchange) -> Attributes:
    """Give `gen_ai.input.messages` and `gen_ai.output.messages`, each at most 64 KB of JSON."""
    attributes: Attributes = {}
    if exchange.call is not None and (asked := _read(exchange.call.body)):
        attributes["gen_ai.input.messages"] = _written(_asked(asked))
    if exchange.operation != "embedding" and (said := list(_answered(exchange.reply))):
        attributes["gen_ai.output.messages"] = _written(said)
    return attributes


def _read(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_READ_BYTES:
        return {}
    try:
        fields = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    return fields if isinstance(fields, dict) else {}


def _asked(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    given = fields.get("messages")
    if isinstance(given, list):
        yield from (message for message in given if isinstance(message, dict))
        return
    texts = fields.get("prompt", fields.get("input"))
    for text in texts if isinstance(texts, list) else [texts]:
        yield {"role": "user", "content": text}


def _answered(reply: Reply | None) -> Iterator[dict[str, Any]]:
    if not isinstance(reply, Complete):
        if reply is not None and reply.heard is not None:
            yield {"role": "assistant", "content": reply.heard.text()}
        return
    choices = _read(reply.body).get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            message = choice.get("message")
            said = message if isinstance(message, dict) else {"content": choice.get("text")}
            yield {"role": "assistant", **said, "finish_reason": choice.get("finish_reason")}


def _written(given: Iterable[dict[str, Any]]) -> str:
    room = _Room()
    shown: list[dict[str, Any]] = []
    for message in given:
        room.take(_BRACES_BYTES)
        if not room.left_bytes:
            break
        role, reason = message.get("role"), message.get("finish_reason")
        one = {
            "role": role[:_MAX_WORD_CHARS] if isinstance(role, str) else "user",
            "parts": list(_parts(message, room)),
        }
        if isinstance(reason, str):
            one["finish_reason"] = reason[:_MAX_WORD_CHARS]
        shown.append(one)
    return msgspec.json.encode(shown).decode()


def _parts(message: dict[str, Any], room: _Room) -> Iterator[dict[str, Any]]:
    content, calls = message.get("content"), message.get("tool_calls")
    if message.get("role") == "tool":
        yield {
            "type": "tool_call_response",
            "id": room.text(message.get("tool_call_id")),
            "response": room.text(content),
        }
        return
    for part in content if isinstance(content, list) else [content]:
        room.take(_BRACES_BYTES)
        if not room.left_bytes:
            return
        yield from _part(part, room)
    for call in calls if isinstance(calls, list) else ():
        room.take(_BRACES_BYTES)
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and room.left_bytes:
            name, arguments = room.text(function.get("name")), room.text(function.get("arguments"))
            yield {"type": "tool_call", "name": name, "arguments": arguments}


def _part(part: object, room: _Room) -> Iterator[dict[str, Any]]:
    text = part.get("text") if isinstance(part, dict) else part
    if isinstance(text, str):
        yield {"type": "text", "content": room.text(text)}
    elif isinstance(part, dict):
        yield {"type": str(part.get("type"))[:_MAX_WORD_CHARS]}  # an image or a sound: that there was one
