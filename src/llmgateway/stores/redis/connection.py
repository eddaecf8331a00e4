"""One connection to Redis: the commands of many callers, one after the other, and the answers in the same order.

Redis answers a connection strictly in order (RESP 2), so nobody waits for a connection of his own. One timer watches
the oldest question; when that one is not answered in time the connection is given up, and with it all behind it.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
from typing_extensions import override

from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.redis.address import Address

Command = tuple[bytes | str | int | float, ...]
# Told once: the replies, or `None` and why there are none.
Told = Callable[[list[Any] | None, str | None], None]

# Its types name a tuple of one part.
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]
# How long a late answer that lies in the socket already is given to be read, after this process was held up itself.
_GRACE_S = 0.02
_BUFFER_BYTES = 64 * 1024
_IS_IT_TLS = "without TLS the URL begins with redis://"
_IDLE_S, _INTERVAL_S, _PROBES = 30, 10, 3


class CommandError(Exception):
    """Redis refuses a command: an item of the replies, in the command's place."""


class _Question:
    __slots__ = ("count", "late", "replies", "told", "until")

    def __init__(self, count: int, until: float, told: Told) -> None:
        self.count = count
        self.until = until
        self.told = told
        self.replies: list[Any] = []
        self.late = False


class Connection(asyncio.BufferedProtocol):
    """A connection that is open, or was: once lost it stays so.

    Args:
        timeout_s: How long the oldest question may wait for its answer.
        heard: Told what comes unasked: news of channels.
    """

    def __init__(self, timeout_s: float, heard: Callable[[Any], None] | None = None) -> None:
        self.lost = False
        self._timeout_s = timeout_s
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=CommandError)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._questions: deque[_Question] = deque()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fault: str | None = None

    def ask(self, commands: Sequence[Command], told: Told) -> None:
        """Send commands together; `told` is called once, soon or late."""
        if self.lost or self._transport is None:
            told(None, self._fault or "the connection is closed")
            return
        pack = _pack
        self._transport.write(pack(commands[0]) if len(commands) == 1 else b"".join([pack(each) for each in commands]))
        until = self._loop.time() + self._timeout_s
        self._questions.append(_Question(len(commands), until, told))
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._look)

    def say(self, command: Command) -> None:
        """Send a command whose reply is told by `heard`: subscriptions have no answers of their own."""
        if self._transport is not None and not self.lost:
            self._transport.write(_pack(command))

    async def answers(self, *commands: Command) -> list[Any]:
        """Send commands and wait. Raises: StoreAwayError."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self.ask(commands, lambda replies, fault: resolve(future, replies, fault))
        return await future

    def close(self, fault: str = "the connection was closed") -> None:
        """Give it up now; whoever waits is told why."""
        if self._transport is not None:
            self._transport.abort()
        self._end(fault)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP transports write
        if (opened := transport.get_extra_info("socket")) is not None:
            _keep_alive(opened)

    @override
    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    @override
    def buffer_updated(self, nbytes: int) -> None:
        reader, questions = self._reader, self._questions
        try:
            reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # any buffer will do
            while (reply := reader.gets()) is not False:
                if not questions:
                    if self._heard is not None:
                        self._heard(reply)
                    continue
                question = questions[0]
                question.replies.append(reply)
                if len(question.replies) == question.count:
                    questions.popleft()
                    question.told(question.replies, None)
        except hiredis.ProtocolError:
            self.close("it does not speak Redis's protocol (with TLS the URL begins with rediss://)")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost: {exc}" if exc else "Redis closed the connection")

    def _look(self) -> None:
        """See whether the oldest question waits too long; the timer is set anew only here."""
        self._timer = None
        if not self._questions:
            return
        oldest, now = self._questions[0], self._loop.time()
        if now < oldest.until:
            self._timer = self._loop.call_at(oldest.until, self._look)
        elif not oldest.late:
            oldest.late = True
            self._timer = self._loop.call_at(now + _GRACE_S, self._look)
        else:
            self.close(f"no answer within {self._timeout_s:.3g} s")

    def _end(self, fault: str) -> None:
        if self.lost:
            return
        self.lost, self._fault = True, fault
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        questions, self._questions = self._questions, deque()
        for question in questions:
            question.told(None, fault)


def resolve(future: "asyncio.Future[list[Any]]", replies: list[Any] | None, fault: str | None) -> None:
    """Wake whoever waits, if he still does."""
    if future.done():
        return
    if replies is None:
        future.set_exception(StoreAwayError(fault))
    else:
        future.set_result(replies)


class Lane:
    """A connection that is opened again after it was lost. However many wait for it, one of them opens it."""

    def __init__(self, timeout_s: float, connect: Callable[[float], Awaitable[Connection]]) -> None:
        self._timeout_s = timeout_s
        self._connect = connect
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self._failed = 0
        self._fault = ""

    @property
    def current(self) -> Connection | None:
        """The connection, if there is one."""
        connection = self._connection
        return None if connection is None or connection.lost else connection

    async def opened(self) -> Connection:
        """Return the connection, opening it if need be; whoever waited for a vain attempt makes none of his own.

        Raises:
            StoreAwayError: It cannot be opened.
        """
        failed = self._failed
        async with self._opening:
            if (connection := self.current) is not None:
                return connection
            if self._failed != failed:
                raise StoreAwayError(self._fault)
            try:
                self._connection = await self._connect(self._timeout_s)
            except StoreAwayError as error:
                self._failed += 1
                self._fault = str(error)
                raise
            return self._connection

    def close(self) -> None:
        """Close what is open."""
        if self._connection is not None:
            self._connection.close()


async def connect(
    address: Address,
    context: ssl.SSLContext | None,
    *,
    timeout_s: float,
    connect_timeout_s: float,
    heard: Callable[[Any], None] | None = None,
) -> Connection:
    """Open a connection, with TLS if there is a context for it, and say who we are.

    Raises:
        StoreAwayError: Nobody is there, or not in time, or not for us.
    """
    greeting = _greeting(address)
    try:
        async with asyncio.timeout(connect_timeout_s):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(timeout_s, heard), address.host, address.port, ssl=context
            )
            try:
                replies = await connection.answers(*greeting) if greeting else []
            except BaseException:
                connection.close()
                raise
    except TimeoutError:
        hint = f" ({_IS_IT_TLS})" if address.tls else ""
        raise StoreAwayError(f"{address.shown}: no connection within {connect_timeout_s:.3g} s{hint}") from None
    except ssl.SSLError as error:
        reason = error.reason or "not TLS"
        raise StoreAwayError(
            f"{address.shown}: TLS failed ({reason}); without TLS the URL begins with redis://"
        ) from None
    except OSError as error:
        raise StoreAwayError(f"{address.shown}: {error.strerror or error}") from None
    if refused := next((reply for reply in replies if isinstance(reply, CommandError)), None):
        connection.close()
        # Who does not know AUTH repeats what followed it: the password.
        raise StoreAwayError(f"{address.shown}: {str(refused).partition(', with args')[0]}")
    return connection


def _greeting(address: Address) -> list[Command]:
    commands: list[Command] = []
    if address.password is not None:
        commands.append(("AUTH", *((address.user,) if address.user else ()), address.password))
    if address.database:
        commands.append(("SELECT", address.database))
    return commands


def _keep_alive(opened: Any) -> None:
    """Find out about a peer that vanished without a word, and never hold back a small command."""
    if opened.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _IDLE_S), ("TCP_KEEPINTVL", _INTERVAL_S), ("TCP_KEEPCNT", _PROBES)):
        if hasattr(socket, name):  # not on every system
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
