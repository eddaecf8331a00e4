"""The connections to one account: kept alive, bounded in number, first come first served."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from functools import partial

from yarl import URL

from llmgateway.turn import Turn
from llmgateway.upstream.http.connection import Connection
from llmgateway.upstream.http.dialing import Dialer
from llmgateway.upstream.http.failures import LostError
from llmgateway.upstream.http.head import Origin, RequestHead, request_head
from llmgateway.upstream.http.response import Response

_KEEP_ALIVE_S = 30.0


class Pool:
    """The connections to one account.

    Args:
        headers: Sent with every request, unless it names one of its own.
        limit: How many questions may be under way; more of them wait for their turn.
        keep_alive_s: For how long an unused connection is kept.
        turn: Writes the questions, with those of other pools and with answers.
    """

    def __init__(
        self,
        dialer: Dialer,
        headers: Mapping[str, str],
        *,
        limit: int,
        keep_alive_s: float = _KEEP_ALIVE_S,
        turn: Turn | None = None,
    ) -> None:
        self._dialer = dialer
        self._writes = turn or Turn()
        self._defaults = tuple(headers.items())
        self._limit = limit
        self._keep_alive_s = keep_alive_s
        self._loop = asyncio.get_running_loop()
        self._busy = 0
        self._open: set[Connection] = set()
        # Since when; the longest unused first.
        self._idle: dict[Origin, dict[Connection, float]] = {}
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, more: bytes = b"") -> Response:
        """Send a body and return when the answer's head is there.

        Nothing is sent twice: not even when a connection that was kept turns out to be closed.

        Args:
            more: Header lines that differ with every request, checked, each with its line break.

        Raises:
            OSError: As `failures` lists them.
        """
        return await self.ask(request_head("POST", url, self._defaults, tuple(headers.items())), body, more)

    def ask(self, head: RequestHead, body: bytes, more: bytes = b"") -> Awaitable[Response]:
        """Do the same for a head that is ready; to be awaited at once, since a connection is taken for it."""
        start, origin = head
        whole_head = b"%b%d\r\n%b\r\n" % (start, len(body), more)
        # While others wait, every place is taken: the one that is freed is handed to the first of them.
        connection = self._unused(origin) if self._busy < self._limit else None
        if connection is None:
            return self._ask_another(origin, whole_head, body)
        self._busy += 1
        return connection.ask(whole_head, body)

    async def get(self, url: URL, headers: Mapping[str, str]) -> Response:
        """Ask without a body. Raises: as `post`."""
        return await self.ask(request_head("GET", url, self._defaults, tuple(headers.items())), b"")

    def connections(self) -> tuple[int, int]:
        """Count those that wait to be used and those in use."""
        return sum(map(len, self._idle.values())), self._busy

    async def close(self) -> None:
        """End every connection, and whoever waits for one."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(LostError("closed"))
        self._waiting.clear()
        for connection in list(self._open):
            connection.hang_up()
        # The loop closes sockets on its next turn.
        await asyncio.sleep(0)

    async def _ask_another(self, origin: Origin, head: bytes, body: bytes) -> Response:
        connection = await self._connect(origin)
        return await connection.ask(head, body)

    def _unused(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            # The one used last: the others grow old and go.
            connection, since_s = idle.popitem()
            if self._loop.time() - since_s < self._keep_alive_s:
                return connection
            connection.hang_up()
        return None

    async def _connect(self, origin: Origin) -> Connection:
        if self._busy >= self._limit:
            await self._turn()
        else:
            self._busy += 1
        try:
            return self._unused(origin) or await self._dial(origin)
        except BaseException:
            self._pass_on()
            raise

    async def _dial(self, origin: Origin) -> Connection:
        if self._is_closed:
            raise LostError("closed")
        make = partial(Connection, self._loop, origin, self._freed, self._lost, self._writes)
        connection = await self._dialer.connect(origin, make)
        if self._is_closed:
            connection.hang_up()
            raise LostError("closed")
        self._open.add(connection)
        return connection

    async def _turn(self) -> None:
        """Wait for a place; it is counted as busy all the while."""
        waiter = self._loop.create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiting.pop(waiter, None)
            if not waiter.cancelled() and waiter.exception() is None:
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                return
        self._busy -= 1

    def _freed(self, connection: Connection, may_stay: bool) -> None:
        if may_stay and not self._is_closed:
            idle = self._idle.get(connection.origin)
            if idle is None:
                idle = self._idle[connection.origin] = {}
            idle[connection] = self._loop.time()
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(self._keep_alive_s, self._sweep)
        else:
            self._open.discard(connection)
        if self._waiting:
            self._pass_on()
        else:
            self._busy -= 1

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if (idle := self._idle.get(connection.origin)) is not None:
            idle.pop(connection, None)

    def _sweep(self) -> None:
        self._sweeper = None
        now_s = self._loop.time()
        old = [
            connection
            for idle in self._idle.values()
            for connection, since_s in idle.items()
            if now_s - since_s >= self._keep_alive_s
        ]
        for connection in old:
            connection.hang_up()
        self._idle = {origin: idle for origin, idle in self._idle.items() if idle}
        if self._idle:
            oldest_s = min(next(iter(idle.values())) for idle in self._idle.values())
            self._sweeper = self._loop.call_at(oldest_s + self._keep_alive_s, self._sweep)
