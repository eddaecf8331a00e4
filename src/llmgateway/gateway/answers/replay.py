"""A whole answer as the events of a stream, such as the provider would have sent (OpenAI, streaming of chats)."""

import re
from typing import Any

import msgspec

from llmgateway.wire.sse import DONE

# What every chunk of a stream says; the rest of what stands beside the choices is said once.
_IN_EACH = ("id", "created", "model", "system_fingerprint", "service_tier")
_KINDS = {"chat.completion": "chat.completion.chunk", "text_completion": "text_completion"}
# Texts that providers send in pieces; whatever else a message holds is sent in one.
_IN_PIECES = ("reasoning_content", "reasoning", "content", "refusal")
_WORDS = 3
_WORD_CHARS = 24
# A piece costs the envelope of a chunk, some hundred bytes: long texts have longer pieces.
_MOST_PIECES = 1000
_TOKENS = 4
_ENCODE = msgspec.json.Encoder().encode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Json = dict[str, Any]


def replay(body: bytes, *, include_usage: bool) -> tuple[bytes, ...] | None:
    """Give the events of a whole answer, one each; `None` when it is none that can be streamed.

    Args:
        include_usage: Whether the client asked for the chunk with the usage.
    """
    try:
        answer = msgspec.json.decode(body, type=Json)
        choices, once = _choices(answer), _once(answer)
        head = _head(answer, include_usage=include_usage)
    except (*_UNREADABLE, KeyError, TypeError):
        return None
    chunks = [{**head, "choices": [choice]} for choice in choices]
    if chunks:
        chunks[0] |= once
    if include_usage:
        chunks.append({**head, "choices": [], "usage": answer.get("usage")})
    return (*(b"data: %b\n\n" % _ENCODE(chunk) for chunk in chunks), DONE)


def _head(answer: Json, *, include_usage: bool) -> Json:
    head = {name: answer[name] for name in _IN_EACH if name in answer}
    head["object"] = _KINDS[answer["object"]]
    # OpenAI: with `include_usage` every other chunk has a usage of null.
    return head | {"usage": None} if include_usage else head


def _once(answer: Json) -> Json:
    return {name: answer[name] for name in answer if name not in {*_IN_EACH, "object", "choices", "usage"}}


def _choices(answer: Json) -> list[Json]:
    """Give what follows each other in `choices`, each choice from its first to its last."""
    pieces: list[Json] = []
    for place, choice in enumerate(answer["choices"]):
        index = choice.get("index", place)
        end = {name: choice[name] for name in choice if name not in {"index", "message", "text", "logprobs"}}
        # The key stands in all chunks of a provider that gives none.
        nothing = {"logprobs": None} if "logprobs" in choice else {}
        last: Json
        if "message" in choice:
            deltas, last = _message(choice["message"], choice.get("logprobs")), {"delta": {}}
        else:
            deltas, last = _text(choice["text"], choice.get("logprobs")), {"text": ""}
        pieces += [{"index": index, **nothing, "finish_reason": None, **delta} for delta in deltas]
        pieces.append({"index": index, **nothing, **last, **end})
    return pieces


def _message(message: Json, logprobs: Json | None) -> list[Json]:
    first: Json = {"delta": {name: _begun(name, message[name]) for name in message if name in {"role", *_IN_PIECES}}}
    deltas = [first]
    # Log probabilities are of the text the answer has, if it has one.
    said = next((name for name in ("content", "refusal") if isinstance(message.get(name), str)), None)
    for name in _IN_PIECES:
        text = message.get(name)
        if isinstance(text, str):
            own = logprobs is not None and name == said
            deltas += _with_logprobs(name, text, logprobs or {}) if own else [{"delta": {name: it}} for it in cut(text)]
    if logprobs is not None and said is None:
        first["logprobs"] = logprobs
    for index, tool_call in enumerate(message.get("tool_calls") or ()):
        deltas += [{"delta": {"tool_calls": [piece]}} for piece in _tool_call(index, tool_call)]
    rest = {name: message[name] for name in message if name not in {"role", "tool_calls", *_IN_PIECES}}
    if "tool_calls" in message and not message["tool_calls"]:
        rest["tool_calls"] = message["tool_calls"]
    return [*deltas, {"delta": rest}] if rest else deltas


def _begun(name: str, value: object) -> object:
    return "" if name in _IN_PIECES and isinstance(value, str) else value


def _tool_call(index: int, tool_call: Json) -> list[Json]:
    function = tool_call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(arguments, str):
        return [{"index": index, **tool_call}]
    begun = {"index": index, **tool_call, "function": {**function, "arguments": ""}}
    return [begun, *({"index": index, "function": {"arguments": piece}} for piece in cut(arguments))]


def _text(text: str, logprobs: Json | None) -> list[Json]:
    pieces: list[Json] = [{"text": piece} for piece in cut(text)] or [{"text": ""}]
    if logprobs is not None:
        pieces[0]["logprobs"] = logprobs
    return pieces


def _with_logprobs(name: str, text: str, logprobs: Json) -> list[Json]:
    """Cut a text where its tokens end, each piece with theirs; tokens that are not its pieces stay together."""
    tokens = logprobs.get(name)
    if not isinstance(tokens, list) or "".join(token["token"] for token in tokens) != text or not tokens:
        return [{"delta": {name: text}, "logprobs": logprobs}]
    step = max(_TOKENS, len(tokens) // _MOST_PIECES)
    groups = [tokens[start : start + step] for start in range(0, len(tokens), step)]
    pieces = [{"delta": {name: "".join(token["token"] for token in own)}, "logprobs": {name: own}} for own in groups]
    pieces[0]["logprobs"] = {**logprobs, name: groups[0]}
    return pieces


def cut(text: str) -> list[str]:
    """Cut a text into pieces of a few words that join to it again."""
    words = max(_WORDS, len(text) // (_MOST_PIECES * 4))
    # A search that must end in a word would look at white space behind the last one again and again.
    said = text.rstrip()
    found: list[str] = re.findall(rf"(?:\s*\S{{1,{_WORD_CHARS}}}){{1,{words}}}", said)
    rest = text[len(said) :]
    return [*found, rest] if rest else found
