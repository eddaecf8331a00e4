"""Small applications behind a real socket, and clients that write bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.answering import Protocol
from llmgateway.server import bind, configuration
from llmgateway.settings import load_settings
from llmgateway.turn import Turn

Headers = list[tuple[bytes, bytes]]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Call(NamedTuple):
    """What an application is called with."""

    scope: Scope
    receive: Receive
    send: Send


App = Callable[[Call], Awaitable[None]]


@dataclass
class Site:
    """A server of one application, and what the application raised."""

    app: App
    port: int = 0
    raised: list[BaseException] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    server: uvicorn.Server | None = None
    turn: Turn = field(default_factory=Turn)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for turn in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{turn}.complete"})
            return
        try:
            await self.app(Call(scope, receive, send))
        except BaseException as error:
            self.raised.append(error)
            raise
        finally:
            self.ended.append(scope["path"])

    async def connection(self) -> Any:
        assert self.server is not None
        while not self.server.server_state.connections:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.005)
        return next(iter(self.server.server_state.connections))

    async def ask(self, request: bytes = GET) -> bytes:
        """Everything that comes for a request, until the server closes."""
        async with talking(self) as (reader, writer):
            writer.write(request)
            return await reader.read()


def closing(request: bytes) -> bytes:
    return request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)


@asynccontextmanager
async def talking(site: Site) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        with anyio.fail_after(10):
            yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[Site]:
    site = Site(app)
    asgi: ASGIApp = site
    config = configuration(asgi, load_settings({}))
    assert config.http is Protocol
    server = site.server = uvicorn.Server(config)
    listening = bind("127.0.0.1", 0)
    site.port = listening.getsockname()[1]
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listening])
        while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.005)
        try:
            yield site
        finally:
            server.should_exit = True


def start(headers: Headers | None = None, status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers or []}


def piece(body: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def sized(body: bytes) -> Headers:
    return [(b"content-length", b"%d" % len(body))]


def says(*messages: Message) -> App:
    async def app(call: Call) -> None:
        for message in messages:
            await call.send(message)

    return app


def split(answer: bytes) -> tuple[bytes, list[bytes], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, [line for line in lines if not line.startswith(b"date: ")], body
