"""Anthropic's answers: LiteLLM's reader takes longer than the rest of the call, and counts tokens of its own.

Anthropic API: Messages, Streaming Messages. What the server's own tools say, citations and containers are LiteLLM's to
read, and so is an answer in JSON that it asked for as a tool call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from llmgateway.upstream.litellm.pieces import Piece, Tool, pieces_of, split_writes
from llmgateway.upstream.litellm.translation import Config, Event, Plain, Silent

_PLAIN_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


class _TextDelta(msgspec.Struct):
    type: Literal["text_delta"]
    text: str


class _TextEvent(msgspec.Struct):
    delta: _TextDelta


_read_text = msgspec.json.Decoder(_TextEvent).decode


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request its answer is read with.

    Args:
        fields: What LiteLLM's reader of whole answers wants to be told again.
        iterator: Makes LiteLLM's reader of events.
        names: From the tool names that Anthropic allows back to the client's.
        stop: From Anthropic's reasons to stop to OpenAI's.
        json_mode: Whether JSON was asked for as a tool call, which the client must not see.
    """

    fields: dict[str, Any]
    iterator: Callable[[], Any]
    names: Mapping[str, str]
    stop: Callable[[str], str]
    json_mode: bool


class AnthropicReader:
    """Reads the answer to one request."""

    __slots__ = ("_asked", "_block", "_config", "_iterator", "_number", "_said", "_usage")

    def __init__(self, config: Config, asked: Asked) -> None:
        self._config = config
        self._asked = asked
        self._iterator: Any = None
        self._usage: dict[str, Any] = {}
        # The open block's type, `None` between two; the number of the last tool call, and whether what was said of its
        # arguments, if anything was, is more than an empty text.
        self._block: str | None = None
        self._number = -1
        self._said: bool | None = None

    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        asked = self._asked
        root = msgspec.json.decode(body)
        is_plain = not asked.json_mode and not asked.fields["messages"][-1].get("prefix")
        pieces = anthropic_answer(root, asked.names, asked.stop) if is_plain else None
        if pieces is None:
            more = {"logging_obj": Silent({}), "json_mode": asked.json_mode}
            pieces = self._config.answer(body, headers, **more, **asked.fields)
            pieces[-1].usage = anthropic_usage(root["usage"])
        return pieces

    def plain(self, content: bytes) -> Plain | None:
        if b'"text_delta"' not in content:
            return None
        try:
            text = _read_text(content).delta.text
        except msgspec.DecodeError:
            return None
        return (text, None) if text else None

    def event(self, event: Event) -> list[Piece]:
        piece = None if self._asked.json_mode else self._own(event.get("type") or "", event)
        pieces = self._by_litellm(event) if piece is None else [piece]
        usage = event.get("usage") or event.get("message", {}).get("usage")
        if usage:
            self._usage |= usage
            pieces[-1].usage = anthropic_usage(self._usage)
        return pieces

    def _own(self, kind: str, event: Event) -> Piece | None:
        """Read an event; `None` when it is not one of the common ones."""
        piece: Piece | None = None
        match kind:
            case "content_block_delta":
                piece = self._delta(event["delta"])
            case "content_block_start":
                piece = self._start(event["content_block"])
            case "content_block_stop":
                piece = self._stop()
            case "message_delta" if not event["delta"].get("container"):
                piece = Piece(finish=self._asked.stop(event["delta"].get("stop_reason") or "stop"))
            case "message_start":
                piece = Piece(model=event["message"].get("model"))
            case "ping" | "message_stop":
                piece = Piece()
        return piece

    def _start(self, block: dict[str, Any]) -> Piece | None:
        kind = self._block = block["type"]
        match kind:
            case "tool_use":
                self._number += 1
                self._said = None
                name = self._asked.names.get(block["name"], block["name"])
                return Piece(tools=[Tool(self._number, block["id"], name, "")])
            case "text":
                return Piece(content=block["text"])
            case "redacted_thinking":
                return Piece(more={"thinking_blocks": [{"type": kind, "data": block["data"]}]})
            case _:
                return Piece() if kind == "thinking" else None

    def _delta(self, delta: dict[str, Any]) -> Piece | None:
        piece: Piece | None = None
        match delta["type"]:
            case "text_delta":
                piece = Piece(content=delta["text"])
            case "input_json_delta" if self._block in _PLAIN_BLOCKS:
                piece = self._arguments(delta["partial_json"])
            case "thinking_delta" if delta["thinking"]:
                piece = _thought(delta["thinking"], {"thinking": delta["thinking"]})
            case "signature_delta" if delta["signature"]:
                piece = _thought("", {"thinking": "", "signature": delta["signature"]})
        return piece

    def _arguments(self, text: str) -> Piece:
        if self._block != "tool_use":
            return Piece()
        self._said = self._said or bool(text)
        if not text:
            return Piece()
        return Piece(tools=[Tool(self._number, None, None, text)])

    def _stop(self) -> Piece | None:
        kind, self._block = self._block, None
        if kind not in _PLAIN_BLOCKS:
            return None
        is_empty = kind == "tool_use" and self._said is False
        return Piece(tools=[Tool(self._number, None, None, "{}")]) if is_empty else Piece()

    def _by_litellm(self, event: Event) -> list[Piece]:
        if self._iterator is None:
            self._iterator = self._asked.iterator()
        iterator = self._iterator
        # Whoever reads a call, the calls of an answer are numbered in one row.
        iterator.tool_index = self._number
        pieces = pieces_of(iterator.chunk_parser(event))
        self._number = iterator.tool_index
        # It would count their tokens on the event loop, for a number that the provider did not give.
        iterator.reasoning_content_chunks.clear()
        return pieces


