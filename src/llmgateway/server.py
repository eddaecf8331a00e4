"""Serves the application: its socket and its worker processes."""

import asyncio
import glob
import os
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

import uvicorn
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger
from uvicorn.supervisors import ChangeReload, Multiprocess

from llmgateway import __version__
from llmgateway.answering import Protocol
from llmgateway.app import create_app, create_worker_app
from llmgateway.jobs.queue.announcing import shown
from llmgateway.lifespan import Application, settle
from llmgateway.settings import Settings, name_of, warnings, without_effect
from llmgateway.telemetry.logs import build_logger, format_for, standard_sink, take_over_stdlib
from llmgateway.workers import workers_folder

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
# After the grace: for the error events of the streams that were ended to reach their clients.
_FAREWELL_S = 5
# Clients have nothing to say over a WebSocket.
_MAX_MESSAGE_BYTES = 64 * 1024


def serve(settings: Settings, environ: Mapping[str, str], *, reload: bool = False) -> int:
    """Serve until told to end. Returns the process's exit code.

    Args:
        reload: Restart when a source file changes; for development.
    """

    def configured(logger: FilteringBoundLogger) -> uvicorn.Config:
        if settings.workers == 1 and not reload:
            config = configuration(create_app(settings, environ, logger=logger), settings)
            settle()
            return config
        folder = workers_folder(settings.data_dir, os.getpid())
        make_workers_folder(folder)
        if reload:
            # What reloads imports it anew, and so must find it by its name.
            return configuration("llmgateway.app:create_worker_app", settings, reload=True)
        return configuration(partial(create_worker_app, environ), settings, shares=folder / "connections")

    def hello(logger: FilteringBoundLogger, url: str) -> None:
        logger.info("serving", url=url, docs=f"{url}/docs", version=__version__, workers=settings.workers)

    return _serve(settings, "port", configured, hello)


def serve_worker(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run jobs until told to end, and serve what tells of that. Returns the process's exit code."""
    # The other half of the program, which a gateway that serves has no use for.
    from llmgateway.worker import create_child_app, create_jobs_app  # noqa: PLC0415

    def configured(logger: FilteringBoundLogger) -> uvicorn.Config:
        if settings.worker_processes == 1:
            config = configuration(create_jobs_app(settings, environ, logger=logger), settings, workers=1)
            settle()
            return config
        make_workers_folder(workers_folder(settings.data_dir, os.getpid()))
        return configuration(partial(create_child_app, environ), settings, workers=settings.worker_processes)

    def hello(logger: FilteringBoundLogger, url: str) -> None:
        queue = settings.effective_queue_url
        logger.info(
            "working",
            url=url,
            version=__version__,
            processes=settings.worker_processes,
            threads=settings.worker_threads,
            queue="none: it looks for jobs in the database every few seconds" if queue is None else shown(queue),
        )

    return _serve(settings, "worker_port", configured, hello)


def _serve(
    settings: Settings,
    port: Literal["port", "worker_port"],
    configured: Callable[[FilteringBoundLogger], uvicorn.Config],
    hello: Callable[[FilteringBoundLogger, str], None],
) -> int:
    """Listen, build the application, say hello, and run until told to end."""
    sink = standard_sink()
    logger = build_logger(sink, level=settings.log_level, log_format=format_for(settings.log_format))
    take_over_stdlib(logger)
    number = getattr(settings, port)
    try:
        listening = bind(settings.host, number, stalled_s=settings.request_timeout_s)
    except OSError as error:
        reason = f"{error.strerror or error}; free it, or set another {name_of('host')} or {name_of(port)}"
        logger.critical("cannot_listen", host=settings.host, port=number, reason=reason)
        sink.close()
        return 1
    try:
        config = configured(logger)
    except OSError as error:
        logger.critical("cannot_start", reason=str(error))
        sink.close()
        return 1
    hello(logger, _url(listening))
    _warn(logger, settings)
    raise_file_limit()
    # uvicorn sends itself the signal it ended by once more, and an orderly end is no failure.
    signal.signal(signal.SIGTERM, _leave)
    try:
        _run(config, listening)
    except KeyboardInterrupt:
        pass
    finally:
        sink.close()
    return 0


def make_workers_folder(folder: Path) -> None:
    """Make it anew, and remove those of servers that are gone: their figures have ended with them."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    host, _, _ = folder.name.rpartition("-")
    for left in folder.parent.glob(f"{glob.escape(host)}-*"):
        if left == folder or not _lives(left.name.rpartition("-")[2]):
            shutil.rmtree(left, ignore_errors=True)
    folder.mkdir(mode=0o700)


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError):
        return False
    return True


def _run(config: uvicorn.Config, listening: socket.socket) -> None:
    server = uvicorn.Server(config)
    if config.should_reload:
        ChangeReload(config, target=server.run, sockets=[listening]).run()
    elif config.workers > 1:
        Multiprocess(config, sockets=[listening]).run()
    else:
        server.run(sockets=[listening])


def configuration(
    app: "ASGIApp | str | partial[Application]",
    settings: Settings,
    *,
    workers: int | None = None,
    reload: bool = False,
    shares: Path | None = None,
) -> uvicorn.Config:
    """Say how uvicorn serves the application: no access log (we have our own), no header that names it.

    Args:
        app: The application, or what makes it in a worker process: where it is found, or itself with its arguments.
        workers: How many processes; `None` is as many as answer requests.
        shares: The file by which several processes share what comes evenly; `None` leaves it to the system.
    """
    return uvicorn.Config(
        app,
        factory=isinstance(app, (str, partial)),
        loop=_loop(shares),
        http=cast("type[asyncio.Protocol]", Protocol),
        # uvicorn calls it as it would call a class.
        ws=cast("type[asyncio.Protocol]", websocket),
        ws_max_size=_MAX_MESSAGE_BYTES,
        # Of a thousand watchers each would hold 30 kB to save a few bytes of each event.
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=settings.workers if workers is None else workers,
        reload=reload,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s + _FAREWELL_S),
    )


def _loop(shares: Path | None) -> Any:
    """Say which event loop: its name, or what makes it in each process."""
    if sys.platform == "win32":
        return "asyncio"
    if shares is None:
        return "uvloop"
    from llmgateway.sharing import SharingLoop  # noqa: PLC0415  one process alone shares with nobody

    return partial(SharingLoop, shares)


def websocket(**given: Any) -> asyncio.Protocol:
    """Serve a WebSocket. What that takes is imported with the first: most gateways never have one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol  # noqa: PLC0415

    return WebSocketsSansIOProtocol(**given)


def bind(host: str, port: int, *, stalled_s: float = 600.0) -> socket.socket:
    """Listen on an address.

    The socket names its protocol: asyncio turns Nagle's algorithm off only for those, and 40 ms appear otherwise.

    Args:
        stalled_s: Seconds after which the system drops a connection whose peer takes nothing of what was sent.

    Raises:
        OSError: The address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Accepted connections inherit it. A server that closes one waits for its buffers, and the peer may never read.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stalled_s * 1000))
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.listen(_BACKLOG)
    listening.set_inheritable(True)
    return listening


def raise_file_limit() -> int:
    """Let this process open as many files as it may: each stream holds two. Returns the limit now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _warn(logger: FilteringBoundLogger, settings: Settings) -> None:
    for warning in warnings(settings):
        logger.warning("settings_warning", warning=warning)
    if names := without_effect(settings):
        logger.warning("settings_without_effect_yet", settings=names)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
