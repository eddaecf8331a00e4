"""Anthropic's wire: `/v1/messages`, in one piece or as named events."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.upstreams.answers import Answer, Question, Tool, ToolCall, answer_to, base64_size
from tests.upstreams.step import Request, Step, compact, json_step, retry_headers, stream_step

THOUGHT = "The user wants an echo."
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use"}
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class AnthropicWire:
    key: str = "sk-ant-upstream"
    base_path: str = ""

    def answer(self, request: Request) -> Step:
        if request.headers.get("x-api-key") != self.key:
            return self.error(401, "invalid x-api-key")
        if request.path != "/v1/messages":
            return self.error(404, f"Not found: {request.path}")
        fault = _fault(request)
        return self.error(400, fault) if fault else _messages(request.json)

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        kind = code or _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_player"}
        return json_step(body, status=status, headers=retry_headers(retry_after))

    def too_long(self) -> Step:
        return self.error(400, "prompt is too long: 210001 tokens > 200000 maximum")


def _fault(request: Request) -> str | None:
    if "anthropic-version" not in request.headers:
        return "anthropic-version: header is required"
    body = request.json
    missing = [name for name in ("model", "max_tokens", "messages") if name not in body]
    if missing:
        return f"{missing[0]}: Field required"
    roles = {message["role"] for message in body["messages"]}
    return None if roles <= {"user", "assistant"} else "messages: Unexpected role"


def _messages(body: dict[str, Any]) -> Step:
    answer = answer_to(_question(body))
    blocks = _blocks(answer, thinking=body.get("thinking", {}).get("type") == "enabled")
    message = {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "stop_reason": _STOPS[answer.stopped],
        "stop_sequence": None,
    }
    if body.get("stream"):
        return stream_step(_events(message, answer, blocks))
    whole = {**message, "content": blocks, "usage": _usage(answer)}
    return json_step(whole, headers={"request-id": "req_player"})


def _blocks(answer: Answer, *, thinking: bool) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if thinking:
        blocks.append({"type": "thinking", "thinking": THOUGHT, "signature": "c2lnbmVk"})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text})
    blocks += [
        {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": call.arguments}
        for call in answer.calls
    ]
    return blocks


def _usage(answer: Answer) -> dict[str, int]:
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": answer.prompt_tokens, **cached, "output_tokens": answer.completion_tokens}


def _events(message: dict[str, Any], answer: Answer, blocks: list[dict[str, Any]]) -> Iterator[bytes]:
    opening = {**message, "content": [], "stop_reason": None, "usage": {**_usage(answer), "output_tokens": 1}}
    yield event("message_start", message=opening)
    calls = iter(answer.calls)
    for index, block in enumerate(blocks):
        empty, deltas = _parts(block, answer, calls)
        yield event("content_block_start", index=index, content_block=empty)
        if index == 0:
            yield event("ping")
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=stop, usage={"output_tokens": answer.completion_tokens})
    yield event("message_stop")


def _parts(
    block: dict[str, Any], answer: Answer, calls: Iterator[ToolCall]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Give the block as it is opened, and the deltas that fill it."""
    match block["type"]:
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": word + " "} for word in THOUGHT.split()]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas
        case "text":
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in answer.pieces]
        case _:
            pieces = ["", *next(calls).pieces()]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
            return {**block, "input": {}}, deltas


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + compact({"type": kind, **fields}) + b"\n\n"


def error_event(kind: str, message: str) -> bytes:
    """Break off a stream in Anthropic's way."""
    return event("error", error={"type": kind, "message": message})


def _question(body: dict[str, Any]) -> Question:
    last = body["messages"][-1]["content"]
    parts: list[dict[str, Any]] = [{"type": "text", "text": last}] if isinstance(last, str) else last
    results = [part for part in parts if part["type"] == "tool_result"]
    choice = body.get("tool_choice", {})
    tools = [] if choice.get("type") == "none" else body.get("tools", [])
    output = body.get("output_format") or body.get("output_config", {}).get("format") or {}
    return Question(
        text="".join(part["text"] for part in parts if part["type"] == "text"),
        images=tuple(_image(part["source"]) for part in parts if part["type"] == "image"),
        tools=tuple(Tool(tool["name"], tool["input_schema"]) for tool in tools if "input_schema" in tool),
        tool_result=_words_of(results[-1]["content"]) if results else None,
        forced_tool=choice.get("name") if choice.get("type") == "tool" else None,
        parallel=not choice.get("disable_parallel_tool_use", False),
        schema=output.get("schema"),
        max_tokens=body["max_tokens"],
    )


def _image(source: dict[str, Any]) -> tuple[str, int]:
    if source["type"] == "url":
        return source["url"], -1
    return source["media_type"], base64_size(source["data"])


def _words_of(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
