"""All that answers calls, put together: for web processes, for workers, and for Python programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anyio.abc import TaskGroup
from structlog.typing import FilteringBoundLogger

from llmgateway.catalog.model import Wire
from llmgateway.catalog.snapshot import Catalog
from llmgateway.catalog.source import CatalogSource
from llmgateway.gateway.gateway import Gateway
from llmgateway.gateway.layers.access import Access
from llmgateway.gateway.target import Answer, Layer, wrap
from llmgateway.protection import Protection, sensitivity_layers
from llmgateway.recording import Recording
from llmgateway.routing.attempt import Attempts, TimeLimits
from llmgateway.routing.charge import Charge
from llmgateway.routing.choosing.auto import AutoModel
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.failover.failover import Failover
from llmgateway.routing.failover.patience import Patience
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.probes import Probes
from llmgateway.routing.makers import Makers
from llmgateway.routing.model import RoutedModels
from llmgateway.routing.retry import Retry, RetryPolicy
from llmgateway.settings import Settings, environment, load_settings, secret_values
from llmgateway.storage.admin.rows import Deed
from llmgateway.telemetry.logs import (
    build_logger,
    dropped_lines,
    format_for,
    hide_secrets,
    standard_sink,
    take_over_stdlib,
)
from llmgateway.tokens import TokenCounter
from llmgateway.turn import Turn
from llmgateway.upstream.base import Probed, Upstream
from llmgateway.upstream.demo import DemoUpstream
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.relay import Relay
from llmgateway.upstream.transport import Transport


class Engine:
    """What answers calls in one process, and what writes them down.

    Args:
        workers: The folder that all processes of one server share; `None` is one process.

    Raises:
        CatalogError: With all faults.
        OSError: The data folder cannot be written.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        version: str,
        *,
        logger: FilteringBoundLogger | None = None,
        workers: Path | None = None,
    ) -> None:
        self.settings = settings
        self._ends: list[Callable[[], None]] = []
        self.logger = logger or _own_logger(settings, self._ends)
        self.catalog = catalog = _watched_catalog(settings, environ, self.logger)
        self.turn = Turn()
        self._upstreams = upstreams = _upstreams(settings, self.turn)
        self.recording = Recording(
            settings,
            self.logger,
            version,
            providers=lambda: catalog.current.accounts,
            workers=workers,
            turn=self.turn,
        )
        self.counter = TokenCounter(logger=self.logger)
        book = self.recording.book
        self.planner = Planner(book, Routes(book), self.counter)
        self.protection = Protection(
            settings, self.logger, catalog, self.recording, planner=self.planner, counter=self.counter
        )
        models = _models(settings, upstreams, self.planner, self.counter, self.names, makers=self.protection.makers)
        answer = self.protection.around(Answer(models))
        self.gateway = Gateway(answer, upstreams.close, settings.request_timeout_s, self.protection.explaining())
        _tell(self.logger, catalog)
        self._observe()

    def names(self) -> Catalog:
        """Give the catalog served at this moment, which a reload replaces."""
        return self.catalog.current

    @property
    def transport(self) -> Transport:
        """The connections to providers."""
        return self._upstreams.transport

    def beside(self, group: TaskGroup) -> None:
        """Start all that runs beside the calls."""
        probes = Probes(
            self.recording.book,
            self.names,
            self._upstreams.probed,
            self.logger,
            answer_within_s=self.settings.connect_timeout_s,
        )
        group.start_soon(self.catalog.watch)
        group.start_soon(probes.run)
        self.recording.beside(group)
        self.protection.beside(group)
        if any(account.wire == "litellm" for account in self.catalog.current.accounts.values()):
            # Seconds of import: after the start, so that the first call of such a provider does not pay for it.
            group.start_soon(self._upstreams.litellm.warm)

    async def close(self) -> None:
        """Give back what was opened."""
        await self.gateway.close()
        await self.protection.close()
        await self.recording.close()
        for end in self._ends:
            end()

    def _observe(self) -> None:
        """Name where the figures come from that nobody counts per request."""
        told, catalog, logger = self.recording.metrics, self.catalog, self.logger
        told.observe_from("llm_upstream_connections", self._upstreams.transport.connections)
        told.observe_from("llm_config_reloads_total", lambda: {"ok": catalog.reloads, "failed": catalog.failed_reloads})
        told.observe_from("llm_config_reload_failed", lambda: catalog.fault is not None)
        told.observe_from("llm_log_lines_dropped_total", lambda: dropped_lines(logger))


