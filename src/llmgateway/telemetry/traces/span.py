"""A span as values: what is left of a request once it is over."""

from typing import Final

from msgspec import Struct

Value = str | bool | int | float | list[str]
Attributes = dict[str, Value]
# OTLP's numbers (opentelemetry/proto/trace/v1/trace.proto).
INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3


class SpanEvent(Struct):
    """Something that happened at a moment.

    Args:
        at_ns: Unix nanoseconds.
    """

    name: str
    at_ns: int
    attributes: Attributes


class Span(Struct):
    """One stretch of work.

    Args:
        state: W3C `tracestate`.
        remote_parent: Whether the parent is another program's.
        failed: Its status is ERROR.
        links: Spans that it has to do with, as trace and span.
    """

    trace_id: int
    id: int
    parent_id: int
    name: str
    kind: int
    started_ns: int
    ended_ns: int
    attributes: Attributes
    events: list[SpanEvent]
    state: str = ""
    remote_parent: bool = False
    failed: bool = False
    links: tuple[tuple[int, int], ...] = ()
