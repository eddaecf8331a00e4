"""The built-in demo models `echo` and `summary`: a whole provider without a key, a network or a model.

Deterministic but for ids and dates, so that a fresh start, the documentation and the tests have something real to ask.
`system_fingerprint: "demo"` marks every answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from llmgateway.catalog.model import Deployment
from llmgateway.errors import InvalidJSONError
from llmgateway.exchange import Call, Complete, Reply, Streamed, Usage
from llmgateway.ids import new_id
from llmgateway.upstream.demo_answer import Answer, answer_chat, answer_completion
from llmgateway.upstream.demo_embedding import embed

# Below this an answer takes a few milliseconds; above it other requests must not wait for it.
_INLINE_BYTES = 256 * 1024
# A long answer comes in longer chunks instead of more of them: 5 s at the default pace, whatever its length.
_MAX_CHUNKS = 250


class DemoUpstream:
    """Answers accounts of the wire `demo`.

    Args:
        chunk_delay_s: Seconds between two chunks of a stream, so that a person sees it stream; tests pass 0.
    """

    def __init__(self, *, chunk_delay_s: float = 0.02) -> None:
        self._chunk_delay_s = chunk_delay_s

    async def send(self, deployment: Deployment, call: Call) -> Reply:
        if len(call.body) > _INLINE_BYTES:
            return await asyncio.to_thread(self._reply, deployment, call)
        return self._reply(deployment, call)

    async def close(self) -> None:
        return

    def _reply(self, deployment: Deployment, call: Call) -> Reply:
        body = {**deployment.defaults, **_read(call.body)}
        model = f"{deployment.account.provider}/{deployment.model}"
        if call.operation == "embedding":
            vectors, tokens = embed(body, model)
            return Complete(msgspec.json.encode(vectors), usage=Usage(prompt_tokens=tokens), model=model)
        form = _CHAT if call.operation == "chat" else _COMPLETION
        answer = form.answer(body, deployment.model, drop_unsupported=deployment.drop_unsupported)
        frame = _frame(form, model, stream=call.stream)
        if call.stream:
            usage = Usage(prompt_tokens=answer.prompt_tokens)
            chunks = self._paced(form, frame, answer, usage, include_usage=call.include_usage)
            return Streamed(chunks, usage=usage, model=model)
        usage = Usage(answer.prompt_tokens, answer.completion_tokens)
        return Complete(_whole(form, frame, answer, usage), usage=usage, model=model)

    async def _paced(
        self, form: "_Form", frame: dict[str, Any], answer: Answer, usage: Usage, *, include_usage: bool
    ) -> AsyncGenerator[bytes]:
        if include_usage:
            frame = {**frame, "usage": None}  # OpenAI streaming: every chunk but the last then has a null usage
        for tokens, choices in _steps(form, answer):
            usage.completion_tokens += tokens
            yield _event({**frame, "choices": choices})
            if tokens:
                await asyncio.sleep(self._chunk_delay_s)
        if include_usage:
            yield _event({**frame, "choices": [], "usage": _usage(usage)})
        yield b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class _Form:
    """How an operation looks on the wire; `opening` is the first chunk's choice, `None` where there is none."""

    id_prefix: str
    object: str
    stream_object: str
    answer: Callable[..., Answer]
    choice: Callable[[str], dict[str, Any]]
    delta: Callable[[str], dict[str, Any]]
    closing: dict[str, Any]
    opening: dict[str, Any] | None = None


_CHAT = _Form(
    id_prefix="chatcmpl",
    object="chat.completion",
    stream_object="chat.completion.chunk",
    answer=answer_chat,
    choice=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    delta=lambda text: {"delta": {"content": text}},
    closing={"delta": {}},
    opening={"delta": {"role": "assistant", "content": "", "refusal": None}},
)
_COMPLETION = _Form(
    id_prefix="cmpl",
    object="text_completion",
    stream_object="text_completion",
    answer=answer_completion,
    choice=lambda text: {"text": text},
    delta=lambda text: {"text": text},
    closing={"text": ""},
)


def _read(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidJSONError(f"The body is not a JSON object: {error}") from error


def _frame(form: _Form, model: str, *, stream: bool) -> dict[str, Any]:
    return {
        "id": new_id(form.id_prefix),
        "object": form.stream_object if stream else form.object,
        "created": int(datetime.now(UTC).timestamp()),
        "model": model,
        "system_fingerprint": "demo",
    }


def _whole(form: _Form, frame: dict[str, Any], answer: Answer, usage: Usage) -> bytes:
    choices = [
        {"index": index, **form.choice("".join(pieces)), "logprobs": None, "finish_reason": reason}
        for index, (pieces, reason) in enumerate(zip(answer.choices, answer.finish_reasons, strict=True))
    ]
    return msgspec.json.encode({**frame, "choices": choices, "usage": _usage(usage)})


def _steps(form: _Form, answer: Answer) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Give each chunk's tokens and choices, all choices side by side as OpenAI sends them: one choice a chunk."""
    every = range(len(answer.choices))
    if form.opening is not None:
        for index in every:
            yield 0, [_choice(index, form.opening)]
    longest = max(len(pieces) for pieces in answer.choices)
    stride = -(-longest // _MAX_CHUNKS) or 1
    for start in range(0, longest, stride):
        for index in every:
            if pieces := answer.choices[index][start : start + stride]:
                yield len(pieces), [_choice(index, form.delta("".join(pieces)))]
    for index in every:
        yield 0, [_choice(index, form.closing, answer.finish_reasons[index])]


def _choice(index: int, said: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, **said, "logprobs": None, "finish_reason": finish_reason}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
