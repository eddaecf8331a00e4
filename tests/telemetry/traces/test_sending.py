"""One export request, over either protocol, to collectors that take it and that do not."""

import gzip
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmgateway.telemetry.traces.encode import encode
from llmgateway.telemetry.traces.otlp_settings import Collector, read_otlp
from llmgateway.telemetry.traces.sending import NotSentError, sender
from llmgateway.telemetry.traces.span import SERVER, Span
from tests.upstreams.otlp import Collected, grpc_collector, http_collector

BODY = encode([Span(1, 2, 0, "here", SERVER, 1, 2, {"a": "b" * 200}, [])], {"service.name": "s"})


def at(endpoint: str, protocol: str) -> Collector:
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    collector = read_otlp({**otel, "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=7"}).traces
    assert collector is not None
    return collector


@pytest.fixture(params=["http/protobuf", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def collected(protocol: str) -> Iterator[Collected]:
    with grpc_collector() if protocol == "grpc" else http_collector() as running:
        yield running


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_it_arrives_with_its_headers(collected: Collected, protocol: str, compression: str) -> None:
    collector = at(collected.endpoint, protocol)
    there = sender(replace(collector, compression="gzip" if compression == "gzip" else "none"))

    assert [there.send(BODY, 5.0), there.send(BODY, 5.0)] == [0, 0]
    there.close()
    assert [span.name for span in collected.spans] == ["here", "here"]
    assert collected.headers[0]["x-tenant"] == "7"
    assert collected.raw[0] == BODY
    assert len(gzip.compress(BODY)) < len(BODY)


def test_a_collector_that_is_busy_may_be_asked_again(collected: Collected, protocol: str) -> None:
    collected.status = 503
    there = sender(at(collected.endpoint, protocol))
    with pytest.raises(NotSentError) as raised:
        there.send(BODY, 5.0)
    there.close()

    assert raised.value.may_retry


def test_over_http_a_refusal_is_final() -> None:
    with http_collector() as collected:
        collected.status = 401
        there = sender(at(collected.endpoint, "http/protobuf"))
        with pytest.raises(NotSentError, match="401") as raised:
            there.send(BODY, 5.0)

    assert not raised.value.may_retry


def test_nobody_there_is_known_at_once(protocol: str) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        there = sender(at(f"http://127.0.0.1:{taken.getsockname()[1]}", protocol))
        begin = time.perf_counter()
        with pytest.raises(NotSentError) as raised:
            there.send(BODY, 5.0)
        there.close()

    assert raised.value.may_retry
    assert time.perf_counter() - begin < 4


def test_silence_has_an_end(protocol: str) -> None:
    with grpc_collector(hangs=True) if protocol == "grpc" else http_collector(hangs=True) as hanging:
        there = sender(at(hanging.endpoint, protocol))
        with pytest.raises(NotSentError) as raised:
            there.send(BODY, 0.3)
        there.close()

    assert raised.value.may_retry


def test_a_closed_connection_sends_nothing() -> None:
    with grpc_collector() as collected:
        there = sender(at(collected.endpoint, "grpc"))
        there.close()
        with pytest.raises(NotSentError):
            there.send(BODY, 1.0)

    assert collected.spans == []


def test_a_certificate_that_is_not_there_is_an_error(tmp_path: Path, protocol: str) -> None:
    missing = str(tmp_path / "ca.pem")
    collector = replace(at("https://127.0.0.1:1", protocol), certificate=missing)
    with pytest.raises((OSError, NotSentError)):
        sender(collector).send(BODY, 1.0)
