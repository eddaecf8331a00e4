"""Sends spans away, from a thread of its own: no request waits for a collector, whatever that does or does not do."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from anyio import to_thread
from structlog.typing import FilteringBoundLogger

from llmgateway.exchange import Exchange, Header, Trace
from llmgateway.telemetry.traces.context import begin
from llmgateway.telemetry.traces.encode import encode
from llmgateway.telemetry.traces.otlp_settings import OTLP, Collector
from llmgateway.telemetry.traces.sampling import SAMPLERS
from llmgateway.telemetry.traces.sending import NotSentError, Sender, sender
from llmgateway.telemetry.traces.span import Span
from llmgateway.telemetry.traces.spans import spans_of

# A collector that is started anew is back by then; what waits meanwhile is bounded.
_WAITS_S = (1.0, 2.0, 4.0, 8.0)
_TELL_EVERY_S = 60.0
# Of the two seconds that the end of the process may be held up: for what waits, then for what hangs.
_LAST_S = 1.5
_FAREWELL_S = 0.4


class Traces:
    """Begins a trace for each request, and sends away the spans of those that are kept.

    Args:
        otlp: What OTEL_* say; without `otlp.traces` ids are made for the log, and no span.
        logger: Told at most once a minute that spans are lost.
        connect: Makes the connection to the collector, in the thread.
    """

    def __init__(
        self, otlp: OTLP, logger: FilteringBoundLogger, *, connect: Callable[[Collector], Sender] = sender
    ) -> None:
        self._otlp = otlp
        self._sampler = SAMPLERS["always_off"] if otlp.traces is None else otlp.sampler
        self._waiting: deque[Span] = deque()
        self._full = 0  # written by the event loop
        self._wake = threading.Event()
        self._exporting: _Exporting | None = None
        if otlp.traces is not None:
            connected = partial(connect, otlp.traces)
            self._exporting = _Exporting(otlp, logger, connected, waiting=self._waiting, wake=self._wake)

    @property
    def exported(self) -> int:
        """How many spans a collector took."""
        return 0 if self._exporting is None else self._exporting.exported

    @property
    def dropped(self) -> int:
        """How many spans were lost: too many waited, or nobody took them."""
        return self._full + (0 if self._exporting is None else self._exporting.failed)

    def begin(self, headers: Sequence[Header]) -> Trace:
        """Give a request its place in a trace."""
        return begin(headers, self._sampler)

    def record(self, exchange: Exchange) -> None:
        """Take the spans of an exchange that is over, if its trace is kept."""
        trace = exchange.trace
        if trace is not None and trace.sampled and self._exporting is not None:
            self.take(spans_of(exchange, capture=self._otlp.capture_content))

    def take(self, spans: Sequence[Span]) -> None:
        """Take spans to be sent away."""
        if self._exporting is None:
            return
        if len(self._waiting) + len(spans) > self._otlp.max_queue:
            self._full += len(spans)
            return
        self._waiting.extend(spans)
        if self._exporting.started:
            if len(self._waiting) >= self._otlp.max_batch:
                self._wake.set()
        elif spans:
            # The first that is kept: a process that exports nothing has no thread, and none goes through a fork.
            self._exporting.start()

    async def close(self) -> None:
        """Send what waits and end, within two seconds in any case."""
        if self._exporting is not None and self._exporting.started:
            await to_thread.run_sync(self._exporting.end)


class _Exporting:
    """The thread's side."""

    def __init__(
        self,
        otlp: OTLP,
        logger: FilteringBoundLogger,
        connect: Callable[[], Sender],
        *,
        waiting: deque[Span],
        wake: threading.Event,
    ) -> None:
        self._otlp = otlp
        self._timeout_most_s = 10.0 if otlp.traces is None else otlp.traces.timeout_s
        self._logger = logger
        self._connect = connect
        self._waiting = waiting
        self._wake = wake
        self._over = threading.Event()
        self._ends_at: float | None = None
        self._sender: Sender | None = None
        self._told_at: float | None = None
        # A daemon: a collector that hangs does not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="otlp-traces", daemon=True)
        self.started = False
        self.exported = 0
        self.failed = 0

    def start(self) -> None:
        self.started = True
        self._thread.start()

    def end(self) -> None:
        self._ends_at = time.monotonic() + _LAST_S
        self._over.set()
        self._wake.set()
        self._thread.join(_LAST_S)
        if self._thread.is_alive() and self._sender is not None:
            self._sender.close()
            self._thread.join(_FAREWELL_S)

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait(self._otlp.schedule_delay_s)
            self._wake.clear()
            while self._waiting:
                count = min(len(self._waiting), self._otlp.max_batch)
                self._export([self._waiting.popleft() for _ in range(count)])
        if self._sender is not None:
            self._sender.close()

    def _export(self, spans: list[Span]) -> None:
        try:
            refused = self._send(encode(spans, self._otlp.resource))
        except NotSentError as error:
            self._lost(len(spans), str(error))
        except (OSError, ValueError, TypeError) as error:  # a certificate that is not there; a value OTLP does not have
            self._lost(len(spans), f"{type(error).__name__}: {error}")
        else:
            self.exported += len(spans) - refused
            if refused:
                self._lost(refused, "the collector refused some spans")

    def _send(self, body: bytes) -> int:
        if self._sender is None:
            self._sender = self._connect()
        for wait_s in _WAITS_S:
            try:
                return self._sender.send(body, self._timeout_s())
            except NotSentError as error:
                if not error.may_retry or self._over.wait(wait_s):
                    raise
        return self._sender.send(body, self._timeout_s())

    def _timeout_s(self) -> float:
        if self._ends_at is None:
            return self._timeout_most_s
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise NotSentError("the gateway ended before the collector took them", may_retry=False)
        return min(self._timeout_most_s, left_s)

    def _lost(self, count: int, reason: str) -> None:
        self.failed += count
        now = time.monotonic()
        if self._told_at is None or now - self._told_at > _TELL_EVERY_S:
            self._told_at = now
            self._logger.warning("spans_dropped", reason=reason, dropped=self.failed)
