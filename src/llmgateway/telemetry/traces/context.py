"""W3C trace context and baggage, in and out: what a client says is passed on only if it is as the standard has it.

https://www.w3.org/TR/trace-context and https://www.w3.org/TR/baggage
"""

import random
import re
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from llmgateway.exchange import Header, Trace
from llmgateway.telemetry.traces.sampling import Sampler

MAX_STATE_BYTES = 512
MAX_BAGGAGE_BYTES = 8192
_MAX_STATE_MEMBERS = 32
_MAX_BAGGAGE_MEMBERS = 180
_LONG_STATE_MEMBER_BYTES = 128
_TRACEPARENT = re.compile(rb"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?[ \t]*")
_STATE_MEMBER = re.compile(
    rb"(?:[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}|[a-z][a-z0-9_*/-]{0,255})"
    rb"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rb"[!#-+\--:<-\[\]-~]*"
_BAGGAGE_MEMBER = re.compile(
    rb"%b[ \t]*=[ \t]*%b(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*%b)?)*" % (_TOKEN, _VALUE, _TOKEN, _VALUE)
)
_ODD_DIGITS = b"13579bdf"
TRACE_HEADERS = frozenset((b"traceparent", b"tracestate", b"baggage"))
_name_of = itemgetter(0)


class Parent(NamedTuple):
    """The client's span."""

    trace_id: int
    span_id: int
    sampled: bool


def begin(headers: Sequence[Header], sampler: Sampler) -> Trace:
    """Give a request its place: in the client's trace, or in one of its own.

    Args:
        headers: With lower-case names, as ASGI gives them.
    """
    if headers and not TRACE_HEADERS.isdisjoint(map(_name_of, headers)):
        return _continued([header for header in headers if header[0] in TRACE_HEADERS], sampler)
    trace_id = random.getrandbits(128) or 1
    return Trace(trace_id, random.getrandbits(64) or 1, 0, sampler.keeps(trace_id, None))


def _continued(headers: list[Header], sampler: Sampler) -> Trace:
    parents = _values(headers, b"traceparent")
    # Several say nothing: nobody knows which is meant.
    parent = read_traceparent(parents[0]) if len(parents) == 1 else None
    if parent is None:
        trace = begin((), sampler)
    else:
        trace_id, parent_id, parent_sampled = parent
        sampled = sampler.keeps(trace_id, parent_sampled)
        trace = Trace(trace_id, new_span_id(), parent_id, sampled, parent_sampled=parent_sampled)
    if len(headers) > len(parents):
        # A state without its trace is nobody's.
        trace.state = "" if parent is None else read_tracestate(_values(headers, b"tracestate"))
        trace.baggage = read_baggage(_values(headers, b"baggage"))
    return trace


def new_span_id() -> int:
    """Make the id of a span."""
    return random.getrandbits(64) or 1


def read_traceparent(value: bytes) -> Parent | None:
    """Read a `traceparent` of version 00, or what 00 has of a later one; `None` if it is none."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    # A later version may have more behind another dash; ff is none.
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    return Parent(trace_id, span_id, flags[1] in _ODD_DIGITS) if trace_id and span_id else None


def write_traceparent(trace_id: int, span_id: int, *, sampled: bool) -> str:
    """Write a `traceparent` of version 00."""
    return f"00-{trace_id:032x}-{span_id:016x}-{'01' if sampled else '00'}"


def read_tracestate(values: Sequence[bytes]) -> str:
    """Read a `tracestate`, in one header or several; empty if any of it is wrong.

    One that is too long loses its long members first, then the last ones: the first are the latest.
    """
    members = _members(values)
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > _MAX_STATE_MEMBERS or len(keys) < len(members):
        return ""
    if not all(map(_STATE_MEMBER.fullmatch, members)):
        return ""
    if len(b",".join(members)) > MAX_STATE_BYTES:
        members = [member for member in members if len(member) <= _LONG_STATE_MEMBER_BYTES]
    return _within(members, MAX_STATE_BYTES)


def read_baggage(values: Sequence[bytes]) -> str:
    """Read `baggage`, in one header or several: the members that are right, as many as may be passed on."""
    members = [member for member in _members(values) if _BAGGAGE_MEMBER.fullmatch(member)]
    return _within(members[:_MAX_BAGGAGE_MEMBERS], MAX_BAGGAGE_BYTES)


def outgoing(trace: Trace, span_id: int) -> tuple[tuple[str, str], ...]:
    """Give the headers that tell an upstream its place in the trace.

    Where no spans are kept here but the client keeps its own, the upstream's hang from the client's.

    Args:
        span_id: Of the attempt.
    """
    through = trace.parent_sampled and not trace.sampled
    parent_id, sampled = (trace.parent_id, True) if through else (span_id, trace.sampled)
    headers: tuple[tuple[str, str], ...] = (
        ("traceparent", write_traceparent(trace.trace_id, parent_id, sampled=sampled)),
    )
    if trace.state:
        headers += (("tracestate", trace.state),)
    if trace.baggage:
        headers += (("baggage", trace.baggage),)
    return headers


def _values(headers: list[Header], name: bytes) -> list[bytes]:
    return [value for found, value in headers if found == name]


def _members(values: Sequence[bytes]) -> list[bytes]:
    return [member for value in values for part in value.split(b",") if (member := part.strip(b" \t"))]


def _within(members: list[bytes], max_bytes: int) -> str:
    size_bytes = -1
    for count, member in enumerate(members):
        size_bytes += 1 + len(member)
        if size_bytes > max_bytes:
            members = members[:count]
            break
    return b",".join(members).decode("ascii")