def build_gateway(environ: Mapping[str, str] | None = None) -> Gateway:
    """Build what answers calls, without a server: for Python programs (`llmgateway.providers`).

    Raises:
        SettingsError, CatalogError: With all faults.
    """
    environ = environment(environ)
    settings = load_settings(environ)
    catalog = CatalogSource(settings.catalog, environ, _unheard)
    names = lambda: catalog.current  # noqa: E731  it is handed on twice

    counter, book, upstreams = TokenCounter(), HealthBook(), _upstreams(settings, Turn())
    planner = Planner(book, Routes(book), counter)
    # Whoever runs the program is its one caller: nobody is to be told apart, limited, or charged.
    layers: list[Layer] = [partial(Access, names, AutoModel(planner)), *sensitivity_layers(settings, names, _unnoted)]
    answer = wrap(layers, Answer(_models(settings, upstreams, planner, counter, names)))
    return Gateway(answer, upstreams.close, request_s=settings.request_timeout_s)


def _own_logger(settings: Settings, ends: list[Callable[[], None]]) -> FilteringBoundLogger:
    sink = standard_sink()
    logger = build_logger(sink, level=settings.log_level, log_format=format_for(settings.log_format))
    take_over_stdlib(logger)
    ends.append(sink.close)
    return logger


def _tell(logger: FilteringBoundLogger, catalog: CatalogSource) -> None:
    for warning in catalog.current.warnings:
        logger.warning("catalog_warning", warning=warning)
    if keys := catalog.current.without_effect:
        logger.warning("catalog_keys_without_effect_yet", keys=list(keys))


def _watched_catalog(settings: Settings, environ: Mapping[str, str], logger: FilteringBoundLogger) -> CatalogSource:
    def report(event: str, /, **fields: object) -> None:
        hide_secrets(logger, catalog.current.secrets())
        _report(logger, event, **fields)

    catalog = CatalogSource(settings.catalog, environ, report)
    hide_secrets(logger, [*secret_values(settings), *catalog.current.secrets()])
    return catalog


def _report(logger: FilteringBoundLogger, event: str, /, **fields: object) -> None:
    if "faults" in fields:
        logger.error(event, **fields)
    else:
        logger.info(event, **fields)


def _unnoted(deed: Deed) -> None:
    """A program without a server has no audit log."""


def _unheard(event: str, /, **fields: object) -> None:
    """A program without a server watches no file, so nothing is told."""


@dataclass(slots=True)
class _Upstreams:
    transport: Transport
    litellm: LiteLLMUpstream
    by_wire: Mapping[Wire, Upstream]
    probed: Mapping[Wire, Probed]

    async def close(self) -> None:
        for upstream in set(self.by_wire.values()):
            await upstream.close()
        await self.transport.close()


def _upstreams(settings: Settings, turn: Turn) -> _Upstreams:
    transport = Transport(connect_timeout_s=settings.connect_timeout_s, turn=turn)
    relay, litellm = Relay(transport), LiteLLMUpstream(transport)
    by_wire: Mapping[Wire, Upstream] = {"openai": relay, "azure": relay, "litellm": litellm, "demo": DemoUpstream()}
    return _Upstreams(transport, litellm, by_wire, {"openai": relay, "azure": relay})


def _models(
    settings: Settings,
    upstreams: _Upstreams,
    planner: Planner,
    counter: TokenCounter,
    names: Callable[[], Catalog],
    *,
    makers: Makers | None = None,
) -> RoutedModels:
    limits = TimeLimits(settings.first_token_timeout_s, settings.stream_idle_timeout_s, settings.request_timeout_s)
    policy = RetryPolicy(
        max_retries=settings.retry.max_retries,
        min_delay_s=settings.retry.min_delay_s,
        max_delay_s=settings.retry.max_delay_s,
        factor=settings.retry.factor,
        jitter=settings.retry.jitter,
    )
    attempts = Attempts(upstreams.by_wire, limits, charge=Charge(counter), propagate=settings.propagate_trace)
    failover = Failover(attempts, Patience(settings.silence_s))
    jobs = settings.retry.jobs
    patient = RetryPolicy(jobs.max_retries, jobs.min_delay_s, jobs.max_delay_s, policy.factor, policy.jitter)
    return RoutedModels(planner, failover, Retry(policy, patient), names, makers)
