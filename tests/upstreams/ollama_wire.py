"""Ollama's wire: `/api/chat`, `/api/generate` and `/api/embed`; a stream is one JSON object a line."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.upstreams.answers import Answer, Question, Tool, answer_to, base64_size, vector
from tests.upstreams.step import Request, Step, compact, json_step, retry_headers, stream_step

_MADE = "2026-11-20T12:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class OllamaWire:
    """`key` is only asked for when it is given: a plain Ollama has none, a proxy before it may."""

    key: str | None = None
    base_path: str = ""

    def answer(self, request: Request) -> Step:
        if self.key is not None and request.bearer != self.key:
            return self.error(401, "unauthorized")
        routes = {"/api/chat": _chat, "/api/generate": _generate, "/api/embed": _embed, "/api/show": _show}
        answer = routes.get(request.path)
        return Step(status=404, headers={"content-type": "text/plain"}) if answer is None else answer(request.json)

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        return json_step({"error": message}, status=status, headers=retry_headers(retry_after))

    def too_long(self) -> Step:
        return self.error(400, "input length exceeds the context length")


def _chat(body: dict[str, Any]) -> Step:
    last = body["messages"][-1]
    question = Question(
        text=last.get("content") or "",
        images=tuple(("image", base64_size(picture)) for picture in last.get("images", [])),
        tools=tuple(
            Tool(tool["function"]["name"], tool["function"].get("parameters", {})) for tool in body.get("tools", [])
        ),
        tool_result=last["content"] if last["role"] == "tool" else None,
        schema=_schema(body.get("format")),
        max_tokens=body.get("options", {}).get("num_predict"),
    )
    answer = answer_to(question)
    if body.get("stream", True):
        return _lines(_chat_pieces(answer), answer, body["model"], {"message": {"role": "assistant", "content": ""}})
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.calls:
        message["tool_calls"] = _calls(answer)
    return json_step({"model": body["model"], "created_at": _MADE, "message": message, **_ending(answer)})


def _chat_pieces(answer: Answer) -> Iterator[dict[str, Any]]:
    """Tool calls come whole, each in a line of its own, as Ollama sends them."""
    for piece in answer.pieces:
        yield {"message": {"role": "assistant", "content": piece}}
    for call in _calls(answer):
        yield {"message": {"role": "assistant", "content": "", "tool_calls": [call]}}


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [{"function": {"name": call.name, "arguments": call.arguments}} for call in answer.calls]


def _generate(body: dict[str, Any]) -> Step:
    question = Question(
        text=body["prompt"],
        images=tuple(("image", base64_size(picture)) for picture in body.get("images", [])),
        schema=_schema(body.get("format")),
        max_tokens=body.get("options", {}).get("num_predict"),
    )
    answer = answer_to(question)
    if body.get("stream", True):
        return _lines(({"response": piece} for piece in answer.pieces), answer, body["model"], {"response": ""})
    return json_step({"model": body["model"], "created_at": _MADE, "response": answer.text, **_ending(answer)})


def _lines(pieces: Iterator[dict[str, Any]], answer: Answer, model: str, last: dict[str, Any]) -> Step:
    head = {"model": model, "created_at": _MADE}
    lines = [{**head, **piece, "done": False} for piece in pieces] + [{**head, **last, **_ending(answer)}]
    return stream_step((compact(line) + b"\n" for line in lines), content_type="application/x-ndjson")


def _ending(answer: Answer) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "length" if answer.stopped == "length" else "stop",
        "total_duration": 5_000_000,
        "prompt_eval_count": answer.prompt_tokens,
        "eval_count": answer.completion_tokens,
    }


def _schema(format_: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(format_, dict):
        return format_
    return {"type": "object", "properties": {"answer": {"type": "string"}}} if format_ == "json" else None


def _embed(body: dict[str, Any]) -> Step:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    tokens = sum(len(text.split()) for text in texts)
    vectors = [vector(text, body.get("dimensions", 8)) for text in texts]
    return json_step({"model": body["model"], "embeddings": vectors, "prompt_eval_count": tokens})


def _show(_body: dict[str, Any]) -> Step:
    return json_step(
        {"template": "{{ .Tools }}", "model_info": {"llama.context_length": 8192}, "capabilities": ["tools"]}
    )
