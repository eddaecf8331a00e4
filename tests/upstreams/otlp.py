"""An OTLP collector on a real socket, over HTTP or gRPC: takes traces and metrics, or plays dead."""

import gzip
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from typing_extensions import override

_TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


class Collected:
    """What came.

    Args:
        raw: Each request as its protobuf bytes.
        headers: Of each request, with lower-case names.
        status: Answered over HTTP, or refused with over gRPC if it is not 200.
        hangs: Requests are taken and never answered, until the collector ends.
    """

    def __init__(self, *, hangs: bool = False) -> None:
        self.endpoint = ""
        self.port = 0
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []
        self.resources: list[dict[str, Any]] = []
        self.status = 200
        self.hangs = hangs
        self.over = threading.Event()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.raw.append(body)
        self.headers.append(headers)
        if self.hangs:
            self.over.wait(60)
        if self.status != 200:
            return
        if "trace" in path.lower():
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(resource.resource.attributes))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        else:
            for sent in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(attributes(sent.resource.attributes))
                self.metrics += [metric for scope in sent.scope_metrics for metric in scope.metrics]

    async def until(self, reached: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait for something to have come."""
        with anyio.fail_after(within_s):
            while not reached():  # noqa: ASYNC110  it comes in a thread
                await anyio.sleep(0.005)

    async def named(self, name: str, within_s: float = 10.0) -> Span:
        """Wait for a span by its name."""
        await self.until(lambda: any(span.name == name for span in self.spans), within_s)
        return next(span for span in self.spans if span.name == name)


@contextmanager
def http_collector(*, port: int = 0, hangs: bool = False) -> Iterator[Collected]:
    """Listen for OTLP over HTTP with protobuf."""
    collected = Collected(hangs=hangs)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collected.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(collected.status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        @override
        def handle_error(self, *_: object) -> None: ...  # peers that leave are part of the play

    with Server(("127.0.0.1", port), Handler) as server:
        collected.port = server.server_address[1]
        collected.endpoint = f"http://127.0.0.1:{collected.port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield collected
        finally:
            collected.over.set()
            server.shutdown()
            thread.join(5)


@contextmanager
def grpc_collector(*, port: int = 0, hangs: bool = False) -> Iterator[Collected]:
    """Listen for OTLP over gRPC."""
    collected = Collected(hangs=hangs)

    def export(path: str) -> Any:
        def take(body: bytes, context: Any) -> bytes:
            collected.take(path, dict(context.invocation_metadata()), body)
            if collected.status != 200:
                context.abort(grpc.StatusCode.UNAVAILABLE, "told to refuse")
            return b""

        return grpc.unary_unary_rpc_method_handler(take)

    class Services(grpc.GenericRpcHandler):  # type: ignore[misc]  # untyped
        def service(self, call: Any) -> Any:
            return export(call.method) if call.method in {_TRACES, _METRICS} else None

    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[Services()], options=[("grpc.so_reuseport", 0)])
        collected.port = server.add_insecure_port(f"127.0.0.1:{port}")
        collected.endpoint = f"http://127.0.0.1:{collected.port}"
        server.start()
        try:
            yield collected
        finally:
            collected.over.set()
            server.stop(0).wait(5)


def attributes(pairs: Any) -> dict[str, Any]:
    """Read attributes as Python values."""
    return {pair.key: _value(pair.value) for pair in _listed(pairs)}


def _listed(pairs: Any) -> list[KeyValue]:
    return list(pairs)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
