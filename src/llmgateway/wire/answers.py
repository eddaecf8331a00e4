"""What the gateway reads of an answer: usage, the model's name, and an error that hides behind a 200."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

# More than any answer has: a number beyond it is a provider's mistake.
_Count = Annotated[int, Meta(ge=0, le=10**9)]


class WriteDetails(Struct):
    """How long the provider keeps what it wrote to its cache, in LiteLLM's form of Anthropic's `cache_creation`."""

    ephemeral_1h_input_tokens: _Count | None = None


class PromptDetails(Struct):
    """OpenAI's `prompt_tokens_details`, with the other name and the details that LiteLLM has for cache writes."""

    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    cache_creation_tokens: _Count | None = None
    cache_creation_token_details: WriteDetails | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None


class CompletionDetails(Struct):
    """OpenAI's `completion_tokens_details`."""

    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None


class UsageFields(Struct):
    """OpenAI's `usage`; `None` where the provider says nothing.

    Args:
        prompt_cache_hit_tokens: DeepSeek's name for what was read from its cache; `cached_tokens` is Moonshot's.
        service_tier: Anthropic says it here, OpenAI beside the usage.
    """

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: _Count | None = None
    cached_tokens: _Count | None = None
    service_tier: str | None = None


# Why a model stopped that did not come to its end, in OpenAI's words and in those that some providers let through.
_CUT = frozenset({"length", "max_tokens", "content_filter", "safety", "error", "abort", "cancelled", "timeout"})
_NOTHING = msgspec.Raw()


def is_end(reason: str | None) -> bool:
    """Whether a model that says this of why it stopped came to its own end."""
    return reason is not None and reason.lower() not in _CUT


class Choice(Struct, gc=False):
    """One of an answer's choices, without what it says."""

    finish_reason: str | None = None


class Answer(Struct):
    """The fields of an answer, or of one event of a stream, that mean something here."""

    usage: UsageFields | None = None
    model: str | None = None
    service_tier: str | None = None
    error: Any = None
    kind: Any = msgspec.field(default=None, name="object")
    choices: list[Choice] | None = None
    embeddings: msgspec.Raw = msgspec.field(default=_NOTHING, name="data")

    @property
    def is_failure(self) -> bool:
        """Whether it says that something went wrong: by `error`, or by Mistral's `object: error`."""
        return bool(self.error) or self.kind == "error"

    @property
    def is_answer(self) -> bool:
        """Whether it holds what a chat, a completion or an embedding answers with."""
        return self.choices is not None or _is_list(self.embeddings)

    @property
    def is_whole(self) -> bool:
        """Whether it came to its own end in every choice."""
        if not self.choices:
            return False
        # A loop, for `all` would make a generator for each call.
        for choice in self.choices:  # noqa: SIM110
            if not is_end(choice.finish_reason):
                return False
        return True


_ANSWER = msgspec.json.Decoder(Answer)
# The decoder checks a text's bytes only where it reads the text, and says so in an exception of its own kind.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FORMS: dict[str, Any] = {
    "choices": list[Choice] | None,
    "model": str | None,
    "service_tier": str | None,
}
# What a usage says beside its two counts, without which it is none.
_DETAILS: dict[str, Any] = {
    "total_tokens": int | None,
    "prompt_tokens_details": PromptDetails | None,
    "completion_tokens_details": CompletionDetails | None,
    "prompt_cache_hit_tokens": _Count | None,
    "cached_tokens": _Count | None,
    "service_tier": str | None,
}


def read_answer(body: bytes) -> Answer | None:
    """Read an upstream's JSON object; `None` when it is none (then the answer is broken)."""
    try:
        return _ANSWER.decode(body)
    except (msgspec.ValidationError, UnicodeDecodeError):
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
    answer.embeddings = fields.get("data", _NOTHING)
    # Choices that cannot be read are choices all the same.
    answer.choices = [] if _is_list(fields.get("choices", _NOTHING)) else None
    for name in fields.keys() & _FORMS:
        if (found := _read(fields[name], _FORMS[name])) is not None:
            setattr(answer, name, found)
    if "usage" in fields:
        answer.usage = _lenient_usage(fields["usage"])
    return answer


def _lenient_usage(usage: msgspec.Raw) -> UsageFields | None:
    """Read a usage without those of its details that cannot be read."""
    fields = _read(usage, dict[str, msgspec.Raw])
    if fields is None:
        return None
    for name in fields.keys() & _DETAILS:
        if _read(fields[name], _DETAILS[name]) is None:
            del fields[name]
    found: UsageFields | None = _read(msgspec.json.encode(fields), UsageFields)
    return found


def _read(value: msgspec.Raw | bytes, form: Any) -> Any:
    try:
        return msgspec.json.decode(value, type=form, strict=False)
    except _UNREADABLE:
        return None


def _is_list(value: msgspec.Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b"["


def alone(chunk: bytes) -> bytes:
    """Make OpenAI's usage chunk of one that tells the usage beside its choices; empty if it is no JSON."""
    try:
        fields = msgspec.json.decode(chunk, type=dict[str, msgspec.Raw])
    except _UNREADABLE:
        return b""
    fields["choices"] = msgspec.Raw(b"[]")
    return msgspec.json.encode(fields)
