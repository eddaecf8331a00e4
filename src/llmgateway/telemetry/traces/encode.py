"""Spans into OTLP's protobuf, written by hand: the classes of its own library take nearly three times as long.

A field is a tag, of its number and its kind, then its value; texts and messages have their length before them
(https://protobuf.dev/programming-guides/encoding). The numbers are those of opentelemetry/proto/trace/v1/trace.proto
and common/v1/common.proto.
"""

import struct
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache

from llmgateway.telemetry.traces.span import Attributes, Span, SpanEvent, Value

_SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200  # SpanFlags
_FAILED = b"\x7a\x02\x18\x02"  # status: its code is STATUS_CODE_ERROR
_LINK = b"\x6a\x1c"  # of 28 bytes
_LAST_GROUP = 0x7F  # numbers up to it take one byte
_SHORT = tuple(bytes((size,)) for size in range(_LAST_GROUP + 1))
# Different in each request: keeping them would drive out what repeats.
_UNIQUE = frozenset(("llmgateway.request_id", "gen_ai.response.id", "url.path"))
_MAX_KEPT_CHARS = 64
_AT_A_TIME = 32

_ids = struct.Struct(">BB16sBB8s").pack
_kind_and_times = struct.Struct("<BBBQBQ").pack
_flags = struct.Struct("<HI").pack
_moment = struct.Struct("<BQ").pack
_double = struct.Struct("<Bd").pack


def encode(spans: Sequence[Span], resource: Mapping[str, str]) -> bytes:
    """Write an export request.

    Raises:
        ValueError: A number is too large for it.
    """
    written = []
    for number, span in enumerate(spans):
        if not number % _AT_A_TIME:
            # Lets the event loop have the interpreter now, instead of after the switch interval of 5 ms.
            time.sleep(0)
        try:
            written.append(_sized(b"\x12", _span(span)))
        except (struct.error, OverflowError) as error:
            raise ValueError(f"a number is too large: {error}") from error
    scope = _text(b"\x0a", "llmgateway") + _text(b"\x12", resource.get("service.version", ""))
    inner = _sized(b"\x0a", scope) + b"".join(written) + _text(b"\x1a", _SCHEMA)
    about = _sized(b"\x0a", _pairs(b"\x0a", {**resource}))
    return _sized(b"\x0a", about + _sized(b"\x12", inner) + _text(b"\x1a", _SCHEMA))


def _span(span: Span) -> bytes:
    return b"".join(
        (
            _ids(0x0A, 16, span.trace_id.to_bytes(16), 0x12, 8, span.id.to_bytes(8)),
            _text(b"\x1a", span.state),
            b"\x22\x08" + span.parent_id.to_bytes(8) if span.parent_id else b"",
            _text(b"\x2a", span.name),
            _kind_and_times(0x30, span.kind, 0x39, span.started_ns, 0x41, max(span.started_ns, span.ended_ns)),
            _pairs(b"\x4a", span.attributes),
            *[_sized(b"\x5a", _event(event)) for event in span.events],
            *[
                _LINK + _ids(0x0A, 16, trace_id.to_bytes(16), 0x12, 8, span_id.to_bytes(8))
                for trace_id, span_id in span.links
            ],
            _FAILED if span.failed else b"",
            _flags(0x0185, 1 | _HAS_IS_REMOTE | (_IS_REMOTE if span.remote_parent else 0)),
        )
    )


def _event(event: SpanEvent) -> bytes:
    return _moment(0x09, event.at_ns) + _text(b"\x12", event.name) + _pairs(b"\x1a", event.attributes)


def _pairs(tag: bytes, attributes: Attributes) -> bytes:
    return b"".join(
        [
            _kept(tag, name, value)
            if (type(value) is str and len(value) <= _MAX_KEPT_CHARS and name not in _UNIQUE) or type(value) is int
            else _pair(tag, name, value)
            for name, value in attributes.items()
        ]
    )


def _pair(tag: bytes, name: str, value: Value) -> bytes:
    return _sized(tag, _name(name) + _sized(b"\x12", _value(value)))


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    return _text(b"\x0a", name)


@lru_cache(maxsize=4096)
def _kept(tag: bytes, name: str, value: str | int) -> bytes:
    return _pair(tag, name, value)


def _value(value: Value) -> bytes:
    # The commonest first; a bool is an int.
    if isinstance(value, str):
        return _sized(b"\x0a", value.encode(errors="replace"))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _number(int.from_bytes(value.to_bytes(8, signed=True)))  # negative ones as if unsigned
    if isinstance(value, float):
        return _double(0x21, value)
    return _sized(b"\x2a", b"".join([_sized(b"\x0a", _value(text)) for text in value]))


def _text(tag: bytes, text: str) -> bytes:
    """Write a text that is left out when it is empty."""
    return _sized(tag, text.encode(errors="replace")) if text else b""


def _sized(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    return tag + (_SHORT[size] if size <= _LAST_GROUP else _number(size)) + content


def _number(number: int) -> bytes:
    """Write a number in groups of seven bits, the lowest first; all but the last have the highest bit set."""
    groups = bytearray()
    while number > _LAST_GROUP:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
