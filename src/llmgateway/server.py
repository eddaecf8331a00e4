"""Serves the application: the socket, the workers, the signals and an orderly end."""

import asyncio
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from types import FrameType


import uvicorn
from structlog.typing import FilteringBoundLogger
from typing_extensions import override
from uvicorn.supervisors import ChangeReload, Multiprocess

from llmgateway import __version__
from llmgateway.app import Application, create_app
from llmgateway.settings import Settings, warnings, without_effect
from llmgateway.telemetry.logs import LineSink, LogFormat, build_logger, standard_sink, take_over_stdlib

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
# After the grace: for the error events of the streams that were ended to reach their clients.
_FAREWELL_S = 5


class Server(uvicorn.Server):
    """uvicorn's server with our end: not ready at once, a grace for what runs, a clear error for what is left."""

    def __init__(self, config: uvicorn.Config, *, grace_s: float) -> None:
        super().__init__(config)
        self._grace_s = grace_s

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        application = self.application
        if application is not None:
            application.state.draining = True
        super().handle_exit(sig, frame)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        application = self.application
        timer = None
        if application is not None:
            timer = asyncio.get_running_loop().call_later(self._grace_s, application.state.running.end_all)
        await super().shutdown(sockets)
        if timer is not None:
            timer.cancel()

    @property
    def application(self) -> Application | None:
        """The application this process serves, once it is loaded."""
        loaded = getattr(self.config, "loaded_app", None)
        return loaded if isinstance(loaded, Application) else None


def serve(settings: Settings, environ: Mapping[str, str], *, reload: bool = False) -> int:
    """Serve until told to end. Returns the process's exit code.

    Args:
        reload: Restart when a source file changes; for development.
    """
    sink = standard_sink()
    logger = build_logger(sink, level=settings.log_level, log_format=_format(settings))
    take_over_stdlib(logger, level="warning")
    listening = bind(settings.host, settings.port)
    _say_hello(logger, settings, listening)
    several = settings.workers > 1 or reload
    config = uvicorn.Config(
        # A worker process builds its own from its environment, which it inherits.
        "llmgateway.app:create_app" if several else create_app(settings, environ, logger=logger),
        factory=several,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=settings.workers,
        reload=reload,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s + _FAREWELL_S),
    )
    server = Server(config, grace_s=settings.shutdown_grace_s)
    raise_file_limit()
    try:
        if reload:
            ChangeReload(config, target=server.run, sockets=[listening]).run()
        elif settings.workers > 1:
            Multiprocess(config, target=server.run, sockets=[listening]).run()
        else:
            server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        _close(sink)
    return 0


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address.

    The socket names its protocol: asyncio turns Nagle's algorithm off only for those, and 40 ms appear otherwise.

    Raises:
        OSError: The address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


def _format(settings: Settings) -> LogFormat:
    if settings.log_format == "auto":
        return "console" if sys.stdout.isatty() else "json"
    return settings.log_format


def _say_hello(logger: FilteringBoundLogger, settings: Settings, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    logger.info("serving", url=url, docs=f"{url}/docs", version=__version__, workers=settings.workers)
    for warning in warnings(settings):
        logger.warning("settings_warning", warning=warning)
    if names := without_effect(settings):
        logger.warning("settings_without_effect_yet", settings=names)


def _close(sink: LineSink) -> None:
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sink.close()
    signal.signal(signal.SIGTERM, previous)
