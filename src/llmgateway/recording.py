"""All that writes exchanges down, put together: journal and database, metrics, the log line, traces."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anyio.abc import TaskGroup
from structlog.typing import FilteringBoundLogger

from llmgateway.api.ledger.asking import Reach
from llmgateway.gateway.record import Recorder, Writer
from llmgateway.lifespan import settle_again
from llmgateway.routing.health.book import HealthBook
from llmgateway.settings import Settings
from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.journal import Journal
from llmgateway.storage.queries import Costs, Group, Performance, Trend, UsageTotals
from llmgateway.storage.recent import RecentEntries
from llmgateway.storage.retention import Retention
from llmgateway.storage.shipping import Shipper
from llmgateway.storage.storage import Storage
from llmgateway.telemetry.metrics import Metrics
from llmgateway.telemetry.metrics.otlp import OTLPMetrics
from llmgateway.telemetry.provider_health import ProviderHealth
from llmgateway.telemetry.request_log import RequestLog
from llmgateway.telemetry.traces.export import Traces
from llmgateway.telemetry.traces.otlp_settings import read_otlp
from llmgateway.turn import Turn


class Recording:
    """What writes exchanges down, and what tells of them afterwards.

    Args:
        providers: Gives the names of the catalog's accounts.
        workers: Where several worker processes leave their figures for each other; `None` is one process.
        turn: By which answers go out.

    Raises:
        OSError: The journal's folder cannot be written.
    """

    def __init__(
        self,
        settings: Settings,
        logger: FilteringBoundLogger,
        version: str,
        *,
        providers: Callable[[], Iterable[str]],
        workers: Path | None = None,
        turn: Turn | None = None,
    ) -> None:
        self._logger = logger
        self._retention_days = settings.ledger.retention_days
        self.recent = RecentEntries()
        self.journal = Journal(settings.data_dir / "journal", logger=logger, recent=self.recent)
        self.storage = Storage(settings.database_url, settings.data_dir, logger=logger, loaded=settle_again)
        self.shipper = Shipper(self.journal, self.storage.add, logger, ready=self.storage.opened)
        self.metrics = Metrics(version, providers=providers, folder=workers, failed=self._unshared)
        self.log = RequestLog(logger)
        self.book = HealthBook()
        self.health = ProviderHealth(settings.request_timeout_s)
        otlp = read_otlp(settings.otel, version=version)
        self.traces = Traces(otlp, logger)
        self.otlp_metrics = None if otlp.metrics is None else OTLPMetrics(otlp, self.metrics, logger)
        is_shared = settings.redis_url is not None
        self.recorder = Recorder(self.journal.record, self._tellers(), turn, settles_apart=is_shared)
        self._observe()

    def beside(self, group: TaskGroup) -> None:
        """Start what runs beside the requests."""
        group.start_soon(self.storage.open)
        group.start_soon(self.shipper.run)
        group.start_soon(self.metrics.watch)
        if self._retention_days:
            group.start_soon(Retention(self.storage, self._retention_days, self._logger).run)
        if self.otlp_metrics is not None:
            self.otlp_metrics.start()

    async def close(self) -> None:
        """Bring away what is there, each part within two seconds."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.storage.close)
            stack.push_async_callback(self.traces.close)
            stack.push_async_callback(self.metrics.close)
            if self.otlp_metrics is not None:
                stack.push_async_callback(self.otlp_metrics.close)
            await self.shipper.close()

    def _tellers(self) -> list[Writer]:
        writers = [self.metrics.record, self.log.record, self.traces.record, self.health.record]
        if self.otlp_metrics is not None:
            writers.append(self.otlp_metrics.record)
        return writers

    def _observe(self) -> None:
        journal, traces = self.journal, self.traces
        self.metrics.observe_from(
            "llm_ledger_entries_total",
            lambda: {"journaled": journal.journaled, "shipped": journal.shipped, "lost": journal.lost},
        )
        self.metrics.observe_from("llm_ledger_backlog_bytes", lambda: journal.backlog_bytes)
        self.metrics.observe_from("llm_ledger_backlog_seconds", lambda: journal.backlog_s)
        self.metrics.observe_from("llm_database_up", lambda: self.storage.up)
        self.metrics.observe_from("llm_spans_total", lambda: {"exported": traces.exported, "dropped": traces.dropped})

    def _unshared(self, error: OSError) -> None:
        self._logger.error("metrics_not_shared", reason=str(error))


class LedgerReader:
    """The ledger as the faces ask for it."""

    def __init__(self, storage: Storage, *, slow_s: float) -> None:
        self._storage = storage
        self._slow_s = slow_s

    async def find(self, request_id: str, reach: Reach) -> LedgerEntry | None:
        """Find a request by either id, the newest one."""
        return await self._storage.find(request_id, organization_id=reach.organization, key_id=reach.key_id)

    async def usage(self, start: datetime, end: datetime, groups: Sequence[Group], reach: Reach) -> list[UsageTotals]:
        """Sum up what was used from `start` until before `end`."""
        return await self._storage.usage(start, end, groups, organization_id=reach.organization, key_id=reach.key_id)

    async def performance(self, hours: int) -> Performance:
        """Say what was slow, and how each provider served."""
        return await self._storage.performance(_ago(hours), slow_s=self._slow_s)

    async def trends(self, hours: int) -> list[Trend]:
        """Say how each hour went."""
        return await self._storage.trends(hours)

    async def costs(self, hours: int) -> Costs:
        """Say what the money went to."""
        return await self._storage.costs(_ago(hours))


def _ago(hours: int) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)
