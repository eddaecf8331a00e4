import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from typing_extensions import override

from llmgateway.exchange import Usage
from llmgateway.telemetry.logs import LineSink, build_logger
from llmgateway.telemetry.metrics import Metrics
from llmgateway.telemetry.metrics.otlp import OTLPMetrics
from llmgateway.telemetry.traces.otlp_settings import OTLP, read_otlp
from tests.telemetry.exchanges import MAIN, ended, until


class Received:
    """What a receiver was sent, and its answer to the next."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200

    async def first(self) -> ExportMetricsServiceRequest:
        await until(lambda: bool(self.requests))
        return self.requests[0]


@contextmanager
def http_receiver() -> Iterator[tuple[str, Received]]:
    received = Received()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.headers.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
            status = received.status
            if status == 200:
                received.requests.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()
        thread.join()


@contextmanager
def grpc_receiver() -> Iterator[tuple[str, Received]]:
    received = Received()

    class Receiver(MetricsServiceServicer):
        @override
        def Export(self, request: ExportMetricsServiceRequest, context: Any) -> ExportMetricsServiceResponse:
            received.headers.append(dict(context.invocation_metadata()))
            received.requests.append(request)
            return ExportMetricsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    add_MetricsServiceServicer_to_server(Receiver(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", received
    server.stop(None).wait()


class Sending:
    """Metrics on their way to a receiver."""

    def __init__(self, url: str, **otel: str) -> None:
        self._log = BytesIO()
        self._sink = LineSink(self._log)
        given = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_METRIC_EXPORT_INTERVAL": "50", **otel}
        logger = build_logger(self._sink, level="debug", log_format="json")
        self.metrics = Metrics("1.2.3")
        self.otlp = OTLPMetrics(read_otlp(given, version="1.2.3"), self.metrics, logger)

    def answer(self) -> None:
        exchange = ended(
            (MAIN, 1.5, "ok"), took_s=2.0, first_chunk_s=1.0, stream=True, usage=Usage(10, 11), cost_usd=0.1
        )
        self.metrics.record(exchange)
        self.otlp.record(exchange)

    def log(self) -> str:
        self._sink.flush()
        return self._log.getvalue().decode()

    async def until(self, **counts: int) -> None:
        await until(lambda: all(getattr(self.otlp, name) >= count for name, count in counts.items()))


def points(request: ExportMetricsServiceRequest) -> Mapping[str, list[Any]]:
    (scope,) = request.resource_metrics[0].scope_metrics
    return {metric.name: list(metric.histogram.data_points) for metric in scope.metrics}


def attributes(point: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in point.attributes}


@pytest.mark.parametrize(("receiver", "protocol"), [(http_receiver, "http/protobuf"), (grpc_receiver, "grpc")])
async def test_a_receiver_gets_the_sums(receiver: Any, protocol: str) -> None:
    with receiver() as (url, received):
        sending = Sending(
            url,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_HEADERS="X-Tenant=blue",
            OTEL_SERVICE_NAME="mine",
        )
        sending.answer()
        sending.otlp.start()
        request = await received.first()
        sending.answer()
        await sending.otlp.close()

    resource = {pair.key: pair.value.string_value for pair in request.resource_metrics[0].resource.attributes}
    assert (resource["service.name"], resource["service.version"]) == ("mine", "1.2.3")
    assert received.headers[0]["x-tenant"] == "blue"
    found = points(request)
    assert set(found) == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usage",
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
    }
    (duration,) = found["gen_ai.server.request.duration"]
    assert (duration.count, duration.sum) == (1, pytest.approx(2.0))
    assert list(duration.explicit_bounds)[:3] == [0.01, 0.02, 0.04]
    assert sum(duration.bucket_counts) == 1
    assert attributes(duration) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "chat",
    }
    last = points(received.requests[-1])["gen_ai.server.request.duration"][0]
    assert last.count == 2
    assert last.start_time_unix_nano == duration.start_time_unix_nano < last.time_unix_nano


async def test_a_receiver_that_fails_is_told_of_once_and_gets_all_later() -> None:
    with http_receiver() as (url, received):
        received.status = 400
        sending = Sending(url)
        sending.answer()
        sending.otlp.start()
        await sending.until(failed=3)
        received.status = 200
        request = await received.first()
        await sending.until(delivered=2)
        await sending.otlp.close()

    assert received.headers[0]["path"] == "/v1/metrics"
    assert points(request)["gen_ai.server.request.duration"][0].count == 1
    assert sending.log().count("otlp_metrics_not_delivered") == 1
    assert sending.log().count("otlp_metrics_delivered_again") == 1
    assert sending.log().count("\n") == 2


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_dead_receiver_does_not_hold_up_the_end(protocol: str) -> None:
    with socket.socket() as nobody:  # takes connections and never says a word
        nobody.bind(("127.0.0.1", 0))
        nobody.listen()
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        sending = Sending(url, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_EXPORTER_OTLP_TIMEOUT="3000")
        sending.answer()
        sending.otlp.start()
        await until(lambda: sending.otlp._exporter is not None)  # noqa: SLF001  it is importing
        began = time.perf_counter()

        await sending.otlp.close()

        assert time.perf_counter() - began < 2.0
        sending.otlp._thread.join(5)  # noqa: SLF001  a test leaves no thread behind


async def test_a_certificate_that_is_not_there_is_told(tmp_path: Path) -> None:
    sending = Sending(
        "https://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_CERTIFICATE=str(tmp_path / "none.pem"),
    )
    sending.otlp.start()
    await until(lambda: "otlp_metrics_impossible" in sending.log())

    await sending.otlp.close()


class Closed:
    """An exporter whose channel has just been closed."""

    def export(self, _: object) -> None:
        raise ValueError("Cannot invoke RPC on closed channel!")


def test_a_channel_that_is_closed_meanwhile_is_a_failure() -> None:
    sending = Sending("http://127.0.0.1:9")

    sending.otlp._deliver(Closed())  # type: ignore[arg-type]  # noqa: SLF001  no timing brings this about for sure

    assert (sending.otlp.delivered, sending.otlp.failed) == (0, 1)


def test_there_must_be_a_receiver() -> None:
    with pytest.raises(ValueError, match="no receiver"):
        OTLPMetrics(OTLP(), Metrics("1"), build_logger(LineSink(BytesIO()), level="info", log_format="json"))


async def test_what_was_never_started_ends_at_once() -> None:
    await Sending("http://127.0.0.1:9").otlp.close()
