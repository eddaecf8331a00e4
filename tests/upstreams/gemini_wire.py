"""Google AI Studio's wire: `/v1beta/models/{model}:generateContent`, its stream, and embeddings."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.upstreams.answers import Answer, Question, Tool, answer_to, base64_size, vector
from tests.upstreams.step import Request, Step, compact, json_step, retry_headers, stream_step

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_PATH = re.compile(r"/(v1beta|v1alpha)/models/(?P<model>[^:/]+):(?P<method>\w+)")


@dataclass(frozen=True, slots=True)
class GeminiWire:
    key: str = "AIza-upstream"
    base_path: str = "/v1beta"

    def answer(self, request: Request) -> Step:
        if request.headers.get("x-goog-api-key") != self.key:
            return self._wrong_key()
        found = _PATH.fullmatch(request.path)
        if found is None or found["method"] not in _METHODS:
            return self.error(404, f"models/{request.path} is not found for API version v1beta.")
        if found["method"] == "streamGenerateContent" and request.query.get("alt") != "sse":
            return self.error(400, "This player streams with alt=sse only.")
        return _METHODS[found["method"]](request.json, found["model"])

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        body = {"error": {"code": status, "message": message, "status": code or _STATUSES.get(status, "UNKNOWN")}}
        return json_step(body, status=status, headers=retry_headers(retry_after))

    def too_long(self) -> Step:
        message = "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."
        return self.error(400, message)

    def _wrong_key(self) -> Step:
        message = "API key not valid. Please pass a valid API key."
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
        error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details}
        return json_step({"error": error}, status=400)


def _generate(body: dict[str, Any], model: str) -> Step:
    answer = answer_to(_question(body))
    return json_step(_response(answer, model, _whole_parts(answer), finished=True, id_=secrets.token_hex(8)))


def _stream(body: dict[str, Any], model: str) -> Step:
    return stream_step(_events(answer_to(_question(body)), model))


def _events(answer: Answer, model: str) -> Iterator[bytes]:
    """Function calls come whole; events end with CRLF, as Google sends them."""
    id_ = secrets.token_hex(8)
    groups = [[part] for part in _whole_parts(answer)] if answer.calls else [[{"text": text}] for text in answer.pieces]
    for index, parts in enumerate(groups):
        response = _response(answer, model, parts, finished=index == len(groups) - 1, id_=id_)
        yield b"data: " + compact(response) + b"\r\n\r\n"


def _whole_parts(answer: Answer) -> list[dict[str, Any]]:
    if answer.calls:
        return [{"functionCall": {"name": call.name, "args": call.arguments}} for call in answer.calls]
    return [{"text": answer.text}]


def _response(answer: Answer, model: str, parts: list[dict[str, Any]], *, finished: bool, id_: str) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    usage = {"promptTokenCount": answer.prompt_tokens, "totalTokenCount": answer.prompt_tokens}
    if finished:
        candidate["finishReason"] = "MAX_TOKENS" if answer.stopped == "length" else "STOP"
        usage["candidatesTokenCount"] = answer.completion_tokens
        usage["totalTokenCount"] += answer.completion_tokens
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": id_}


def _question(body: dict[str, Any]) -> Question:
    parts = body["contents"][-1]["parts"]
    results = [_either(part, "functionResponse") for part in parts if _either(part, "functionResponse")]
    pictures = [_either(part, "inlineData") for part in parts if _either(part, "inlineData")]
    settings = body.get("generationConfig", {})
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    declared = [one for tool in body.get("tools", []) for one in _either(tool, "functionDeclarations") or []]
    allowed = calling.get("allowed_function_names") or calling.get("allowedFunctionNames") or []
    return Question(
        text="".join(part.get("text", "") for part in parts),
        images=tuple((_either(one, "mimeType"), base64_size(one["data"])) for one in pictures),
        tools=() if calling.get("mode") == "NONE" else tuple(_tool(one) for one in declared),
        tool_result=str(results[-1]["response"]) if results else None,
        forced_tool=allowed[0] if allowed else None,
        schema=_schema(settings),
        max_tokens=_either(settings, "maxOutputTokens"),
    )


def _tool(declared: dict[str, Any]) -> Tool:
    return Tool(declared["name"], declared.get("parametersJsonSchema") or declared.get("parameters") or {})


def _schema(settings: dict[str, Any]) -> dict[str, Any] | None:
    for name in ("responseJsonSchema", "responseSchema"):
        if found := _either(settings, name):
            return dict(found)
    wants_json = _either(settings, "responseMimeType") == "application/json"
    return {"type": "object", "properties": {"answer": {"type": "string"}}} if wants_json else None


def _either(fields: dict[str, Any], name: str) -> Any:
    """Read a field by its camelCase or its snake_case name: Google takes both."""
    snake = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
    return fields.get(name, fields.get(snake))


def _embed(body: dict[str, Any], _model: str) -> Step:
    return json_step({"embedding": {"values": _vector(body)}})


def _batch_embed(body: dict[str, Any], _model: str) -> Step:
    return json_step({"embeddings": [{"values": _vector(request)} for request in body["requests"]]})


def _vector(request: dict[str, Any]) -> list[float]:
    text = "".join(part["text"] for part in request["content"]["parts"])
    return vector(text, _either(request, "outputDimensionality") or 8)


_METHODS = {
    "generateContent": _generate,
    "streamGenerateContent": _stream,
    "embedContent": _embed,
    "batchEmbedContents": _batch_embed,
}
