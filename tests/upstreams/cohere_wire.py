"""Cohere's wire: `/v2/chat` with its typed events, and `/v2/embed` or `/v1/embed`.

A stream is server-sent events for a client that accepts them, and else one JSON object a line.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.upstreams.answers import Answer, Question, Tool, answer_to, base64_size, vector
from tests.upstreams.openai_wire import image
from tests.upstreams.step import Request, Step, compact, json_step, retry_headers, stream_step

_FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tools": "TOOL_CALL"}


@dataclass(frozen=True, slots=True)
class CohereWire:
    key: str = "co-upstream"
    base_path: str = ""

    def answer(self, request: Request) -> Step:
        if request.bearer != self.key:
            return self.error(401, "invalid api token")
        if request.path == "/v2/chat":
            return _chat(request.json, lines="text/event-stream" not in request.headers.get("accept", ""))
        if request.path in ("/v2/embed", "/v1/embed"):
            return _embed(request.json, typed=request.path == "/v2/embed" or "embedding_types" in request.json)
        return self.error(404, f"path {request.path} not found")

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        body = {"id": secrets.token_hex(16), "message": message}
        return json_step(body, status=status, headers=retry_headers(retry_after))

    def too_long(self) -> Step:
        message = "too many tokens: total number of tokens (prompt and prediction) cannot exceed 4081 - received 6354."
        return self.error(400, message)


def _chat(body: dict[str, Any], *, lines: bool) -> Step:
    answer = answer_to(_question(body))
    if body.get("stream"):
        if lines:
            rows = (compact(event) + b"\n" for event in _events(answer))
            return stream_step(rows, content_type="application/stream+json")
        return stream_step(
            b"event: %b\ndata: %b\n\n" % (event["type"].encode(), compact(event)) for event in _events(answer)
        )
    message: dict[str, Any] = {"role": "assistant"}
    if answer.calls:
        message["tool_plan"] = "I will use the tools."
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in answer.calls
        ]
    else:
        message["content"] = [{"type": "text", "text": answer.text}]
    whole = {"id": secrets.token_hex(16), "finish_reason": _FINISH[answer.stopped], "message": message}
    return json_step({**whole, "usage": _usage(answer)})


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = {"input_tokens": answer.prompt_tokens, "output_tokens": answer.completion_tokens}
    return {"billed_units": tokens, "tokens": tokens}


def _events(answer: Answer) -> Iterator[dict[str, Any]]:
    opening = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield _event("message-start", id=secrets.token_hex(16), delta={"message": opening})
    if not answer.calls:
        yield _event("content-start", index=0, delta={"message": {"content": {"type": "text", "text": ""}}})
        for piece in answer.pieces:
            yield _event("content-delta", index=0, delta={"message": {"content": {"text": piece}}})
        yield _event("content-end", index=0)
    for index, call in enumerate(answer.calls):
        begun = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield _event("tool-call-start", index=index, delta={"message": {"tool_calls": begun}})
        for piece in call.pieces():
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield _event("tool-call-delta", index=index, delta=delta)
        yield _event("tool-call-end", index=index)
    end = {"finish_reason": _FINISH[answer.stopped], "usage": _usage(answer)}
    yield _event("message-end", delta=end)


def _event(kind: str, **fields: object) -> dict[str, Any]:
    return {"type": kind, **fields}


def _question(body: dict[str, Any]) -> Question:
    last = body["messages"][-1]
    content = last["content"]
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    tools = [tool["function"] for tool in body.get("tools", [])]
    return Question(
        text="".join(part["text"] for part in parts if part["type"] == "text"),
        images=tuple(image(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"),
        tools=tuple(Tool(tool["name"], tool.get("parameters", {})) for tool in tools),
        tool_result=str(content) if last["role"] == "tool" else None,
        schema=body.get("response_format", {}).get("json_schema"),
        max_tokens=body.get("max_tokens"),
    )


def _embed(body: dict[str, Any], *, typed: bool) -> Step:
    texts = body.get("texts") or [str(base64_size(picture)) for picture in body.get("images", [])]
    vectors = [vector(text, body.get("output_dimension", 8)) for text in texts]
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": sum(len(text.split()) for text in texts)}}
    whole = {"id": secrets.token_hex(16), "texts": texts, "meta": meta}
    if typed:
        return json_step({**whole, "embeddings": {"float": vectors}, "response_type": "embeddings_by_type"})
    return json_step({**whole, "embeddings": vectors, "response_type": "embeddings_floats"})
