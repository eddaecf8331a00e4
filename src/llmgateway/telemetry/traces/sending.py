"""One export request to a collector, over HTTP or gRPC. What it needs is imported by the thread that exports.

Not the SDK's exporters: those read the process's environment beside what they are given, and try again for a minute
without a word.
"""

import gzip
from pathlib import Path
from typing import Protocol

from llmgateway.telemetry.traces.otlp_settings import Collector

_SERVICE = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_MAX_REASON_CHARS = 300
_MAX_ANSWER_BYTES = 64 * 1024
# Worth another try (OTLP specification 1.9, "Failures").
_RETRYABLE_STATUSES = frozenset((429, 502, 503, 504))
_RETRYABLE_CODES = frozenset(
    ("CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
)
_RECONNECT_AFTER_MS = 5000


class NotSentError(Exception):
    """The collector did not take it.

    Args:
        may_retry: The same may be taken later.
    """

    def __init__(self, reason: str, *, may_retry: bool) -> None:
        super().__init__(reason[:_MAX_REASON_CHARS])
        self.may_retry = may_retry


class Sender(Protocol):
    """A connection to a collector."""

    def send(self, body: bytes, timeout_s: float) -> int:
        """Send an `ExportTraceServiceRequest` and return how many of its spans were refused.

        Raises:
            NotSentError: All of it was.
        """
        ...

    def close(self) -> None:
        """End what is on its way."""
        ...


def sender(collector: Collector) -> Sender:
    """Make a connection, which is opened when it is first used.

    Raises:
        OSError: A certificate cannot be read.
    """
    return _GRPC(collector) if collector.protocol == "grpc" else _HTTP(collector)


class _HTTP:
    def __init__(self, collector: Collector) -> None:
        import urllib3  # noqa: PLC0415  only who exports pays for it

        self._collector = collector
        self._failure = urllib3.exceptions.HTTPError
        self._timeout = urllib3.Timeout
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=collector.certificate,
            cert_file=collector.client_certificate,
            key_file=collector.client_key,
        )
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": "llmgateway",
            **dict(collector.headers),
        }
        if collector.compression == "gzip":
            self._headers["content-encoding"] = "gzip"

    def send(self, body: bytes, timeout_s: float) -> int:
        if self._collector.compression == "gzip":
            body = gzip.compress(body, compresslevel=6)
        try:
            response = self._pool.request(
                "POST",
                self._collector.endpoint,
                body=body,
                headers=self._headers,
                timeout=self._timeout(total=timeout_s),
                redirect=False,
                preload_content=False,
            )
            answer = response.read(_MAX_ANSWER_BYTES)
            response.drain_conn()
            response.release_conn()
        except (self._failure, OSError) as error:
            raise NotSentError(f"{type(error).__name__}: {error}", may_retry=True) from error
        if response.status // 100 != 2:  # noqa: PLR2004  any success
            raise NotSentError(f"HTTP status {response.status}", may_retry=response.status in _RETRYABLE_STATUSES)
        return _refused(answer)

    def close(self) -> None:
        self._pool.clear()


class _GRPC:
    def __init__(self, collector: Collector) -> None:
        import grpc  # type: ignore[import-untyped]  # noqa: PLC0415  only who exports pays for it

        self._failure = grpc.RpcError
        self._headers = collector.headers
        compression = grpc.Compression.Gzip if collector.compression == "gzip" else grpc.Compression.NoCompression
        options = [("grpc.max_reconnect_backoff_ms", _RECONNECT_AFTER_MS), ("grpc.primary_user_agent", "llmgateway")]
        if collector.secure:
            trusted, key, certificate = (
                None if path is None else Path(path).read_bytes()
                for path in (collector.certificate, collector.client_key, collector.client_certificate)
            )
            proof = grpc.ssl_channel_credentials(trusted, key, certificate)
            self._channel = grpc.secure_channel(collector.endpoint, proof, options, compression)
        else:
            self._channel = grpc.insecure_channel(collector.endpoint, options, compression)
        self._export = self._channel.unary_unary(_SERVICE)

    def send(self, body: bytes, timeout_s: float) -> int:
        try:
            answer: bytes = self._export(body, timeout=timeout_s, metadata=self._headers)
        except self._failure as error:
            code = error.code().name
            raise NotSentError(f"{code}: {error.details()}", may_retry=code in _RETRYABLE_CODES) from error
        except ValueError as error:  # the channel was closed meanwhile
            raise NotSentError(str(error), may_retry=False) from error
        return _refused(answer)

    def close(self) -> None:
        self._channel.close()


def _refused(answer: bytes) -> int:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415  as above
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse  # noqa: PLC0415

    try:
        return int(ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans)
    except DecodeError:  # taken all the same: some answer with JSON
        return 0
