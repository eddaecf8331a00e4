"""Spans leave in the background; whatever the collector does, no request waits and memory does not grow."""

import io
import json
import threading
import time
from typing import Any

from structlog.typing import FilteringBoundLogger

from llmgateway.exchange import Exchange, Trace
from llmgateway.telemetry.logs import LineSink, build_logger
from llmgateway.telemetry.traces.export import Traces
from llmgateway.telemetry.traces.otlp_settings import OTLP, Collector, read_otlp
from llmgateway.telemetry.traces.sending import NotSentError
from tests.telemetry.exchanges import MAIN, ended, until

TAKES: dict[str, str] = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.test:4318", "OTEL_BSP_SCHEDULE_DELAY": "10"}


class Log:
    def __init__(self) -> None:
        self._written = io.BytesIO()
        self._sink = LineSink(self._written)
        self.logger: FilteringBoundLogger = build_logger(self._sink, level="debug", log_format="json")

    def lines(self) -> list[dict[str, Any]]:
        self._sink.flush()
        return [json.loads(line) for line in self._written.getvalue().splitlines()]


class Scripted:
    """A collector's end: refuses, hangs, or takes what comes."""

    def __init__(
        self, *, refuses: bool = False, may_retry: bool = False, hangs: bool = False, rejects: int = 0
    ) -> None:
        self.refuses, self.may_retry, self.hangs, self.rejects = refuses, may_retry, hangs, rejects
        self.bodies: list[bytes] = []
        self.closed = threading.Event()

    def send(self, body: bytes, timeout_s: float) -> int:
        self.bodies.append(body)
        if self.hangs:
            self.closed.wait(timeout_s)
            raise NotSentError("late", may_retry=True)
        if self.refuses:
            raise NotSentError("no", may_retry=self.may_retry)
        return self.rejects

    def close(self) -> None:
        self.closed.set()


def traces(there: Scripted, log: Log | None = None, **otel: str) -> Traces:
    return Traces(read_otlp({**TAKES, **otel}), (log or Log()).logger, connect=lambda _: there)


def one(*, sampled: bool = True) -> Exchange:
    return ended((MAIN, 1.0, "ok"), path="/v1/embeddings", method="POST", trace=Trace(1, 2, sampled=sampled))


async def test_spans_of_kept_traces_leave() -> None:
    there = Scripted()
    sent = traces(there)
    sent.record(one())
    sent.record(one(sampled=False))
    await until(lambda: sent.exported == 3)
    await sent.close()

    assert (len(there.bodies), sent.dropped, there.closed.is_set()) == (1, 0, True)


async def test_what_waits_leaves_at_the_end() -> None:
    sent = traces(Scripted(), OTEL_BSP_SCHEDULE_DELAY="60000")
    sent.record(one())
    await sent.close()

    assert sent.exported == 3


async def test_a_full_batch_does_not_wait_for_its_time() -> None:
    sent = traces(Scripted(), OTEL_BSP_SCHEDULE_DELAY="60000", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="3")
    sent.record(one())
    sent.record(one())
    await until(lambda: sent.exported == 6)
    await sent.close()


async def test_without_a_collector_ids_are_made_and_no_thread() -> None:
    threads = threading.active_count()
    sent = Traces(OTLP(), Log().logger)
    trace = sent.begin([(b"traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01".encode())])
    sent.record(one())
    await sent.close()

    assert (trace.trace_id, trace.sampled, trace.parent_sampled) == (int("ab" * 16, 16), False, True)
    assert (sent.exported, sent.dropped, threading.active_count()) == (0, 0, threads)


async def test_refused_spans_are_counted_and_told_once() -> None:
    """Pitfall 73."""
    log = Log()
    sent = traces(Scripted(refuses=True), log, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="3")
    for _ in range(50):
        sent.record(one())
    await until(lambda: sent.dropped == 150)
    await sent.close()

    assert sent.exported == 0
    assert [line["reason"] for line in log.lines() if line["event"] == "spans_dropped"] == ["no"]


async def test_spans_that_the_collector_takes_only_in_part_are_counted() -> None:
    sent = traces(Scripted(rejects=1))
    sent.record(one())
    await until(lambda: sent.exported == 2)
    await sent.close()

    assert sent.dropped == 1


async def test_what_waits_is_bounded_and_no_request_is_held_up() -> None:
    there = Scripted(hangs=True)
    sent = traces(there, OTEL_BSP_MAX_QUEUE_SIZE="30")
    begin = time.perf_counter()
    for _ in range(1000):
        sent.record(one())
    took_s = time.perf_counter() - begin
    dropped = sent.dropped
    await sent.close()

    assert dropped >= 3000 - 30 - 30
    assert took_s < 1


async def test_the_end_takes_no_longer_than_two_seconds_of_a_collector_that_hangs() -> None:
    there = Scripted(hangs=True)
    sent = traces(there)
    sent.record(one())
    await until(lambda: bool(there.bodies))
    begin = time.perf_counter()
    await sent.close()

    assert time.perf_counter() - begin < 2.2


async def test_it_is_tried_again_when_it_may_be() -> None:
    there = Scripted(refuses=True, may_retry=True)
    sent = traces(there)
    sent.record(one())
    await until(lambda: bool(there.bodies))
    there.refuses = False
    await until(lambda: sent.exported == 3)
    await sent.close()

    assert sent.dropped == 0


async def test_a_connection_that_cannot_be_made_loses_spans_and_nothing_else() -> None:
    log = Log()

    def connect(_: Collector) -> Scripted:
        raise FileNotFoundError(2, "no such file", "/ca.pem")

    sent = Traces(read_otlp(TAKES), log.logger, connect=connect)
    sent.record(one())
    await until(lambda: sent.dropped == 3)
    await sent.close()

    assert "/ca.pem" in log.lines()[0]["reason"]
