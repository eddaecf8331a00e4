"""What the gateway reads of an answer: usage, the model's name, and an error that hides behind a 200."""

from typing import Any

import msgspec
from msgspec import Struct


class PromptDetails(Struct):
    """OpenAI's `prompt_tokens_details`."""

    cached_tokens: int | None = None


class CompletionDetails(Struct):
    """OpenAI's `completion_tokens_details`."""

    reasoning_tokens: int | None = None


class UsageFields(Struct):
    """OpenAI's `usage`; `None` where the provider says nothing."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Answer(Struct):
    """The fields of an answer, or of one event of a stream, that mean something here."""

    usage: UsageFields | None = None
    model: str | None = None
    error: Any = None


_ANSWER = msgspec.json.Decoder(Answer)
# The decoder checks a text's bytes only where it reads the text, and says so in an exception of its own kind.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_answer(body: bytes) -> Answer | None:
    """Read an upstream's JSON object; `None` when it is none (then the answer is broken)."""
    try:
        return _ANSWER.decode(body)
    except msgspec.ValidationError:
        return _lenient(body)
    except _UNREADABLE:
        return None


def _lenient(body: bytes) -> Answer | None:
    """Providers differ in details that matter to nobody else: what cannot be read is left out, not the answer."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        error = msgspec.json.decode(fields["error"]) if "error" in fields else None
    except _UNREADABLE:
        return None
    answer = Answer(error=error)
    for name, kind in (("usage", UsageFields | None), ("model", str | None)):
        if name in fields:
            try:
                setattr(answer, name, msgspec.json.decode(fields[name], type=kind, strict=False))
            except _UNREADABLE:
                continue
    return answer


def alone(chunk: bytes) -> bytes:
    """Make OpenAI's usage chunk of one that tells the usage beside its choices; empty if it is no JSON."""
    try:
        fields = msgspec.json.decode(chunk, type=dict[str, msgspec.Raw])
    except _UNREADABLE:
        return b""
    fields["choices"] = msgspec.Raw(b"[]")
    return msgspec.json.encode(fields)
