"""OpenAI's answers, whole and streamed, built as bytes from the pieces that a provider's answer was read into.

In a stream: one id, one date and one model in all chunks; the role in the first; tool calls numbered from 0, with id
and name in their first part; one reason to stop per choice, at the end; a usage chunk only for a client that asked.
"""

import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec

from llmgateway.exchange import Call, Complete
from llmgateway.ids import new_id
from llmgateway.upstream.litellm.pieces import Piece, Tool, usage_of
from llmgateway.wire.sse import DONE

_encode = msgspec.json.encode
_OTHER_REASONS = ("length", "content_filter", "function_call")


class _Choice:
    """What was said so far in one choice."""

    __slots__ = ("finish", "ids", "numbers", "open")

    def __init__(self) -> None:
        self.finish: str | None = None
        self.ids: dict[str, int] = {}
        self.numbers: dict[int | None, int] = {}
        self.open = False

    def number(self, tool: Tool) -> tuple[int, bool]:
        """Give a call its own number, and whether this is its first part."""
        if tool.id is not None:
            known = self.ids.get(tool.id)
            # Some providers repeat the id in every part.
            return (known, False) if known is not None else (self._begin(tool, tool.id), True)
        known = self.numbers.get(tool.number)
        if known is not None and tool.name is None:
            return known, False
        return self._begin(tool, f"call_{secrets.token_hex(12)}"), True

    def _begin(self, tool: Tool, call_id: str) -> int:
        own = self.numbers[tool.number] = len(self.ids)
        self.ids[call_id] = own
        tool.id = call_id
        return own


