"""Yardsticks that do the least: what a proxy of this stack costs before it is a product.

`null` answers by itself; `raw` is a bare ASGI relay over aiohttp; `starlette` is the same relay as a Starlette route.
They check nothing, change nothing, record nothing and have no time limits.
"""

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bench import payloads

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
_JSON = {"content-type": "application/json", "authorization": "Bearer sk-bench"}


def session_of() -> aiohttp.ClientSession:
    """Open connections that are kept, as many as are needed."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)


async def body_of(receive: Receive) -> bytes:
    """Read a request's whole body."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


async def lifespan(receive: Receive, send: Send) -> None:
    """Agree to start and to end."""
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


def null_app() -> App:
    """Make an app that reads the body and gives a fixed answer."""
    answer = payloads.answer()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        await body_of(receive)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        return None

    return app


def raw_relay(upstream: str) -> App:
    """Make a relay on bare ASGI."""
    session: aiohttp.ClientSession | None = None

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal session
        if scope["type"] == "lifespan":
            session = session_of()
            await lifespan(receive, send)
            await session.close()
            return
        assert session is not None
        body = await body_of(receive)
        async with session.post(upstream, data=body, headers=_JSON) as reply:
            await relay(reply, send)

    return app


async def relay(reply: aiohttp.ClientResponse, send: Send) -> None:
    """Hand an upstream's answer on, whole or as it comes."""
    kind = reply.headers.get("content-type", "").encode()
    if reply.content_length is not None:
        answer = await reply.read()
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": [(b"content-type", kind)]})
    async for piece in reply.content.iter_any():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def starlette_relay(upstream: str) -> App:
    """Make a relay as a Starlette application."""

    @asynccontextmanager
    async def kept_connections(app: Starlette) -> AsyncIterator[None]:
        app.state.session = session_of()
        yield
        await app.state.session.close()

    async def chat(request: Request) -> Response:
        reply = await request.app.state.session.post(upstream, data=await request.body(), headers=_JSON)
        if reply.content_length is not None:
            async with reply:
                return Response(await reply.read(), reply.status, media_type="application/json")

        async def pieces() -> AsyncIterator[bytes]:
            async with reply:
                async for piece in reply.content.iter_any():
                    yield piece

        return StreamingResponse(pieces(), reply.status, media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=kept_connections)


def main() -> None:
    """Serve one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["null", "raw", "starlette"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="the address requests are sent on to")
    given = parser.parse_args()
    app = {"null": lambda _: null_app(), "raw": raw_relay, "starlette": starlette_relay}[given.name](given.upstream)
    uvicorn.run(app, port=given.port, loop="uvloop", http="httptools", access_log=False, log_level="warning", ws="none")


if __name__ == "__main__":
    main()
