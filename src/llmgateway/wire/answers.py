"""What the gateway reads of an answer: usage, the model's name, and an error that hides behind a 200."""

from typing import Any

import msgspec
from msgspec import Struct


class WriteDetails(Struct):
    """How long the provider keeps what it wrote to its cache, in LiteLLM's form of Anthropic's `cache_creation`."""

    ephemeral_1h_input_tokens: int | None = None


class PromptDetails(Struct):
    """OpenAI's `prompt_tokens_details`, with the other name and the details that LiteLLM has for cache writes."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None
    cache_creation_token_details: WriteDetails | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class CompletionDetails(Struct):
    """OpenAI's `completion_tokens_details`."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class UsageFields(Struct):
    """OpenAI's `usage`; `None` where the provider says nothing.

    Args:
        prompt_cache_hit_tokens: DeepSeek's name for what was read from its cache; `cached_tokens` is Moonshot's.
        service_tier: Anthropic says it here, OpenAI beside the usage.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    service_tier: str | None = None


_NOTHING = msgspec.Raw()


class Answer(Struct):
    """The fields of an answer, or of one event of a stream, that mean something here."""

    usage: UsageFields | None = None
    model: str | None = None
    service_tier: str | None = None
    error: Any = None
    kind: Any = msgspec.field(default=None, name="object")
    choices: msgspec.Raw = _NOTHING
    embeddings: msgspec.Raw = msgspec.field(default=_NOTHING, name="data")

    @property
    def is_failure(self) -> bool:
        """Whether it says that something went wrong: by `error`, or by Mistral's `object: error`."""
        return bool(self.error) or self.kind == "error"

    @property
    def is_answer(self) -> bool:
        """Whether it holds what a chat, a completion or an embedding answers with."""
        return bytes(memoryview(self.choices)[:1]) == b"[" or bytes(memoryview(self.embeddings)[:1]) == b"["


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
        error, kind = (msgspec.json.decode(fields.get(name, b"null")) for name in ("error", "object"))
    except _UNREADABLE:
        return None
    answer = Answer(error=error, kind=kind)
    answer.choices, answer.embeddings = fields.get("choices", _NOTHING), fields.get("data", _NOTHING)
    for name, form in (("usage", UsageFields | None), ("model", str | None), ("service_tier", str | None)):
        if name in fields:
            try:
                setattr(answer, name, msgspec.json.decode(fields[name], type=form, strict=False))
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
