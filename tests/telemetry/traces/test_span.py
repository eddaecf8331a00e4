"""The kinds of spans have OTLP's numbers."""

from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from llmgateway.telemetry.traces.span import CLIENT, INTERNAL, SERVER


def test_kinds_have_otlps_numbers() -> None:
    kinds = (Message.SPAN_KIND_INTERNAL, Message.SPAN_KIND_SERVER, Message.SPAN_KIND_CLIENT)

    assert kinds == (INTERNAL, SERVER, CLIENT)
