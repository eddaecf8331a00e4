"""The WORKER process put together: it runs jobs, and serves nothing but its health and its figures."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from anyio.abc import TaskGroup
from starlette.routing import Router
from structlog.typing import FilteringBoundLogger

from llmgateway import __version__
from llmgateway.api.routes import together
from llmgateway.engine import Engine
from llmgateway.lifespan import Application, State, settle
from llmgateway.middleware.auth import Auth
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.request_id import RequestID
from llmgateway.middleware.security_headers import SecurityHeaders
from llmgateway.pages import worker_pages
from llmgateway.settings import Settings, environment, load_settings
from llmgateway.workers import around, workers_folder
from llmgateway.workshop import Workshop


def create_jobs_app(
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    logger: FilteringBoundLogger | None = None,
    workers: Path | None = None,
) -> Application:
    """Build the application of a worker; its arguments are those of `app.create_app`.

    Raises:
        SettingsError, CatalogError: With all faults.
        OSError: The data folder cannot be written.
    """
    environ = environment(environ) if environ is None else environ
    settings = settings or load_settings(environ)
    engine = Engine(settings, environ, __version__, logger=logger, workers=workers)
    workshop = Workshop(engine, runs_jobs=True)
    state = State(engine.logger, engine.catalog, settings.shutdown_grace_s, workshop.drain)

    def beside(group: TaskGroup) -> None:
        engine.beside(group)
        workshop.beside(group)

    async def close() -> None:
        await workshop.close()
        await engine.close()

    stack = around(
        [
            RequestID,
            SecurityHeaders,
            partial(Errors, logger=engine.logger),
            partial(Auth, identify=engine.protection.identify, loopback=not settings.binds_wider),
        ],
        Router(routes=together(worker_pages(__version__, state, engine, workshop)), redirect_slashes=False),
    )
    return Application(stack, state, beside, close, leave=workshop.leave, turn=engine.turn)


def create_child_app(environ: Mapping[str, str]) -> Application:
    """Build the application of one of several worker processes, with the environment that its server was given."""
    settings = load_settings(environ)
    application = create_jobs_app(settings, environ, workers=workers_folder(settings.data_dir, os.getppid()))
    settle()
    return application
