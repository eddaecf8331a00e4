"""The events of a stream as the whole answer they make, such as the provider would have sent."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from llmgateway.exchange import Usage
from llmgateway.wire.sse import payload, split_events

_KINDS = {"chat.completion.chunk": "chat.completion", "text_completion": "text_completion"}
# Of all that a delta may hold only these are known to come in pieces that are joined.
_TEXTS = frozenset({"content", "refusal", "reasoning_content", "reasoning"})
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_CHOICE_PARTS = frozenset({"index", "delta", "text", "logprobs"})

Json = dict[str, Any]


class _UnclearError(ValueError):
    """These pieces join in a way that nobody has written down: better ask again than answer something else."""


def whole(chunks: Iterable[bytes], usage: Usage | None) -> bytes | None:
    """Give the answer that these events make; `None` when it cannot be told.

    Args:
        usage: What it used, for a stream that does not say it.
    """
    try:
        answer = _merged(_events(chunks))
    except (*_UNREADABLE, _UnclearError, KeyError, TypeError, AttributeError):
        return None
    if answer is None:
        return None
    if answer.get("usage") is None and usage is not None:
        answer["usage"] = _usage(usage)
    return msgspec.json.encode(answer)


def _events(chunks: Iterable[bytes]) -> Iterator[Json]:
    for event in split_events(b"".join(chunks)):
        found = payload(event)
        if found and found != b"[DONE]":
            yield msgspec.json.decode(found, type=Json)


def _merged(events: Iterator[Json]) -> Json | None:
    answer: Json = {}
    choices: dict[int, Json] = {}
    for event in events:
        for choice in event.pop("choices", None) or ():
            _add_choice(choices, choice)
        for name, value in event.items():
            if value is not None or name not in answer:
                answer[name] = answer.get(name) if name in {"id", "created"} and answer.get(name) else value
    if not choices:
        return None
    answer["object"] = _KINDS[answer["object"]]
    answer["choices"] = [_finished(choices[index]) for index in sorted(choices)]
    return answer


def _add_choice(choices: dict[int, Json], choice: Json) -> None:
    merged = choices.setdefault(choice.get("index", 0), {"index": choice.get("index", 0)})
    for name in choice:
        if name not in _CHOICE_PARTS and (choice[name] is not None or name not in merged):
            merged[name] = choice[name]
    if "delta" in choice:
        _add_delta(merged.setdefault("message", {}), choice["delta"] or {})
    elif "text" in choice:
        merged["text"] = merged.get("text", "") + (choice["text"] or "")
    if "logprobs" in choice:
        merged["logprobs"] = _with_logprobs(merged.get("logprobs"), choice["logprobs"])


def _add_delta(message: Json, delta: Json) -> None:
    for name, value in delta.items():
        before = message.get(name)
        if name == "tool_calls" and value:
            if not before:
                message[name] = {}
            for piece in value:
                _add_tool_call(message[name], piece)
        elif name == "function_call" and before is not None and value is not None:
            _add_function(before, value)
        elif before is None:
            message[name] = value
        elif value is not None:
            message[name] = _joined(name, before, value)


def _joined(name: str, before: Any, value: Any) -> Any:
    if name in _TEXTS and isinstance(before, str) and isinstance(value, str):
        return before + value
    # Some say the role in every chunk; empty is nothing new.
    if name == "role" or value in (before, "", [], {}):
        return before
    raise _UnclearError(name)


def _add_tool_call(tool_calls: dict[int, Json], piece: Json) -> None:
    index = piece.pop("index", None)
    if index is None:
        # Without an index a piece with an id begins a call, and one without goes on with the last.
        index = len(tool_calls) if piece.get("id") or not tool_calls else max(tool_calls)
    begun = tool_calls.setdefault(index, {})
    for name, value in piece.items():
        if name == "function" and isinstance(begun.get(name), dict) and value is not None:
            _add_function(begun[name], value)
        else:
            _set_once(begun, name, value)


def _add_function(function: Json, piece: Json) -> None:
    for name, value in piece.items():
        if name == "arguments" and isinstance(function.get(name), str) and isinstance(value, str):
            function[name] += value
        else:
            _set_once(function, name, value)


def _set_once(fields: Json, name: str, value: Any) -> None:
    before = fields.get(name)
    if before is None:
        fields[name] = value
    elif value is not None and value not in (before, ""):
        # Gemini's form of this wire gives two calls the same index.
        raise _UnclearError(name)


def _with_logprobs(before: Json | None, more: Json | None) -> Json | None:
    if before is None or more is None:
        return more if before is None else before
    for name, values in more.items():
        if before.get(name) is None:
            before[name] = values
        elif isinstance(values, list):
            before[name] += values
    return before


def _finished(choice: Json) -> Json:
    choice.setdefault("finish_reason", None)
    message = choice.get("message")
    if message is not None:
        message.setdefault("role", "assistant")
        message.setdefault("content", None)
        if isinstance(message.get("tool_calls"), dict):
            message["tool_calls"] = [message["tool_calls"][index] for index in sorted(message["tool_calls"])]
    return choice


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