class ChunkWriter:
    """Writes one stream; a chat's, or that of a legacy completion."""

    def __init__(self, call: Call, model: str) -> None:
        self._call = call
        self._choices: dict[int, _Choice] = {}
        self._head = b""
        # Around the text of a chunk with nothing else in it, once its choice has begun.
        self._around = (b"", b"")
        self._tail = b',"usage":null}\n\n' if call.include_usage else b"}\n\n"
        self.model = model
        self.usage: dict[str, Any] | None = None

    def write(self, piece: Piece) -> bytes:
        """Turn one event's piece into a chunk; empty when it says nothing that a client sees now."""
        if piece.usage is not None:
            self.usage = piece.usage
        if not self._head:
            self.model = piece.model or self.model
        choice = self._choices.get(piece.choice)
        if choice is None:
            choice = self._choices[piece.choice] = _Choice()
        if piece.finish is not None:
            choice.finish = piece.finish
        if choice.open and not piece.says_something:
            return b""
        return self._text(piece, choice) if self._call.operation == "completion" else self._delta(piece, choice)

    def text(self, text: str) -> bytes:
        """Do the same for a piece that only goes on with the first choice's text, which is not empty."""
        before, after = self._around
        if before:
            return b"%b%b%b" % (before, _encode(text), after)
        choice = self._choices.get(0)
        if choice is not None and choice.open:
            self._around = self._around_text()
        return self.write(Piece(content=text))

    def finish(self) -> bytes:
        """End the stream: why each choice stopped, the usage if it was asked for, and `[DONE]`."""
        parts = [self._end(index, choice) for index, choice in sorted(self._choices.items())]
        if self._call.include_usage:
            usage = _encode(self.usage or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
            parts.append(b'%b[],"usage":%b}\n\n' % (self._prefix(), usage))
        return b"".join((*parts, DONE))

    def _delta(self, piece: Piece, choice: _Choice) -> bytes:
        delta: dict[str, Any] = {}
        if not choice.open:
            choice.open = True
            delta["role"] = "assistant"
            if not (piece.content or piece.tools or piece.reasoning):
                delta["content"] = ""
        if piece.content:
            delta["content"] = piece.content
        if piece.reasoning:
            delta["reasoning_content"] = piece.reasoning
        if piece.tools:
            delta["tool_calls"] = [_tool_fields(tool, *choice.number(tool)) for tool in piece.tools]
        if piece.more:
            delta |= piece.more
        logprobs = _encode(piece.logprobs) if piece.logprobs else b"null"
        return b'%b[{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":null}]%b' % (
            self._prefix(), piece.choice, _encode(delta), logprobs, self._tail,
        )  # fmt: skip

    def _text(self, piece: Piece, choice: _Choice) -> bytes:
        choice.open = True
        return b'%b[{"index":%d,"text":%b,"logprobs":null,"finish_reason":null}]%b' % (
            self._prefix(), piece.choice, _encode(piece.content or ""), self._tail,
        )  # fmt: skip

    def _around_text(self) -> tuple[bytes, bytes]:
        name, end = (b'"text":', b"") if self._call.operation == "completion" else (b'"delta":{"content":', b"}")
        before = b'%b[{"index":0,%b' % (self._prefix(), name)
        return before, b'%b,"logprobs":null,"finish_reason":null}]%b' % (end, self._tail)

    def _end(self, index: int, choice: _Choice) -> bytes:
        reason = stop_reason(choice.finish, calls_tools=bool(choice.ids))
        body = b'"text":""' if self._call.operation == "completion" else b'"delta":{}'
        return b'%b[{"index":%d,%b,"logprobs":null,"finish_reason":"%b"}]%b' % (
            self._prefix(), index, body, reason.encode(), self._tail,
        )  # fmt: skip

    def _prefix(self) -> bytes:
        if not self._head:
            kind = b"text_completion" if self._call.operation == "completion" else b"chat.completion.chunk"
            self._head = b'data: {"id":"%b","object":"%b","created":%d,"model":%b,"choices":' % (
                new_id("chatcmpl").encode(), kind, datetime.now(UTC).timestamp(), _encode(self.model),
            )  # fmt: skip
        return self._head


def stop_reason(reason: str | None, *, calls_tools: bool) -> str:
    """Give OpenAI's reason to stop; some providers say `stop` where tools are called, or the other way round."""
    if reason in _OTHER_REASONS:
        return reason
    return "tool_calls" if calls_tools else "stop"


def _tool_fields(tool: Tool, number: int, first: bool) -> dict[str, Any]:
    if not first:
        return {"index": number, "function": {"arguments": tool.arguments}}
    function = {"name": tool.name or "", "arguments": tool.arguments}
    return {"index": number, "id": tool.id, "type": "function", "function": function}


def whole_answer(pieces: list[Piece], call: Call, model: str) -> Complete:
    """Write a chat's or a legacy completion's answer; `model` stands in where the provider names none."""
    reported = next((piece.model for piece in pieces if piece.model), model)
    usage = next((piece.usage for piece in reversed(pieces) if piece.usage), None)
    is_chat = call.operation == "chat"
    body = {
        "id": new_id("chatcmpl"),
        "object": "chat.completion" if is_chat else "text_completion",
        "created": int(datetime.now(UTC).timestamp()),
        "model": reported,
        "choices": [_chat_choice(piece) if is_chat else _text_choice(piece) for piece in pieces],
        "usage": usage or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
    return Complete(msgspec.json.encode(body), usage=usage_of(usage), model=reported)


def _chat_choice(piece: Piece) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": piece.content, "refusal": None}
    if piece.tools and not piece.content:
        message["content"] = None
    if piece.reasoning is not None:
        message["reasoning_content"] = piece.reasoning
    if piece.tools:
        message["tool_calls"] = [_call(tool) for tool in piece.tools]
    if piece.more:
        message |= piece.more
    return {
        "index": piece.choice,
        "message": message,
        "logprobs": piece.logprobs,
        "finish_reason": stop_reason(piece.finish, calls_tools=bool(piece.tools)),
    }


def _text_choice(piece: Piece) -> dict[str, Any]:
    reason = stop_reason(piece.finish, calls_tools=False)
    return {"index": piece.choice, "text": piece.content or "", "logprobs": None, "finish_reason": reason}


def _call(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name or "", "arguments": tool.arguments}
    return {"id": tool.id or f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
