"""The WEB process put together: the only place, with `worker.py`, that knows the whole.

Two ordered lists say what a request passes: `everywhere` (ASGI middleware) and `layers` (around every call, whoever
makes it). Nothing is read or opened at import.
"""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anyio.abc import TaskGroup
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from llmgateway import __version__
from llmgateway.api.calls import ReplyTimes
from llmgateway.api.routes import Paths, model_calls
from llmgateway.catalog.model import Wire
from llmgateway.catalog.snapshot import Catalog
from llmgateway.catalog.source import CatalogSource
from llmgateway.gateway.gateway import Gateway
from llmgateway.gateway.layers.access import Access
from llmgateway.gateway.target import Answer, Layer, wrap
from llmgateway.lifespan import Application, State, settle
from llmgateway.middleware.auth import Auth
from llmgateway.middleware.body import Body
from llmgateway.middleware.disconnect import Disconnect
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.inflight import Inflight
from llmgateway.middleware.observe import Observe
from llmgateway.middleware.request_id import RequestID
from llmgateway.middleware.security_headers import SecurityHeaders
from llmgateway.middleware.tracing import Tracing
from llmgateway.pages import pages
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
from llmgateway.telemetry.metrics import Metrics
from llmgateway.tokens import TokenCounter
from llmgateway.upstream.base import Probed, Upstream
from llmgateway.upstream.demo import DemoUpstream
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.relay import Relay
from llmgateway.upstream.transport import Transport

