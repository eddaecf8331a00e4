"""A provider on a real socket: speaks its wire byte by byte as it is told, and counts what it sees."""

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

from typing_extensions import override

from tests.upstreams.step import Piece, Play, Request, Step, Wire

_LONGEST_HELD_S = 60.0
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass(frozen=True, slots=True)
class Cancel:
    """The peer left before its answer ended; `noticed` is `time.perf_counter` seconds."""

    request: Request
    noticed: float


class Player:
    """Plays one provider on 127.0.0.1.

    Each request takes the next play of the script, else the standing one (`always`), else the wire's own answer.
    A play is a `Step`, or a function that twists the wire's own: `player.script(lambda step: step.cut(pieces=5))`.

    Args:
        strict: Top-level fields that the client sent: any other field, and any null at any depth, is answered with 400.
        port: Where to play; 0 is any free one.
    """

    def __init__(self, wire: Wire, *, strict: Collection[str] | None = None, port: int = 0) -> None:
        self.wire = wire
        self.requests: deque[Request] = deque(maxlen=1000)
        self.requests_total = 0
        self.connections = 0
        self.open_connections = 0
        self.in_flight = 0
        self.finished = 0
        self.cancels: list[Cancel] = []
        self.pieces_written = 0
        self.bytes_written = 0
        self.faults: list[Exception] = []
        self._strict = strict
        self._port = port
        self._script: deque[Play] = deque()
        self._standing: Play | None = None
        self._changed = asyncio.Event()
        self._open: set[_Connection] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, backlog=2048)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._tasks is not None
        self._server.close()
        for connection in list(self._open):
            connection.drop()
        await self._tasks.__aexit__(None, None, None)  # The body's own error goes on as it is, not in a group.
        await self.until(lambda: self.open_connections == 0)
        await self._server.wait_closed()
        if self.faults and error is None:
            raise ExceptionGroup("the player itself failed", self.faults)

    @property
    def port(self) -> int:
        assert self._server is not None, "enter the player first"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """What a catalog's `api_base` is for this provider."""
        return self.url + self.wire.base_path

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def script(self, *plays: Play) -> None:
        """Play these for the next requests, one each."""
        self._script.extend(plays)

    def always(self, play: Play | None) -> None:
        """Play this for every request that the script leaves over; `None` is the wire's own answer again."""
        self._standing = play

    async def until(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        """Wait for a count to come true; `TimeoutError` when it does not."""
        async with asyncio.timeout(within_s):
            while not condition():
                await self._changed.wait()

    def step_for(self, request: Request) -> Step:
        self.requests.append(request)
        self.requests_total += 1
        play = self._script.popleft() if self._script else self._standing
        step = play if isinstance(play, Step) else self._wires_own(request)
        if play is not None and not isinstance(play, Step):
            step = play(step)
        self.in_flight += 1
        self.note()
        return step

    def _wires_own(self, request: Request) -> Step:
        try:
            return self._refusal(request) or self.wire.answer(request)
        except (LookupError, TypeError, ValueError, AttributeError) as fault:
            # A provider refuses what it cannot read, too.
            return self.wire.error(400, f"This request cannot be read: {fault!r}")

    def _refusal(self, request: Request) -> Step | None:
        if self._strict is None:
            return None
        faults = sorted({*_nulls(request.json, ""), *(set(request.json) - set(self._strict))})
        return self.wire.error(400, f"Unrecognized or null fields: {', '.join(faults)}") if faults else None

    def note(self) -> None:
        """Wake whoever waits in `until`."""
        self._changed.set()
        self._changed = asyncio.Event()

    def joined(self, connection: "_Connection") -> None:
        assert self._tasks is not None
        self.connections += 1
        self.open_connections += 1
        self._open.add(connection)
        connection.task = self._tasks.create_task(connection.serve())
        self.note()

    def left(self, connection: "_Connection") -> None:
        self.open_connections -= 1
        self._open.discard(connection)
        self.note()

    def answered(self, request: Request, *, whole: bool) -> None:
        self.in_flight -= 1
        if whole:
            self.finished += 1
        else:
            self.cancels.append(Cancel(request, time.perf_counter()))
        self.note()

    def wrote(self, size_bytes: int) -> None:
        self.pieces_written += 1
        self.bytes_written += size_bytes
        self.note()


def _nulls(value: Any, path: str) -> list[str]:
    if value is None:
        return [path]
    if isinstance(value, dict):
        return [fault for name, inner in value.items() for fault in _nulls(inner, f"{path}.{name}".lstrip("."))]
    if isinstance(value, list):
        return [fault for index, inner in enumerate(value) for fault in _nulls(inner, f"{path}[{index}]")]
    return []


class _PeerGoneError(Exception):
    """The other side closed the connection."""


class _Connection(asyncio.Protocol):
    """One connection: reads requests, and answers each before the next."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._received = bytearray()
        self._news = asyncio.Event()
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.task: asyncio.Task[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop has transports of its own
        self._transport = transport
        self._player.joined(self)

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        self._news.set()

    @override
    def eof_received(self) -> None:
        self._lost()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
        self._player.left(self)

    @override
    def pause_writing(self) -> None:
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        self._writable.set()

    def _lost(self) -> None:
        self._gone.set()
        self._news.set()
        self._writable.set()

    def drop(self) -> None:
        """End the connection and whatever runs on it."""
        self._transport.abort()
        if self.task is not None:
            self.task.cancel()

    async def serve(self) -> None:
        try:
            while True:
                request = await self._read_request()
                await self._play(request)
        except _PeerGoneError:
            pass
        except Exception as fault:  # noqa: BLE001  raised when the player is left, instead of cancelling the test
            self._player.faults.append(fault)
        finally:
            self._transport.close()

    async def _read_request(self) -> Request:
        head = await self._read_past(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._read_chunks()
        else:
            body = await self._read_exactly(int(headers.get("content-length", "0")))
        return Request(method, target, headers, body, time.perf_counter())

    async def _read_chunks(self) -> bytes:
        whole = bytearray()
        while size := int((await self._read_past(b"\r\n")).split(b";")[0], 16):
            whole += await self._read_exactly(size)
            await self._read_exactly(2)
        await self._read_exactly(2)
        return bytes(whole)

    async def _read_past(self, mark: bytes) -> bytes:
        while (end := self._received.find(mark)) < 0:
            await self._more()
        content = bytes(self._received[:end])
        del self._received[: end + len(mark)]
        return content

    async def _read_exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._more()
        content = bytes(self._received[:size])
        del self._received[:size]
        return content

    async def _more(self) -> None:
        if self._gone.is_set():
            raise _PeerGoneError
        self._news.clear()
        await self._news.wait()

    async def _play(self, request: Request) -> None:
        step = self._player.step_for(request)
        whole = False
        try:
            await self._pause(step.delay_s)
            if step.framing != "raw":
                await self._write(_head(step))
            for piece in step.pieces:
                await self._write_piece(piece, step)
            await self._end(step)
            whole = True
        finally:
            self._player.answered(request, whole=whole)
        if step.ending != "whole" or step.framing == "close":
            raise _PeerGoneError

    async def _write_piece(self, piece: Piece, step: Step) -> None:
        await self._pause(piece.pause_s)
        if piece.gate is not None:
            await self._held(piece.gate)
        content = piece.content
        await self._write(b"%x\r\n%b\r\n" % (len(content), content) if step.framing == "chunked" else content)
        self._player.wrote(len(content))

    async def _end(self, step: Step) -> None:
        match step.ending:
            case "whole" if step.framing == "chunked":
                await self._write(b"0\r\n\r\n")
            case "reset":
                await asyncio.sleep(0.02)  # A reset throws away what the peer has not read yet: let it read.
                linger = struct.pack("ii", 1, 0)
                self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self._transport.abort()
            case "silence":
                await self._gone.wait()
                raise _PeerGoneError
            case "endless":
                while True:
                    await self._write_piece(step.pieces[-1], step)
            case _:
                pass

    async def _pause(self, pause_s: float) -> None:
        if pause_s > 0:
            try:
                async with asyncio.timeout(pause_s):
                    await self._gone.wait()
            except TimeoutError:
                return
        if self._gone.is_set():
            raise _PeerGoneError

    async def _held(self, gate: Callable[[], bool]) -> None:
        await self._player.until(lambda: gate() or self._gone.is_set(), _LONGEST_HELD_S)
        await self._pause(0.0)

    async def _write(self, content: bytes) -> None:
        if self._gone.is_set():
            raise _PeerGoneError
        self._transport.write(content)
        await asyncio.sleep(0)  # One write is one packet, and the peer's leaving is seen between two of them.
        await self._writable.wait()


def _head(step: Step) -> bytes:
    headers = dict(step.headers)
    match step.framing:
        case "length":
            headers.setdefault("content-length", str(len(step.body)))
        case "chunked":
            headers.setdefault("transfer-encoding", "chunked")
        case _:
            headers.setdefault("connection", "close")
    lines = [f"HTTP/1.1 {step.status} {_REASONS.get(step.status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
