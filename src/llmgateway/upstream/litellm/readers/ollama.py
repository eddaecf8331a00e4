"""Ollama's answers: text alone is read here, thoughts and tool calls by LiteLLM.

Ollama API: Generate a chat message.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from llmgateway.upstream.litellm.pieces import Piece, Tool, pieces_of
from llmgateway.upstream.litellm.translation import Event, Plain

# Some models put their thoughts between such marks into the text.
_MARK = "think>"


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    content: str
    role: str = "assistant"


class _TextEvent(msgspec.Struct):
    message: _Message
    done: bool


_read_text = msgspec.json.Decoder(_TextEvent).decode


class OllamaReader:
    """Reads the answer to one request.

    Args:
        iterator: LiteLLM's reader of events.
        split: LiteLLM's way to tell thoughts and text apart.
    """

    __slots__ = ("_has_begun", "_iterator", "_split")

    def __init__(self, iterator: Any, split: Callable[[str], tuple[str | None, str | None]]) -> None:
        self._iterator = iterator
        self._split = split
        self._has_begun = False

    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        """Read it as a stream of one event: LiteLLM's reader of whole answers counts tokens each time, for nothing."""
        event = msgspec.json.decode(body)
        message = event["message"]
        if not message.get("thinking") and message.get("content"):
            message["thinking"], message["content"] = self._split(message["content"])
        [piece] = self.event(event)
        return [piece]

    def plain(self, content: bytes) -> Plain | None:
        # The first event is the one whose model counts.
        if not self._has_begun or self._thinks:
            return None
        try:
            event = _read_text(content)
        except msgspec.DecodeError:
            return None
        text = event.message.content
        # Looked for here and not in the JSON, which may write such a mark with escapes.
        return (text, None) if text and not event.done and _MARK not in text else None

    def event(self, event: Event) -> list[Piece]:
        self._has_begun = True
        event.setdefault("message", {})
        [piece] = pieces_of(self._iterator.chunk_parser(event))
        if piece.tools:
            # Each comes whole; Ollama numbers none of them.
            piece.tools = [Tool(None, tool.id, tool.name, tool.arguments) for tool in piece.tools]
        return [piece]

    @property
    def _thinks(self) -> bool:
        return self._iterator.started_reasoning_content and not self._iterator.finished_reasoning_content
