"""Jobs to be watched over real sockets: the endpoints of events and WebSockets alone, served as the gateway is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import anyio
import httpx2
import uvicorn
import websockets
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from llmgateway.documents_api import events
from llmgateway.documents_api.audience import Audience
from llmgateway.documents_api.sockets import Sockets
from llmgateway.ids import new_uuid
from llmgateway.jobs.live import Live
from llmgateway.keys.directory import Directory
from llmgateway.keys.modes import Identify, Mode
from llmgateway.middleware.auth import Auth
from llmgateway.middleware.body import Body
from llmgateway.middleware.disconnect import Disconnect
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.request_id import RequestID
from llmgateway.middleware.socket_auth import SocketAuth
from llmgateway.server import bind, configuration
from llmgateway.settings import load_settings
from llmgateway.storage.jobs.jobs import JobStorage
from tests.jobs.watching.book import Book
from tests.jobs.watching.processes import memory
from tests.keys.people import People
from tests.lines import Lines
from tests.running import NO_TLS

ADMIN = "admin-key-0001"


class Stage:
    """What is served, and what lies behind it."""

    def __init__(self, lines: Lines, mode: Mode = "none", **options: Any) -> None:
        self.lines = lines
        self.store = memory()
        self.book, self.people, self.audience = Book(), People(), Audience()
        self.live = Live(self.book, self.store, lines.logger, look_every_s=0.02, compare_every_s=0.1)
        self.book.told.append(self.live.published)
        self.port = 0
        origins = options.pop("origins", ())
        identify = Identify(mode, directory=Directory(self.people), admin_key=options.pop("admin_key", None))
        auth = partial(Auth, identify=identify, loopback=True)
        jobs = cast("JobStorage", self.book)
        pages = Router(routes=events.routes(self.live, jobs, self.audience, **options))
        limited = Body(pages, max_bytes=1000, max_total_bytes=100_000)
        self._stack = RequestID(Disconnect(Errors(auth(limited), logger=lines.logger)))
        stalled = {name: value for name, value in options.items() if name == "stalled_s"}
        door = SocketAuth(auth, origins=origins)
        self._sockets = Sockets(door, self.live, jobs, self.audience, lines.logger, **stalled)

    def job(self, organization: str | None = None) -> str:
        """Order a job."""
        job_id = new_uuid()
        self.book.add(job_id, organization=organization)
        return job_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await self._sockets(scope, receive, send)
        else:
            await self._stack(scope, receive, send)

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=20, verify=NO_TLS)

    def open(self, path: str, **options: Any) -> websockets.connect:
        """Open a WebSocket, without a way round by a proxy."""
        return websockets.connect(f"ws://127.0.0.1:{self.port}{path}", **{"proxy": None, "max_size": None, **options})


@asynccontextmanager
async def staged(lines: Lines, mode: Mode = "none", **options: Any) -> AsyncIterator[Stage]:
    """Serve."""
    stage = Stage(lines, mode, **options)
    server = uvicorn.Server(configuration(stage, load_settings({"LLMGATEWAY_SHUTDOWN_GRACE_S": "1"})))
    listening, ended = bind("127.0.0.1", 0), anyio.Event()
    stage.port = listening.getsockname()[1]

    async def serve() -> None:
        try:
            await server.serve([listening])
        finally:
            ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(stage.store.run)
        group.start_soon(stage.live.run)
        group.start_soon(serve)
        try:
            while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
                await anyio.sleep(0.005)
            yield stage
        finally:
            stage.audience.send_away()
            server.should_exit = True
            with anyio.move_on_after(10, shield=True):
                await ended.wait()
            group.cancel_scope.cancel()
