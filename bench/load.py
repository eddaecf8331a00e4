"""The load generator: requests over kept connections, written and read as bytes so that it costs little itself."""

import asyncio
import itertools
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from typing_extensions import override

from bench.payloads import KEY, SERIAL, STAMP

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STAMP = re.compile(STAMP)
_END = b"0\r\n\r\n"
# Open loop: so many requests may be under way; what comes beyond waits, and its wait counts.
OPEN_LOOP_CONNECTIONS = 64


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Write a whole POST request as bytes."""
    usual = {
        "host": "127.0.0.1",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "accept": "*/*",
        "user-agent": "bench",
        "content-length": str(len(body)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in (usual | dict(headers or {})).items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Requests:
    """The requests of one load, in turn and over again, each with a number of its own where it has room for one.

    Args:
        path: Where they go.
        bodies: What is asked; `payloads.SERIAL` in one is replaced.
        headers: What this contestant wants beside the usual headers.
    """

    def __init__(self, path: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        whole = [post(path, body, headers).partition(SERIAL) for body in bodies]
        self._pieces = itertools.cycle((before, bool(serial), after) for before, serial, after in whole)
        # Begins with the moment: another load has other numbers.
        self._numbers = itertools.count(time.time_ns() // 1000 % 10**12)

    def next(self) -> bytes:
        """Give the next request."""
        before, has_serial, after = next(self._pieces)
        return b"%b%012d%b" % (before, next(self._numbers), after) if has_serial else before


@dataclass(slots=True)
class Measured:
    """What a load saw, in seconds; `faults` holds the beginnings of answers that were not 200, or of broken ones."""

    latencies_s: list[float] = field(default_factory=list)
    chunk_delays_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def answered(self) -> int:
        """Count the answers."""
        return len(self.latencies_s)


class Answer:
    """Finds where one answer ends: by its declared length, or by the last piece of a chunked one."""

    __slots__ = ("_head", "_left", "_tail", "ok")

    def __init__(self) -> None:
        self.ok = True
        self._head: bytearray | None = bytearray()
        self._left: int | None = None
        self._tail = b""

    def feed(self, received: bytes) -> bool:
        """Take what was received; say whether the answer is complete."""
        if self._head is not None:
            self._head += received
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return False
            head, received = bytes(self._head[: end + 2]), bytes(self._head[end + 4 :])
            self._head = None
            self.ok = head.startswith(b"HTTP/1.1 200")
            declared = _LENGTH.search(head)
            self._left = int(declared.group(1)) if declared else None
        if self._left is not None:
            self._left -= len(received)
            return self._left <= 0
        self._tail = (self._tail + received)[-len(_END) :]
        return self._tail == _END


class Connection(asyncio.Protocol):
    """One kept connection with at most one request under way."""

    def __init__(self, measured: Measured, idle: Callable[["Connection"], None]) -> None:
        self._measured = measured
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._sent_s = 0.0

    def send(self, request: bytes, since_s: float) -> None:
        """Send a request; its latency counts from `since_s` (`time.perf_counter`)."""
        assert self._transport is not None
        self._answer = Answer()
        self._sent_s = since_s
        self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if b"@" in data:
            now_ns = time.monotonic_ns()
            delays = ((now_ns - int(sent_ns)) / 1e9 for sent_ns in _STAMP.findall(data))
            self._measured.chunk_delays_s.extend(delays)
        if self._answer is None:
            self._measured.faults.append(f"unasked: {data[:200]!r}")
        elif self._answer.feed(data):
            self._finished(data)

    def _finished(self, data: bytes) -> None:
        assert self._answer is not None
        self._measured.latencies_s.append(time.perf_counter() - self._sent_s)
        if not self._answer.ok:
            self._measured.faults.append(repr(data[:400]))
        self._answer = None
        self._idle(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None:
            self._measured.faults.append(f"connection lost: {exc}")
            self._answer = None
            self._idle(self)

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None


class Load:
    """Requests to one port for one time; made anew for each repetition."""

    def __init__(self, port: int, requests: Requests) -> None:
        self._port = port
        self._requests = requests
        self.measured = Measured()
        self._connections: list[Connection] = []
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._ends_s = 0.0

    async def closed_loop(self, connections: int, duration_s: float) -> Measured:
        """Send the next request on each connection as soon as its last is answered; wait for those under way."""
        await self._connect(connections, self._again)
        started_s = time.perf_counter()
        self._ends_s = started_s + duration_s
        self._under_way = connections
        for connection in self._connections:
            connection.send(self._requests.next(), time.perf_counter())
        await self._quiet.wait()
        return self._close(started_s)

    def _again(self, connection: Connection) -> None:
        now_s = time.perf_counter()
        if now_s < self._ends_s and connection.is_open:
            connection.send(self._requests.next(), now_s)
            return
        self._under_way -= 1
        if not self._under_way:
            self._quiet.set()

    async def open_loop(self, rate_per_s: float, duration_s: float, seed: int = 1) -> Measured:
        """Send at random moments (Poisson), whether earlier requests are answered or not; wait for those under way."""
        await self._connect(OPEN_LOOP_CONNECTIONS, self._freed)
        self._free.extend(self._connections)
        chance = random.Random(seed)
        started_s = due_s = time.perf_counter()
        while due_s < started_s + duration_s:
            due_s += chance.expovariate(rate_per_s)
            pause_s = due_s - time.perf_counter()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            self._arrive(time.perf_counter())
        self._ends_s = time.perf_counter()
        if self._under_way:
            await self._quiet.wait()
        return self._close(started_s)

    def _arrive(self, now_s: float) -> None:
        self._under_way += 1
        while self._free:
            connection = self._free.popleft()
            if connection.is_open:
                connection.send(self._requests.next(), now_s)
                return
        self._waiting.append(now_s)

    def _freed(self, connection: Connection) -> None:
        self._under_way -= 1
        if connection.is_open and self._waiting:
            connection.send(self._requests.next(), self._waiting.popleft())
        elif connection.is_open:
            self._free.append(connection)
        if self._ends_s and not self._under_way:
            self._quiet.set()

    async def _connect(self, count: int, idle: Callable[[Connection], None]) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, connection = await loop.create_connection(
                lambda: Connection(self.measured, idle), "127.0.0.1", self._port
            )
            self._connections.append(connection)

    def _close(self, started_s: float) -> Measured:
        self.measured.elapsed_s = time.perf_counter() - started_s
        for connection in self._connections:
            connection.close()
        return self.measured
