"""Cohere's answers: LiteLLM's reader loses streamed tool calls, usage and why it stopped.

Cohere API v2: Chat, Chat with Streaming.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from llmgateway.errors import UpstreamError
from llmgateway.upstream.litellm.pieces import Piece, Tool
from llmgateway.upstream.litellm.translation import Event, Plain

_STOPS = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}
_FAILED = frozenset({"ERROR", "TIMEOUT"})
_CONTENT = frozenset({"content-start", "content-delta"})
_CALLS = frozenset({"tool-call-start", "tool-call-delta"})
_TOOL_CHOICES = {"required": "REQUIRED", "none": "NONE"}


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    type: str = "text"


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    content: _Text


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    message: _Message


class _TextEvent(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["content-delta"]
    delta: _Delta
    index: int = 0


_read_text = msgspec.json.Decoder(_TextEvent).decode


class CohereReader:
    """Reads the answer to one request."""

    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        return cohere_answer(msgspec.json.decode(body))

    def plain(self, content: bytes) -> Plain | None:
        if b'"content-delta"' not in content:
            return None
        try:
            text = _read_text(content).delta.message.content.text
        except msgspec.DecodeError:
            return None
        return (text, None) if text else None

    def event(self, event: Event) -> list[Piece]:
        return cohere_event(event)


def cohere_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Give those of OpenAI's parameters that LiteLLM leaves out, in Cohere's form."""
    own: dict[str, Any] = {}
    wanted = parameters.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") in {"json_object", "json_schema"}:
        own["response_format"] = {"type": "json_object"}
        schema = (wanted.get("json_schema") or {}).get("schema")
        if schema is not None:
            own["response_format"]["json_schema"] = schema
    choice = parameters.get("tool_choice")
    if isinstance(choice, str) and choice in _TOOL_CHOICES:
        own["tool_choice"] = _TOOL_CHOICES[choice]
    return own


def cohere_answer(root: dict[str, Any]) -> list[Piece]:
    """Read a whole answer. Raises: UpstreamError when Cohere says that generating failed."""
    message = root["message"]
    parts = message.get("content") or []
    thoughts = [message.get("tool_plan") or "", *(part.get("thinking") or "" for part in parts)]
    calls = message.get("tool_calls") or []
    return [
        Piece(
            content="".join(part.get("text") or "" for part in parts) or None,
            reasoning="".join(thoughts) or None,
            tools=[_tool(call, number) for number, call in enumerate(calls)] or None,
            more=_citations(message.get("citations")),
            finish=_stop(root.get("finish_reason")),
            usage=_usage(root.get("usage")),
        )
    ]


def cohere_event(event: dict[str, Any]) -> list[Piece]:
    """Read one event of a stream. Raises: UpstreamError when Cohere says that generating failed."""
    kind = event.get("type")
    delta = event.get("delta") or {}
    message = delta.get("message") or {}
    if kind == "message-end":
        return [Piece(finish=_stop(delta.get("finish_reason")), usage=_usage(delta.get("usage")))]
    content = message.get("content") if kind in _CONTENT else None
    calls = message.get("tool_calls") if kind in _CALLS else None
    return [
        Piece(
            content=(content or {}).get("text") or None,
            reasoning=(content or {}).get("thinking") or message.get("tool_plan") or None,
            tools=[_tool(calls, event.get("index"))] if calls else None,
            more=_citations(message.get("citations")),
        )
    ]


def _tool(call: dict[str, Any], number: int | None) -> Tool:
    function = call.get("function") or {}
    return Tool(number, call.get("id") or None, function.get("name") or None, function.get("arguments") or "")


def _citations(found: Any) -> dict[str, Any] | None:
    if not found:
        return None
    return {"citations": found if isinstance(found, list) else [found]}


def _stop(reason: str | None) -> str:
    if reason in _FAILED:
        raise UpstreamError("cohere stopped in the middle of the answer.", may_retry=True)
    return _STOPS.get(reason or "", "stop")


def _usage(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    tokens = (usage or {}).get("tokens")
    if not tokens:
        return None
    prompt, completion = int(tokens.get("input_tokens") or 0), int(tokens.get("output_tokens") or 0)
    fields: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    cached = (usage or {}).get("cached_tokens")
    if cached:
        fields["prompt_tokens_details"] = {"cached_tokens": int(cached)}
    return fields
