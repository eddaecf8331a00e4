"""Answers that are read here and not by LiteLLM.

Cohere's, because LiteLLM's reader loses streamed tool calls, usage and why it stopped (Cohere API v2: Chat, Chat with
Streaming). Anthropic's plain ones, because LiteLLM's reader takes as long as the rest of the call and counts tokens
of its own beside the provider's (Anthropic API: Messages).
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from llmgateway.errors import UpstreamError
from llmgateway.upstream.litellm.pieces import Piece, Tool, split_writes

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


_PLAIN_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


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