def anthropic_answer(root: dict[str, Any], names: Mapping[str, str], stop: Callable[[str], str]) -> list[Piece] | None:
    """Read a whole answer of text, thoughts and tool calls; `None` when it holds more, which LiteLLM reads.

    The mapping `names` leads from the tool names that Anthropic allows back to the client's.
    """
    blocks = root["content"]
    if any(block["type"] not in _PLAIN_BLOCKS or block.get("citations") for block in blocks):
        return None
    thoughts = [block for block in blocks if block["type"].endswith("thinking")]
    return [
        Piece(
            content="".join(block["text"] for block in blocks if block["type"] == "text") or None,
            reasoning="".join(block.get("thinking", "") for block in thoughts) if thoughts else None,
            tools=[_used(block, names) for block in blocks if block["type"] == "tool_use"] or None,
            more={"thinking_blocks": thoughts} if thoughts else None,
            finish=stop(root["stop_reason"] or "end_turn"),
            usage=anthropic_usage(root["usage"]),
            model=root["model"],
        )
    ]


def anthropic_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Give Anthropic's counts in OpenAI's shape, where cached tokens are part of the prompt's."""
    # A call that the provider ran in several turns lists them; their sum is what was used.
    turns = usage.get("iterations") or [usage]
    read, created = (_sum(turns, f"cache_{what}_input_tokens") for what in ("read", "creation"))
    prompt, completion = _sum(turns, "input_tokens") + read + created, _sum(turns, "output_tokens")
    details: dict[str, Any] = {"cached_tokens": read}
    if created:
        details["cache_creation_tokens"] = created
        kept = [turn.get("cache_creation") or {} for turn in turns]
        details |= split_writes(*(_sum(kept, f"ephemeral_{time}_input_tokens") for time in ("5m", "1h")))
    fields: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }
    thinking = (usage.get("output_tokens_details") or {}).get("thinking_tokens")
    if thinking:
        fields["completion_tokens_details"] = {"reasoning_tokens": thinking}
    if usage.get("service_tier"):
        fields["service_tier"] = usage["service_tier"]
    return fields


def _used(block: dict[str, Any], names: Mapping[str, str]) -> Tool:
    return Tool(
        None, block["id"], names.get(block["name"], block["name"]), msgspec.json.encode(block["input"]).decode()
    )


def _sum(turns: list[Mapping[str, Any]], name: str) -> int:
    return sum(turn.get(name) or 0 for turn in turns)


def _thought(text: str, block: dict[str, Any]) -> Piece:
    return Piece(reasoning=text, more={"thinking_blocks": [{"type": "thinking", **block}]})