Middleware = Callable[[ASGIApp], ASGIApp]
_EXPOSED = [
    *("X-Request-ID", "X-Gateway-Request-ID", "X-Provider", "X-Model", "X-Attempts", "X-Cache-Status", "X-Cost-USD"),
    *("X-Cache-Type", "X-Cache-Similarity", "X-Sensitivity", "Idempotent-Replayed"),
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
    *("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    *("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    *("X-Overhead-Ms", "Server-Timing", "Retry-After", "retry-after-ms", "x-should-retry", "openai-processing-ms"),
]


def create_app(
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    logger: FilteringBoundLogger | None = None,
    workers: Path | None = None,
) -> Application:
    """Build the application.

    Args:
        settings: `None` reads them from the environment, as a worker process does.
        environ: Where the catalog finds keys and `${NAME}`; `None` is the process's environment and `.env`.
        workers: The folder that all worker processes of one server share; `None` is one process.

    Raises:
        SettingsError, CatalogError: With all faults.
        OSError: The data folder cannot be written.
    """
    environ = environment(environ) if environ is None else environ
    settings = settings or load_settings(environ)
    ends: list[Callable[[], None]] = []
    logger = logger or _own_logger(settings, ends)
    catalog = _watched_catalog(settings, environ, logger)
    upstreams = _upstreams(settings)
    state = State(logger, catalog, settings.shutdown_grace_s)
    recording = Recording(settings, logger, __version__, providers=lambda: catalog.current.accounts, workers=workers)
    counter = TokenCounter(logger=logger)
    planner = Planner(recording.book, Routes(recording.book), counter)
    protection = Protection(settings, logger, catalog, recording, planner=planner, counter=counter)
    models = _models(settings, upstreams, planner, counter, lambda: catalog.current, makers=protection.makers)
    answer = protection.around(Answer(models))
    gateway = Gateway(answer, upstreams.close, settings.request_timeout_s, protection.explaining())
    _tell(logger, catalog)
    _observe(recording.metrics, state, upstreams)

    async def close() -> None:
        await gateway.close()
        await protection.close()
        await recording.close()
        for end in ends:
            end()

    beside = _beside(settings, state, upstreams, recording, protection)
    return Application(_stack(settings, gateway, state, recording, protection), state, beside, close)


def _beside(
    settings: Settings, state: State, upstreams: "_Upstreams", recording: Recording, protection: Protection
) -> Callable[[TaskGroup], None]:
    """Give what starts all that runs beside the requests."""
    catalog = state.catalog
    probes = Probes(
        recording.book,
        lambda: catalog.current,
        upstreams.probed,
        state.logger,
        answer_within_s=settings.connect_timeout_s,
    )

    def beside(group: TaskGroup) -> None:
        group.start_soon(catalog.watch)
        group.start_soon(probes.run)
        recording.beside(group)
        protection.beside(group)
        if any(account.wire == "litellm" for account in catalog.current.accounts.values()):
            # Seconds of import: after the start, so that the first call of such a provider does not pay for it.
            group.start_soon(upstreams.litellm.warm)

    return beside


def create_worker_app() -> Application:
    """Build the application of a worker process, which has nothing but its environment, and settle down."""
    settings = load_settings(environment())
    workers = None if settings.workers == 1 else workers_folder(settings.data_dir, os.getppid())
    application = create_app(settings, workers=workers)
    settle()
    return application


def workers_folder(data_dir: Path, server_pid: int) -> Path:
    """Name the folder where the worker processes of one server leave their figures for each other."""
    # Containers may share a folder, and all of their servers have the same id.
    return data_dir / "workers" / f"{platform.node()}-{server_pid}"


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


def build_gateway(environ: Mapping[str, str] | None = None) -> Gateway:
    """Build what answers calls, without a server: for Python programs (`llmgateway.providers`).

    Raises:
        SettingsError, CatalogError: With all faults.
    """
    environ = environment(environ)
    settings = load_settings(environ)
    catalog = CatalogSource(settings.catalog, environ, _unheard)
    names = lambda: catalog.current  # noqa: E731  it is handed on twice

    counter, book, upstreams = TokenCounter(), HealthBook(), _upstreams(settings)
    planner = Planner(book, Routes(book), counter)
    # Whoever runs the program is its one caller: nobody is to be told apart, limited, or charged.
    layers: list[Layer] = [partial(Access, names, AutoModel(planner)), *sensitivity_layers(settings, names, _unnoted)]
    answer = wrap(layers, Answer(_models(settings, upstreams, planner, counter, names)))
    return Gateway(answer, upstreams.close, request_s=settings.request_timeout_s)


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


def _upstreams(settings: Settings) -> _Upstreams:
    transport = Transport(connect_timeout_s=settings.connect_timeout_s)
    relay, litellm = Relay(transport), LiteLLMUpstream(transport)
    by_wire: Mapping[Wire, Upstream] = {"openai": relay, "azure": relay, "litellm": litellm, "demo": DemoUpstream()}
    return _Upstreams(transport, litellm, by_wire, {"openai": relay, "azure": relay})


def _observe(told: Metrics, state: State, upstreams: _Upstreams) -> None:
    """Name where the figures come from that nobody counts per request."""
    catalog, tasks = state.catalog, state.running.tasks
    told.observe_from("llm_active_requests", lambda: len(tasks))
    told.observe_from("llm_active_streams", lambda: sum(exchange.stream for exchange in tasks.values()))
    told.observe_from("llm_upstream_connections", upstreams.transport.connections)
    told.observe_from("llm_config_reloads_total", lambda: {"ok": catalog.reloads, "failed": catalog.failed_reloads})
    told.observe_from("llm_config_reload_failed", lambda: catalog.fault is not None)
    told.observe_from("llm_log_lines_dropped_total", lambda: dropped_lines(state.logger))


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
    return RoutedModels(planner, failover, Retry(policy), names, makers)


def _stack(settings: Settings, gateway: Gateway, state: State, recording: Recording, protection: Protection) -> ASGIApp:
    times = ReplyTimes(request_s=settings.request_timeout_s, commit_after_s=settings.stream_commit_after_s)
    guarded: list[Middleware] = [
        partial(Inflight, running=state.running, limit=settings.max_concurrent_requests),
        partial(
            Body,
            max_bytes=settings.max_body_bytes,
            max_total_bytes=settings.max_inflight_body_bytes,
            upload_timeout_s=settings.request_timeout_s,
        ),
    ]
    started = recording.log.started if recording.log.starts else None
    calls = {path: _around(guarded, call) for path, call in model_calls(gateway, times, started).items()}
    everywhere: list[Middleware] = [
        RequestID,  # makes the exchange that all others read
        SecurityHeaders,
        partial(Tracing, begin=recording.traces.begin),  # says which trace it belongs to, before anything is logged
        *_cors(settings),  # outside Errors, so that a browser may read an error too
        partial(Observe, recorder=recording.recorder),  # sees every ending
        Disconnect,  # outside Errors, which must see the cancellation it causes
        partial(Errors, logger=state.logger),
        # Before any body is read: nobody unknown makes us read 20 MB.
        partial(Auth, identify=protection.identify, loopback=not settings.binds_wider),
    ]
    return _around(everywhere, Paths(calls, pages(__version__, settings, state, recording, protection)))


def _around(middleware: list[Middleware], app: ASGIApp) -> ASGIApp:
    for wrapper in reversed(middleware):
        app = wrapper(app)
    return app


def _cors(settings: Settings) -> list[Middleware]:
    if not settings.cors_origins:
        return []
    return [
        partial(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
            max_age=600,
        )
    ]
