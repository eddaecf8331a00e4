"""OpenAI's wire, and the forms of it that Groq, Mistral, Together and xAI speak."""

import base64
import secrets
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from tests.upstreams.answers import Answer, Question, Tool, answer_to, base64_size, vector, words
from tests.upstreams.step import Request, Step, compact, json_step, retry_headers, stream_step

_NOTHING: Mapping[str, Any] = MappingProxyType({})
CREATED = 1_790_000_000
DONE = b"data: [DONE]\n\n"
_FINISH = {"stop": "stop", "length": "length", "tools": "tool_calls"}
_TYPES = {401: "invalid_request_error", 429: "requests", 500: "server_error", 503: "server_error"}
# Mistral answers 422 to every field it does not name; these it does.
_MISTRAL_FIELDS = frozenset(
    {"model", "messages", "input", "prompt", "stream", "temperature", "top_p", "max_tokens", "tools", "tool_choice"}
    | {"random_seed", "stop", "response_format", "parallel_tool_calls", "presence_penalty", "frequency_penalty", "n"}
    | {"prediction", "safe_prompt", "prompt_mode", "reasoning_effort", "metadata", "encoding_format"}
    | {"output_dimension", "output_dtype"}
)


@dataclass(frozen=True, slots=True)
class OpenAIWire:
    """One provider of this wire.

    Args:
        errors: Whose shape the error bodies have.
        usage: Where a stream says what it cost: `asked` in a chunk of its own when `stream_options` asks for it,
            `always` in the chunk with the finish reason.
        fields: Top-level fields the provider knows; any other is a 422. `None` lets everything pass.
        extras: Fields of the provider's own in every chat answer and chunk.
    """

    key: str = "sk-upstream"
    base_path: str = "/v1"
    errors: Literal["openai", "mistral", "xai"] = "openai"
    usage: Literal["asked", "always"] = "asked"
    fields: frozenset[str] | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    def answer(self, request: Request) -> Step:
        if request.bearer != self.key:
            return self._wrong_key(request.bearer or "")
        route = self._route(request)
        if route is None:
            return self.error(404, f"Invalid URL ({request.method} {request.path})")
        if self.fields is not None and not set(request.json) <= self.fields:
            return self._extra_forbidden(sorted(set(request.json) - self.fields))
        return route(request.json)

    def _route(self, request: Request) -> Callable[[dict[str, Any]], Step] | None:
        if request.method != "POST" or not request.path.startswith(self.base_path):
            return None
        always = self.usage == "always"
        routes: dict[str, Callable[[dict[str, Any]], Step]] = {
            "/chat/completions": lambda body: chat(body, usage_always=always, extras=self.extras),
            "/completions": lambda body: completion(body, usage_always=always),
            "/embeddings": embeddings,
        }
        return routes.get(request.path.removeprefix(self.base_path))

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        headers = retry_headers(retry_after)
        kind = _TYPES.get(status, "invalid_request_error")
        error = {"message": message, "type": kind, "param": None, "code": code}
        if self.errors == "mistral":
            return json_step({"object": "error", **error}, status=status, headers=headers)
        if self.errors == "xai":
            argument = code or "Client specified an invalid argument"
            return json_step({"code": argument, "error": message}, status=status, headers=headers)
        return json_step({"error": error}, status=status, headers=headers)

    def too_long(self) -> Step:
        message = (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens. "
            "Please reduce the length of the messages."
        )
        error = {"message": message, "type": "invalid_request_error", "param": "messages"}
        return json_step({"error": {**error, "code": "context_length_exceeded"}}, status=400)

    def _wrong_key(self, given: str) -> Step:
        masked = given[:3] + "*" * 12 + given[-4:]
        if self.errors == "mistral":
            return json_step({"message": "Unauthorized", "request_id": "b6a0"}, status=401)
        message = f"Incorrect API key provided: {masked}. You can find your API key in the console."
        if self.errors == "xai":
            return self.error(400, message)  # as xAI does; its code says only that an argument was wrong
        return self.error(401, message, code="invalid_api_key")

    def _extra_forbidden(self, names: list[str]) -> Step:
        detail = [
            {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
            for name in names
        ]
        body = {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error", "param": None}
        return json_step({**body, "code": None}, status=422)


def openai(key: str = "sk-upstream") -> OpenAIWire:
    return OpenAIWire(key)


def groq(key: str = "gsk-upstream") -> OpenAIWire:
    extras = {"service_tier": "on_demand", "x_groq": {"id": "req_01player"}}
    return OpenAIWire(key, base_path="/openai/v1", extras=extras)


def mistral(key: str = "mistral-upstream") -> OpenAIWire:
    return OpenAIWire(key, errors="mistral", usage="always", fields=_MISTRAL_FIELDS)


def together(key: str = "together-upstream") -> OpenAIWire:
    return OpenAIWire(key, usage="always")


def xai(key: str = "xai-upstream") -> OpenAIWire:
    return OpenAIWire(key, errors="xai")


def chat(body: dict[str, Any], *, usage_always: bool = False, extras: Mapping[str, Any] = _NOTHING) -> Step:
    """Answer a chat request, in one piece or as a stream."""
    answer = answer_to(_question(body))
    choices = body.get("n", 1)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": CREATED, "model": body["model"]}
    head |= {"system_fingerprint": "fp_player", **extras}
    if body.get("stream"):
        asked = bool(body.get("stream_options", {}).get("include_usage"))
        return stream_step(_chat_stream(head, answer, choices, asked, usage_always))
    whole = {
        "choices": [
            {
                "index": index,
                "message": _message(answer),
                "logprobs": _logprobs(answer.text) if body.get("logprobs") else None,
                "finish_reason": _FINISH[answer.stopped],
            }
            for index in range(choices)
        ],
        "usage": usage_of(answer),
    }
    return json_step({**head, "object": "chat.completion", **whole}, headers={"x-request-id": "req_player"})


def _message(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{call.id}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in answer.calls
        ]
    return message


def _logprobs(text: str) -> dict[str, Any]:
    return {"content": [{"token": word, "logprob": -0.1, "bytes": None, "top_logprobs": []} for word in words(text)]}


def _chat_stream(
    head: dict[str, Any], answer: Answer, choices: int, usage_asked: bool, usage_always: bool
) -> Iterator[bytes]:
    nothing = {"usage": None} if usage_asked and not usage_always else {}
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None, **more: object) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "choices": [choice], **nothing, **more})

    for index in range(choices):
        yield chunk(index, {"role": "assistant", "content": None if answer.calls else "", "refusal": None})
        for delta in _deltas(answer):
            yield chunk(index, delta)
        more = {"usage": usage_of(answer)} if usage_always else {}
        yield chunk(index, {}, _FINISH[answer.stopped], **more)
    if usage_asked and not usage_always:
        yield event({**head, "choices": [], "usage": usage_of(answer)})
    yield DONE


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    for piece in answer.pieces:
        yield {"content": piece}
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": f"call_{call.id}", "type": "function", "function": function}]}
        for piece in call.pieces():
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def usage_of(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _question(body: dict[str, Any]) -> Question:
    last = body["messages"][-1]
    users = [message for message in body["messages"] if message["role"] == "user"]
    parts = _parts(users[-1]["content"]) if users else []
    choice = body.get("tool_choice")
    tools = [] if choice == "none" else body.get("tools", [])
    format_ = body.get("response_format", {})
    json_object = {"type": "object", "properties": {"answer": {"type": "string"}}}
    schema = format_.get("json_schema", {}).get("schema") or (
        json_object if format_.get("type") == "json_object" else None
    )
    return Question(
        text="".join(part["text"] for part in parts if part["type"] == "text"),
        images=tuple(image(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"),
        tools=tuple(Tool(tool["function"]["name"], tool["function"].get("parameters", {})) for tool in tools),
        tool_result=str(last["content"]) if last["role"] == "tool" else None,
        forced_tool=choice["function"]["name"] if isinstance(choice, dict) else None,
        parallel=body.get("parallel_tool_calls", True),
        schema=schema,
        max_tokens=body.get("max_completion_tokens", body.get("max_tokens")),
    )


def _parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def image(url: str) -> tuple[str, int]:
    """Media type and size of a `data:` URI; an address stands for itself, of unknown size."""
    if not url.startswith("data:"):
        return url, -1
    media, _, content = url.removeprefix("data:").partition(";base64,")
    return media, base64_size(content)


def completion(body: dict[str, Any], *, usage_always: bool = False) -> Step:
    """Answer a legacy text completion."""
    prompt = body["prompt"] if isinstance(body["prompt"], str) else body["prompt"][0]
    answer = answer_to(Question(text=prompt, max_tokens=body.get("max_tokens")))
    head = {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": CREATED}
    head["model"] = body["model"]

    def choices(text: str, finish: str | None) -> list[dict[str, Any]]:
        return [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]

    finish = _FINISH[answer.stopped]
    if not body.get("stream"):
        return json_step({**head, "choices": choices(answer.text, finish), "usage": usage_of(answer)})
    pieces = [event({**head, "choices": choices(piece, None)}) for piece in answer.pieces]
    pieces.append(event({**head, "choices": choices("", finish)}))
    if usage_always or body.get("stream_options", {}).get("include_usage"):
        pieces.append(event({**head, "choices": [], "usage": usage_of(answer)}))
    return stream_step([*pieces, DONE])


def embeddings(body: dict[str, Any]) -> Step:
    """Answer with one vector for each text, each text being a string or a list of token numbers."""
    given = body["input"]
    texts = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
    vectors = [vector(str(text), body.get("dimensions", 8)) for text in texts]
    as_base64 = body.get("encoding_format") == "base64"
    rows = [
        {"object": "embedding", "index": index, "embedding": _packed(numbers) if as_base64 else numbers}
        for index, numbers in enumerate(vectors)
    ]
    tokens = sum(len(text.split()) if isinstance(text, str) else len(text) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_step({"object": "list", "data": rows, "model": body["model"], "usage": usage})


def _packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
