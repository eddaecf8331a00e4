"""The WEB process put together: what a request passes, in two ordered lists.

`everywhere` and `guarded` are ASGI middleware; what a call passes after them is in `protection.py` and `engine.py`.
Nothing is read or opened at import.
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from anyio.abc import TaskGroup
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from llmgateway import __version__
from llmgateway.api.calls import ReplyTimes
from llmgateway.api.routes import Paths, model_calls, together
from llmgateway.engine import Engine
from llmgateway.lifespan import Application, State, settle
from llmgateway.middleware.auth import Auth
from llmgateway.middleware.body import Body
from llmgateway.middleware.disconnect import Disconnect
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.inflight import Inflight
from llmgateway.middleware.observe import Observe
from llmgateway.middleware.origins import Origins
from llmgateway.middleware.request_id import RequestID
from llmgateway.middleware.security_headers import SecurityHeaders
from llmgateway.middleware.tracing import Tracing
from llmgateway.pages import pages
from llmgateway.settings import Settings, environment, load_settings
from llmgateway.telemetry.metrics import Metrics
from llmgateway.workers import Middleware, around, workers_folder
from llmgateway.workshop import Workshop

_EXPOSED = [
    *("X-Request-ID", "X-Gateway-Request-ID", "X-Provider", "X-Model", "X-Attempts", "X-Cache-Status", "X-Cost-USD"),
    *("X-Job-ID", "Location"),
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
    engine = Engine(settings, environ, __version__, logger=logger, workers=workers)
    workshop = Workshop(engine, runs_jobs=settings.embeds_worker)
    engine.gateway.virtual = workshop.virtual
    state = State(engine.logger, engine.catalog, settings.shutdown_grace_s, workshop.drain)
    _observe(engine.recording.metrics, state)

    def beside(group: TaskGroup) -> None:
        engine.beside(group)
        workshop.beside(group)

    async def close() -> None:
        await workshop.close()
        await engine.close()

    return Application(
        _stack(engine, workshop, state),
        state,
        beside,
        close,
        leave=workshop.leave,
        sockets=workshop.sockets,
        turn=engine.turn,
    )


def _observe(told: Metrics, state: State) -> None:
    tasks = state.running.tasks
    told.observe_from("llm_active_requests", lambda: len(tasks))
    told.observe_from("llm_active_streams", lambda: sum(exchange.stream for exchange in tasks.values()))


def create_worker_app(environ: Mapping[str, str] | None = None) -> Application:
    """Build the application of one of several processes, and settle down.

    Args:
        environ: As the server that started it has it; `None` is the process's own.
    """
    environ = environment(environ) if environ is None else environ
    settings = load_settings(environ)
    workers = None if settings.workers == 1 else workers_folder(settings.data_dir, os.getppid())
    application = create_app(settings, environ, workers=workers)
    settle()
    return application


def _stack(engine: Engine, workshop: Workshop, state: State) -> ASGIApp:
    settings, recording, protection = engine.settings, engine.recording, engine.protection
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
    calls = {path: around(guarded, call) for path, call in model_calls(engine.gateway, times, started).items()}
    # Elsewhere a key does: no browser sends one to a foreign origin unless that allows it.
    own_pages = [partial(Origins, allowed=settings.cors_origins)] if settings.auth.mode == "none" else []
    documents = around([*own_pages, *guarded], Router(routes=together(workshop.routes()), redirect_slashes=False))
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
    others = pages(__version__, state, engine, workshop)
    return around(everywhere, Paths(calls, others, documents))


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
