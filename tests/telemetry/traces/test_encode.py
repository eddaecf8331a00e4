"""Spans as OTLP's protobuf, held against the classes that collectors read them with."""

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from llmgateway.telemetry.traces.encode import encode
from llmgateway.telemetry.traces.span import CLIENT, Attributes, Span, SpanEvent, Value
from tests.upstreams.otlp import attributes


def span(**more: object) -> Span:
    given: Attributes = {
        "text": "t",
        "long": "x" * 500,
        "yes": True,
        "one": 1,
        "part": 1.0,
        "many": ["a", "b"],
        "half": "\ud800",
    }
    made = Span(1 << 127, 1 << 63, 3, "chat gpt-4o", CLIENT, 1_000, 2_000, given, [SpanEvent("retry", 1_500, {"n": 2})])
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_everything_is_there() -> None:
    read = ExportTraceServiceRequest.FromString(encode([span(), span(failed=True)], {"service.version": "1.2"}))
    (resource,) = read.resource_spans
    (scope,) = resource.scope_spans
    first, second = scope.spans

    assert attributes(resource.resource.attributes) == {"service.version": "1.2"}
    assert (scope.scope.name, scope.scope.version) == ("llmgateway", "1.2")
    assert first.trace_id == (1 << 127).to_bytes(16, "big")
    assert (first.span_id, first.parent_span_id) == ((1 << 63).to_bytes(8, "big"), (3).to_bytes(8, "big"))
    assert (first.start_time_unix_nano, first.end_time_unix_nano, first.name) == (1_000, 2_000, "chat gpt-4o")
    told = attributes(first.attributes)
    assert told == {
        "text": "t",
        "long": "x" * 500,
        "yes": True,
        "one": 1,
        "part": 1.0,
        "many": ["a", "b"],
        "half": "?",
    }
    assert [type(told[name]) for name in ("yes", "one", "part")] == [bool, int, float]
    assert [(event.name, event.time_unix_nano, attributes(event.attributes)) for event in first.events] == [
        ("retry", 1_500, {"n": 2})
    ]
    assert (first.status.code, second.status.code) == (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR)


def test_a_first_span_has_no_parent_and_a_clients_is_marked_remote() -> None:
    read = ExportTraceServiceRequest.FromString(encode([span(parent_id=0), span(remote_parent=True)], {}))
    first, remote = read.resource_spans[0].scope_spans[0].spans

    assert (first.parent_span_id, first.flags, remote.flags) == (b"", 0x101, 0x301)


def test_links_name_other_spans() -> None:
    read = ExportTraceServiceRequest.FromString(encode([span(links=((5, 6), (1 << 127, 1 << 63)))], {}))
    (linked,) = read.resource_spans[0].scope_spans[0].spans

    assert [(link.trace_id, link.span_id) for link in linked.links] == [
        ((5).to_bytes(16, "big"), (6).to_bytes(8, "big")),
        ((1 << 127).to_bytes(16, "big"), (1 << 63).to_bytes(8, "big")),
    ]


def test_a_span_never_ends_before_it_begins() -> None:
    read = ExportTraceServiceRequest.FromString(encode([span(ended_ns=1)], {}))

    assert read.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano == 1_000


@pytest.mark.parametrize(
    "value",
    [
        *(0, 1, 127, 128, 2**14, 2**31, 2**63 - 1, -1, -(2**63)),
        *("", "x" * 63, "x" * 126, "x" * 127, "x" * 128, "x" * 20_000, "ä€😀"),
        *(False, 0.0, -1.5e300, [], [""], ["x" * 200]),
    ],
)
def test_each_value_is_written_as_the_library_of_protobuf_writes_it(value: Value) -> None:
    written = encode([span(attributes={"given": value}, state="a=b")], {"service.version": "1.2"})
    read = ExportTraceServiceRequest.FromString(written)

    assert attributes(read.resource_spans[0].scope_spans[0].spans[0].attributes) == {"given": value}
    assert read.SerializeToString() == written


@pytest.mark.parametrize(
    "more", [{"started_ns": 2**64}, {"attributes": {"given": 2**63}}, {"attributes": {"n": -(2**64)}}]
)
def test_what_it_cannot_hold_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="too large"):
        encode([span(**more)], {})
