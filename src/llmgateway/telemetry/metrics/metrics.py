"""The metrics of a web process, and through the folder that workers share, of all of them."""

import asyncio
import platform
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from anyio import to_thread
from msgspec import Struct

from llmgateway.exchange import Exchange
from llmgateway.telemetry.metrics.counting import Counting
from llmgateway.telemetry.metrics.exposition import render
from llmgateway.telemetry.metrics.families import FAMILIES
from llmgateway.telemetry.metrics.figures import Figures, Labels
from llmgateway.telemetry.metrics.footprint import measure
from llmgateway.telemetry.metrics.lag import watch_lag
from llmgateway.telemetry.metrics.series import Series, Sketch
from llmgateway.telemetry.metrics.shared import Shared
from llmgateway.telemetry.metrics.summary import summary

# A number, or one for each value of the only label, or of both labels in the family's order.
Values = float | Mapping[str, float] | Mapping[tuple[str, str], float]
Source = Callable[[], Values]

_KINDS = {family.name: family.kind for family in FAMILIES}
# A snapshot for the other processes: this soon after something was counted, and this often while nothing is.
_WRITE_AFTER_S = 0.25
_LOOKS_PER_BEAT = 10


class _Observed(Struct):
    """What others count, as the event loop saw it at one moment; `number` rises with each."""

    number: int
    counters: dict[str, dict[Labels, float]]
    gauges: dict[str, dict[Labels, float]]


class Metrics:
    """Counts exchanges and tells the figures.

    Args:
        version: The gateway's.
        providers: Gives the names of the catalog's accounts, for what is told of each from the start.
        folder: Where several workers leave their figures for each other; `None` is one worker, and no file.
        failed: Told once that a snapshot could not be written, and why.

    Raises:
        OSError: The folder cannot be made or written to.
    """

    def __init__(
        self,
        version: str,
        *,
        providers: Callable[[], Iterable[str]] = tuple,
        folder: Path | None = None,
        failed: Callable[[OSError], object] = lambda _: None,
    ) -> None:
        self.series = Series(FAMILIES)
        self._times = Sketch()
        self._started = datetime.now(UTC).timestamp()
        self._build = (version, platform.python_version())
        self._providers = providers
        self._sources: dict[str, Source] = {}
        self._lag = self.series.histogram("llm_event_loop_lag_seconds")
        self._shared = None if folder is None else Shared(folder)
        self._failed = failed
        self._count = Counting(self.series, self._times).record
        # One call less for each request where there is nobody to tell.
        self.record: Callable[[Exchange], None] = self._count if self._shared is None else self._record_and_tell
        self._observations = 0
        self._written = 0
        self._told: dict[str, dict[Labels, float]] | None = None
        self._silent_looks = 0
        self._writing = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None

    def observe_from(self, name: str, source: Source) -> None:
        """Ask `source` for a gauge, or for what somebody else counts, whenever figures are wanted.

        It is called on the event loop and must neither wait nor raise. Raises: KeyError for an unknown name.
        """
        if _KINDS[name] == "histogram":
            raise KeyError(name)
        self._sources[name] = source

    async def watch(self) -> None:
        """Measure how late the event loop is, for ever, and keep the snapshot fresh; cancel to end."""
        await watch_lag(self._look)

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """Write the figures of all workers as Prometheus or OpenMetrics text. Returns it and its content type."""
        return await to_thread.run_sync(self._render, self._observe(), tuple(self._providers()), accept)

    async def summary(self) -> dict[str, object]:
        """Sum the figures of all workers up, as JSON."""
        return await to_thread.run_sync(self._sum_up, self._observe())

    async def close(self) -> None:
        """Leave the last figures for the other workers, and count as ended."""
        if self._shared is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        await to_thread.run_sync(self._write, self._observe())
        self._shared.close()

    def _record_and_tell(self, exchange: Exchange) -> None:
        self._count(exchange)
        if self._timer is None and exchange.operation is not None:
            self._tell_soon()

    def _look(self, lag_s: float) -> None:
        self._lag.observe(lag_s)
        if self._shared is None or self._timer is not None:
            return
        self._silent_looks += 1
        # A stream that began counts nothing until it ends: only the gauges show it.
        if self._silent_looks >= _LOOKS_PER_BEAT or self._observe().gauges != self._told:
            self._tell_soon()

    def _tell_soon(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_WRITE_AFTER_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        if self._writing.locked():
            self._tell_soon()
            return
        self._silent_looks = 0
        observed = self._observe()
        self._told = observed.gauges
        asyncio.get_running_loop().run_in_executor(None, self._write, observed)

    def _observe(self) -> _Observed:
        self._observations += 1
        observed = _Observed(self._observations, {}, {"llm_build_info": {self._build: 1.0}})
        for name, source in self._sources.items():
            counted = observed.counters if _KINDS[name] == "counter" else observed.gauges
            counted[name] = _by_labels(source())
        return observed

    def _own(self, observed: _Observed) -> Figures:
        figures = Figures(
            self._started,
            self.series.counters() | observed.counters,
            dict(observed.gauges),
            self.series.histograms(),
            self._times.counts.copy(),
        )
        measure(figures)
        return figures

    def _write(self, observed: _Observed) -> Figures:
        """Leave a snapshot, unless a later one is there already. Returns this process's figures."""
        with self._writing:
            figures = self._own(observed)
            if self._shared is not None and observed.number > self._written:
                try:
                    self._shared.write(figures)
                except OSError as error:
                    self._complain(error)
                self._written = observed.number
        return figures

    def _total(self, observed: _Observed) -> Figures:
        # What one scrape has shown, the next must have too, even if this process is killed in between.
        figures = self._write(observed)
        if self._shared is not None:
            try:
                figures = self._shared.total(figures)
            except OSError as error:
                self._complain(error)
        figures.gauges["llm_workers"] = {(): float(figures.workers)}
        figures.gauges["llm_start_time_seconds"] = {(): figures.started}
        return figures

    def _complain(self, error: OSError) -> None:
        failed, self._failed = self._failed, lambda _: None
        failed(error)

    def _render(self, observed: _Observed, providers: tuple[str, ...], accept: str) -> tuple[bytes, str]:
        return render(self._total(observed), providers, accept)

    def _sum_up(self, observed: _Observed) -> dict[str, object]:
        return summary(self._total(observed))


def _by_labels(values: Values) -> dict[Labels, float]:
    if not isinstance(values, Mapping):
        return {(): float(values)}
    given = cast("Mapping[str | Labels, float]", values)
    return {(labels,) if isinstance(labels, str) else labels: float(value) for labels, value in given.items()}
