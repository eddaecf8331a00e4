"""Sends the `gen_ai.*` metrics over OTLP, from a thread of its own. Of this package, the one module that knows the SDK.

Our own sums are handed to the SDK's exporter as they are: what a request costs does not depend on where they go. What
cannot be delivered is part of the next delivery, because sums only grow.
"""

import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from structlog.typing import FilteringBoundLogger

from llmgateway.telemetry.metrics.genai import GenAI, Measured
from llmgateway.telemetry.metrics.metrics import Metrics
from llmgateway.telemetry.traces.otlp_settings import OTLP, Collector

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricExporter, MetricsData

_SCOPE = "llmgateway"
# The last delivery must not hold up the end of the process: this long, and again as long for whoever must be told.
_LAST_S = 1.5
_FAREWELL_S = 0.4


class OTLPMetrics:
    """Delivers the metrics of this process at an interval, and once more at its end.

    Args:
        otlp: What OTEL_* say; `otlp.metrics` is where they go.
        metrics: What Prometheus is shown: the sums that are the same are taken from there.
        logger: Told once when the receiver takes nothing, and once when it does again.
    """

    def __init__(self, otlp: OTLP, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        if otlp.metrics is None:
            raise ValueError("OTEL_* name no receiver of metrics")
        self._collector = otlp.metrics
        self._every_s = otlp.metric_interval_s
        self._resource = dict(otlp.resource)
        self._genai = GenAI(metrics.series)
        self.record = self._genai.record
        self._logger = logger
        self._started_ns = time.time_ns()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._exporter: MetricExporter | None = None
        self._reached = True
        self.delivered = 0
        self.failed = 0

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    async def close(self) -> None:
        """Deliver once more and end, within two seconds in any case."""
        self._over.set()
        if self._thread.is_alive():
            await to_thread.run_sync(self._wait)

    def _wait(self) -> None:
        self._thread.join(_LAST_S)
        if self._thread.is_alive() and self._exporter is not None:
            # It would try again and again for as long as its time limit lets it.
            self._exporter.shutdown()
            self._thread.join(_FAREWELL_S)

    def _run(self) -> None:
        # Half a second of imports, that only who sends OTLP pays, and no request waits for.
        self._over.wait(min(1.0, self._every_s))
        try:
            self._exporter = exporter = _exporter(self._collector)
        except (OSError, ValueError) as error:
            self._logger.error("otlp_metrics_impossible", reason=str(error))  # noqa: TRY400  the reason says it all
            return
        last = False
        while not last:
            last = self._over.wait(self._every_s)
            self._deliver(exporter)
        exporter.shutdown()

    def _deliver(self, exporter: "MetricExporter") -> None:
        from opentelemetry.sdk.metrics.export import MetricExportResult  # noqa: PLC0415  see `_run`

        sums = _as_sdk(self._genai.measured(), self._resource, self._started_ns)
        try:
            result = exporter.export(sums)
        except ValueError:  # gRPC: its channel was closed at this very moment
            result = MetricExportResult.FAILURE
        if result is MetricExportResult.SUCCESS:
            self.delivered += 1
            if not self._reached:
                self._reached = True
                self._logger.info("otlp_metrics_delivered_again", failed=self.failed)
            return
        self.failed += 1
        if self._reached:
            self._reached = False
            self._logger.warning("otlp_metrics_not_delivered", protocol=self._collector.protocol)


def _exporter(collector: Collector) -> "MetricExporter":
    # It writes a line with each failure: ours is the one that is wanted.
    logging.getLogger("opentelemetry.exporter.otlp.proto").setLevel(logging.CRITICAL)
    if collector.protocol == "grpc":
        return _over_grpc(collector)
    from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415  see `_run`
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    return OTLPMetricExporter(
        endpoint=collector.endpoint,
        headers=dict(collector.headers),
        timeout=collector.timeout_s,
        compression=Compression.Gzip if collector.compression == "gzip" else Compression.NoCompression,
        certificate_file=collector.certificate,
        client_key_file=collector.client_key,
        client_certificate_file=collector.client_certificate,
    )


def _over_grpc(collector: Collector) -> "MetricExporter":
    import grpc  # type: ignore[import-untyped]  # noqa: PLC0415  only who sends over gRPC
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    credentials = None
    if collector.secure:
        files = (collector.certificate, collector.client_key, collector.client_certificate)
        credentials = grpc.ssl_channel_credentials(
            *(None if name is None else Path(name).read_bytes() for name in files)
        )
    return OTLPMetricExporter(
        endpoint=collector.endpoint,
        insecure=not collector.secure,
        credentials=credentials,
        headers=collector.headers,
        timeout=collector.timeout_s,
        compression=grpc.Compression.Gzip if collector.compression == "gzip" else grpc.Compression.NoCompression,
    )


def _as_sdk(measured: Iterable[Measured], resource: dict[str, str], started_ns: int) -> "MetricsData":
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

    now_ns = time.time_ns()
    metrics = [_metric(one, started_ns, now_ns) for one in measured if one.points]
    scope = ScopeMetrics(InstrumentationScope(_SCOPE, resource.get("service.version")), metrics, "")
    return MetricsData([ResourceMetrics(Resource(resource), [scope], "")])


def _metric(measured: Measured, started_ns: int, now_ns: int) -> "Metric":
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
        AggregationTemporality,
        Histogram,
        HistogramDataPoint,
        Metric,
    )

    points = [
        HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=started_ns,
            time_unix_nano=now_ns,
            count=sum(counts),
            sum=total,
            bucket_counts=counts,
            explicit_bounds=measured.bounds,
            min=None,  # type: ignore[arg-type]  # optional in the protocol, and nobody asks for them
            max=None,  # type: ignore[arg-type]  # likewise
        )
        for attributes, (counts, total) in measured.points
    ]
    return Metric(measured.name, measured.help, measured.unit, Histogram(points, AggregationTemporality.CUMULATIVE))
