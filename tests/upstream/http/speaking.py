"""Servers that say whatever bytes they are told, on a real socket, and a pool that asks them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache

import trustme
from typing_extensions import override
from yarl import URL

from llmgateway.turn import Turn
from llmgateway.upstream.http.connection import Connection
from llmgateway.upstream.http.dialing import Dialer
from llmgateway.upstream.http.head import Origin
from llmgateway.upstream.http.pool import Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADERS = {"Accept": "*/*", "User-Agent": "test"}
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@cache
def system_roots() -> ssl.SSLContext:
    return ssl.create_default_context()


def new_pool(*, limit: int = 100, context: ssl.SSLContext | None = None, keep_alive_s: float = 30.0) -> Pool:
    dialer = Dialer(2.0, context or system_roots())
    return Pool(dialer, HEADERS, limit=limit, keep_alive_s=keep_alive_s)


class Server:
    """Hands each connection to `talk`, which reads and writes bytes as it likes."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.connections = 0
        self.open_connections = 0
        self.all_gone = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self.all_gone.clear()
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._talk(reader, writer)
        finally:
            writer.transport.abort()
            self.open_connections -= 1
            if not self.open_connections:
                self.all_gone.set()

    async def until_all_gone(self, within_s: float = 2.0) -> None:
        async with asyncio.timeout(within_s):
            while self.open_connections:
                await self.all_gone.wait()


@asynccontextmanager
async def serving(
    talk: Talk, pool: Pool | None = None, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve until left; by then nobody is to hold a connection but the pool, which is closed."""
    played = Server(talk)
    server = await asyncio.start_server(played.serve, host, 0, ssl=context)
    played.port = server.sockets[0].getsockname()[1]
    try:
        yield played
    finally:
        server.close()
        if pool is not None:
            await pool.close()
        await played.until_all_gone()


@asynccontextmanager
async def secured(talk: Talk, *, secure: bool = True) -> AsyncIterator[tuple[Server, Pool, str]]:
    """A server and a pool that trusts it."""
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    certified = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(certified)
    pool = new_pool(context=trusting)
    async with serving(talk, context=certified if secure else None) as server:
        try:
            yield server, pool, f"{'https' if secure else 'http'}://127.0.0.1:{server.port}"
        finally:
            await pool.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
    return head, await reader.readexactly(int(size.split()[1]))


async def say(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    """Write pieces so that the other side, on the same loop, reads each by itself."""
    for piece in pieces:
        if writer.is_closing():
            return
        writer.write(piece)
        for _ in range(3):
            await asyncio.sleep(0)


def saying(*answers: Sequence[bytes], ends: bool = False) -> Talk:
    """Answer each request of a connection with the next of these, in pieces; then close, or wait for the peer to."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for pieces in answers:
            await read_request(reader)
            await say(writer, pieces)
        if ends:
            writer.write_eof()
        await reader.read()

    return talk


async def ask(pool: Pool, base: str, body: bytes = b"{}") -> bytes:
    response = await pool.post(URL(f"{base}/x"), {}, body)
    try:
        return await response.content.read()
    finally:
        response.close()


class Wire(asyncio.Transport):
    """Takes what is written, and notes when it was hung up on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_gone = False
        self.is_paused = False
        self.written: list[bytes] = []

    async def asked(self) -> None:
        """Wait until something has been written."""
        while not self.written:  # noqa: ASYNC110  the turn's end comes by itself
            await asyncio.sleep(0)

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_gone
        self.written.append(bytes(data))

    @override
    def abort(self) -> None:
        self.is_gone = True

    @override
    def is_closing(self) -> bool:
        return self.is_gone

    @override
    def get_write_buffer_size(self) -> int:
        return 0

    @override
    def pause_reading(self) -> None:
        assert not self.is_gone
        self.is_paused = True

    @override
    def resume_reading(self) -> None:
        assert not self.is_gone
        self.is_paused = False


def wired(wire: Wire) -> tuple[Connection, list[bool]]:
    """A connection without a socket, and what it said each time it was freed: whether it may stay."""
    freed: list[bool] = []
    origin = Origin("h", 80, is_secure=False)
    loop = asyncio.get_running_loop()
    connection = Connection(loop, origin, lambda _, may_stay: freed.append(may_stay), lambda _: None, Turn())
    connection.connection_made(wire)
    return connection, freed
