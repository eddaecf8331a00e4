"""What a Python program asks, and the pieces of what it gets; translation to and from OpenAI's JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from llmgateway.errors import InvalidRequestError
from llmgateway.exchange import Call, Usage
from llmgateway.wire.requests import read_chat

JSON = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A chat request; a field that is `None` is not sent.

    Args:
        messages: OpenAI's messages. Give these or `prompt`.
        prompt: A text, sent as the one message of the user.
        stream: Whether the answer comes in pieces or as one chunk.
        timeout_s: Seconds the whole answer may take; `None` sets no limit beside those of providers and streams.
        extra: Further fields of OpenAI's API, such as `seed` or `reasoning_effort`.
    """

    model: str
    messages: Sequence[JSON] | None = None
    prompt: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stream: bool = True
    stop: str | Sequence[str] | None = None
    tools: Sequence[JSON] | None = None
    response_format: JSON | None = None
    user: str | None = None
    timeout_s: float | None = None
    extra: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of an answer.

    Args:
        content: The text of this piece, maybe empty.
        usage: The tokens of the whole answer, in its last chunk where the provider counts.
        finish_reason: Why the answer ended: `stop`, `length`, `tool_calls`, `content_filter`; else `None`.
        model: The model as the provider reports it.
        tool_calls: OpenAI's; in a stream in pieces, of which those with the same `index` belong together.
        index: Which of the answers this belongs to, when the request asked for several (`n`).
    """

    content: str
    usage: Usage | None = None
    finish_reason: str | None = None
    model: str | None = None
    tool_calls: tuple[JSON, ...] = ()
    index: int = 0


def call_of(request: CompletionRequest) -> Call:
    """Make the call, checked as a request over HTTP is.

    Raises:
        InvalidRequestError: A field is wrong; neither or both of `messages` and `prompt`.
    """
    if (request.messages is None) == (request.prompt is None):
        raise InvalidRequestError("Give either `messages` or `prompt`.", param="messages")
    messages = [{"role": "user", "content": request.prompt}] if request.messages is None else request.messages
    fields = {
        **request.extra,
        "model": request.model,
        "messages": messages,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "stop": request.stop,
        "tools": request.tools,
        "response_format": request.response_format,
        "user": request.user,
        "stream": request.stream or None,
        "stream_options": {"include_usage": True} if request.stream else None,
    }
    try:
        body = msgspec.json.encode({name: value for name, value in fields.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"The request cannot be written as JSON: {error}.") from error
    needs = read_chat(body).needs()
    return Call("chat", request.model, body, stream=request.stream, include_usage=request.stream, needs=needs)


def chunks_of(answer: bytes) -> Iterator[Chunk]:
    """Read a chat completion, or one chunk of a stream: one `Chunk` a choice; one of usage alone has no text."""
    fields = msgspec.json.decode(answer, type=dict[str, Any])
    usage, model, choices = _usage(fields.get("usage")), fields.get("model"), fields.get("choices") or []
    for at, choice in enumerate(choices):
        said = choice.get("message") or choice.get("delta") or {}
        yield Chunk(
            content=said.get("content") or "",
            # With several choices it is said once, so that adding up counts right.
            usage=usage if at == len(choices) - 1 else None,
            finish_reason=choice.get("finish_reason"),
            model=model,
            tool_calls=tuple(said.get("tool_calls") or ()),
            index=choice.get("index", at),
        )
    if not choices and usage is not None:
        yield Chunk(content="", usage=usage, model=model)


def _usage(fields: dict[str, Any] | None) -> Usage | None:
    if not fields:
        return None
    return Usage(
        prompt_tokens=fields.get("prompt_tokens") or 0,
        completion_tokens=fields.get("completion_tokens") or 0,
        cached_tokens=(fields.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        reasoning_tokens=(fields.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    )
