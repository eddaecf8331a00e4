"""What one event of a provider adds to an answer (`Piece`), read from LiteLLM's own objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from llmgateway.exchange import Usage
from llmgateway.upstream import base
from llmgateway.wire.answers import UsageFields


@dataclass(slots=True)
class Tool:
    """A part of a tool call; `id` and `name` come with its first part.

    Args:
        number: The provider's own number of the call, if it has one; only told apart, never handed on.
    """

    number: int | None
    id: str | None
    name: str | None
    arguments: str

    @property
    def says_something(self) -> bool:
        """Whether it begins a call or adds to one."""
        return bool(self.id or self.name or self.arguments)


@dataclass(slots=True)
class Piece:
    """One event's share of one choice; what is not in it is `None`.

    Args:
        more: Further fields of OpenAI's delta or of a message, such as `thinking_blocks` or `annotations`.
        usage: In OpenAI's shape; the last one counts.
        model: As the provider reports it.
    """

    choice: int = 0
    content: str | None = None
    reasoning: str | None = None
    tools: list[Tool] | None = None
    more: dict[str, Any] | None = None
    finish: str | None = None
    usage: dict[str, Any] | None = None
    model: str | None = None
    logprobs: Any = None

    @property
    def says_something(self) -> bool:
        """Whether it holds a part of the answer itself."""
        return bool(self.content or self.reasoning or self.tools or self.more)


# OpenAI's, and the tokens that some providers ask more for because they go into their cache.
_DETAILS = (
    "cached_tokens",
    "cache_creation_tokens",
    "audio_tokens",
    "image_tokens",
    "reasoning_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
)
# Beyond OpenAI's own fields: what a client needs to show or to send back with the next turn.
_KEPT = ("thinking_blocks", "annotations", "images", "audio", "function_call", "refusal")


def pieces_of(chunk: Any) -> list[Piece]:
    """Read what LiteLLM's parsers return for an event: a `ModelResponseStream`, or the older dict."""
    if isinstance(chunk, dict):
        return [_older_piece(chunk)]
    usage = usage_fields(getattr(chunk, "usage", None), getattr(chunk, "service_tier", None))
    model = getattr(chunk, "model", None)
    pieces = [_piece(choice, choice.delta, model) for choice in chunk.choices]
    if not pieces:
        return [Piece(usage=usage, model=model)]
    pieces[-1].usage = usage
    return pieces


def answer_pieces(response: Any) -> list[Piece]:
    """Read LiteLLM's whole answer, a `ModelResponse`: one piece per choice, the usage with the last."""
    pieces = [_piece(choice, choice.message, response.model) for choice in response.choices]
    if pieces:
        pieces[-1].usage = usage_fields(getattr(response, "usage", None), getattr(response, "service_tier", None))
    return pieces


def usage_fields(usage: Any, service_tier: str | None = None) -> dict[str, Any] | None:
    """Give LiteLLM's usage in OpenAI's shape, without LiteLLM's own fields; the details only where there are any."""
    if usage is None:
        return None
    read: Callable[[str], Any] = usage.get if isinstance(usage, Mapping) else partial(_attribute, usage)
    prompt, completion = int(read("prompt_tokens") or 0), int(read("completion_tokens") or 0)
    fields: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": int(read("total_tokens") or prompt + completion),
    }
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        details = plain(read(name))
        if isinstance(details, dict) and (counts := _counts(details)):
            fields[name] = counts
    if service_tier:
        fields["service_tier"] = service_tier
    return fields


def usage_of(fields: Mapping[str, Any] | None) -> Usage | None:
    """Read the usage that the client gets, as it is read of OpenAI's wire; `None` where it cannot be meant."""
    try:
        return None if fields is None else base.usage_of(msgspec.convert(fields, UsageFields))
    except msgspec.ValidationError:
        return None


def plain(value: Any) -> Any:
    """Make JSON values of LiteLLM's pydantic objects, without what is not set."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(exclude_none=True)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def kept_fields(source: Any) -> dict[str, Any] | None:
    """Pick the further fields of a message or delta that go to the client."""
    found = {name: plain(value) for name in _KEPT if (value := getattr(source, name, None))}
    own = getattr(source, "provider_specific_fields", None) or {}
    citations = own.get("citations") or ([own["citation"]] if own.get("citation") else None)
    if citations:
        found["citations"] = plain(citations)
    return found or None


def tool_of(call: Any, number: int | None = None) -> Tool:
    """Read a tool call, or a part of one, from LiteLLM's object or dict."""
    fields = plain(call)
    function = fields.get("function") or {}
    return Tool(
        number=fields.get("index", number),
        id=fields.get("id") or None,
        name=function.get("name") or None,
        arguments=function.get("arguments") or "",
    )


def _attribute(source: object, name: str) -> Any:
    return getattr(source, name, None)


def _counts(details: dict[str, Any]) -> dict[str, Any]:
    found = ((name, details.get(name)) for name in _DETAILS)
    counts = {name: count for name, count in found if isinstance(count, int) and (count or name == "cached_tokens")}
    split = details.get("cache_creation_token_details") or {}
    return {**counts, **split_writes(split.get("ephemeral_5m_input_tokens"), split.get("ephemeral_1h_input_tokens"))}


def split_writes(five_minutes: int | None, an_hour: int | None) -> dict[str, Any]:
    """Tell for how long the provider keeps what it wrote, where not all of it is for the usual five minutes."""
    if not an_hour:
        return {}
    split = {"ephemeral_5m_input_tokens": five_minutes or 0, "ephemeral_1h_input_tokens": an_hour}
    return {"cache_creation_token_details": split}


def _piece(choice: Any, said: Any, model: str | None) -> Piece:
    calls = said.tool_calls
    return Piece(
        choice=choice.index,
        content=said.content,
        reasoning=getattr(said, "reasoning_content", None),
        tools=[tool for number, call in enumerate(calls) if (tool := tool_of(call, number)).says_something]
        if calls
        else None,
        more=kept_fields(said),
        finish=choice.finish_reason or None,
        model=model,
        logprobs=plain(getattr(choice, "logprobs", None)),
    )


def _older_piece(chunk: dict[str, Any]) -> Piece:
    tool = chunk.get("tool_use")
    return Piece(
        content=chunk.get("text") or None,
        tools=[tool_of(tool)] if tool else None,
        finish=chunk.get("finish_reason") if chunk.get("is_finished") else None,
        usage=usage_fields(chunk.get("usage")),
    )
