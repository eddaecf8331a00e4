"""What a trace tells of a question and its answer without their content: parameters, the answer's id, why it ended.

Read for sampled requests only, and leniently: a body that is odd here costs attributes, never a request.
"""

import re
from typing import Any

import msgspec
from msgspec import Struct

from llmgateway.exchange import Call, Complete, Reply, Streamed
from llmgateway.telemetry.traces.span import Attributes
from llmgateway.wire.secrets import hide_keys

# Reading takes about a millisecond for each megabyte, on the event loop.
MAX_READ_BYTES = 1024 * 1024
_MAX_TEXT_CHARS = 256
_MAX_STOPS = 16
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Asked(Struct):
    """The parameters of a question; anything may be of any type."""

    temperature: Any = None
    top_p: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    seed: Any = None
    stop: Any = None
    n: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None


class _Choice(Struct):
    finish_reason: Any = None


class _Answered(Struct):
    id: Any = None
    choices: list[_Choice] | None = None


_ASKED = msgspec.json.Decoder(Asked)
_ANSWERED = msgspec.json.Decoder(_Answered)
_GOES_ON = re.compile(rb"^(?!data:)|\"finish_reason\": ?null")
_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
_COUNTS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
}


def parameters(call: Call) -> Attributes:
    """Give `gen_ai.request.*` of a call, but for the model."""
    attributes: Attributes = {"gen_ai.request.stream": True} if call.stream else {}
    asked = _read(call.body)
    if asked is None:
        return attributes
    for field, name in _NUMBERS.items():
        if _is_number(value := getattr(asked, field)):
            attributes[name] = float(value)
    for field, name in _COUNTS.items():
        if _is_count(value := getattr(asked, field)):
            attributes[name] = value
    # One choice is what everybody gets.
    if _is_count(asked.n) and asked.n != 1:
        attributes["gen_ai.request.choice.count"] = asked.n
    if asked.stop is not None and (stops := _texts(asked.stop)):
        attributes["gen_ai.request.stop_sequences"] = stops
    return attributes


def ending(reply: Reply | None) -> Attributes:
    """Give the id of an answer and why it ended, as far as the last of it tells."""
    match reply:
        case Complete(body=body) if len(body) <= MAX_READ_BYTES:
            pieces = [body]
        case Streamed(heard=heard) if heard is not None:
            # Most events say only that it goes on.
            pieces = [line[5:] for line in heard.tail().splitlines() if _GOES_ON.search(line) is None]
        case _:
            return {}
    id_, reasons = "", []
    for piece in pieces:
        try:
            answered = _ANSWERED.decode(piece)
        except UNREADABLE:
            continue
        if isinstance(answered.id, str):
            id_ = answered.id
        reasons += [choice.finish_reason for choice in answered.choices or () if isinstance(choice.finish_reason, str)]
    attributes: Attributes = {}
    if id_:
        attributes["gen_ai.response.id"] = id_[:_MAX_TEXT_CHARS]
    if reasons:
        attributes["gen_ai.response.finish_reasons"] = [reason[:_MAX_TEXT_CHARS] for reason in reasons]
    return attributes


def _read(body: bytes) -> Asked | None:
    if len(body) > MAX_READ_BYTES:
        return None
    try:
        return _ASKED.decode(body)
    except UNREADABLE:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15  # noqa: PLR2004


def _is_count(value: object) -> bool:
    # What OTLP's 64 bits hold.
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def _texts(value: object) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    return [hide_keys(text)[:_MAX_TEXT_CHARS] for text in texts[:_MAX_STOPS] if isinstance(text, str)]
