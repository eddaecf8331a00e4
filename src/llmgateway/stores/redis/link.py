"""The way to Redis: one round trip for all that belongs together, and no waiting while Redis is away.

Questions go over one connection and what nobody waits for over another, so that a large value in the one holds up
nothing in the other. When three in a row failed or came too late, Redis counts as away: then a question fails at once,
and a probe each second finds out when Redis is back.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from structlog.typing import FilteringBoundLogger

from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.redis.address import read_address
from llmgateway.stores.redis.connection import Command, CommandError, Connection, Lane, connect, resolve
from llmgateway.stores.redis.outbox import Outbox, Then, set_within
from llmgateway.stores.redis.scripts import Script, Scripts

__all__ = ["PREFIX", "Command", "CommandError", "RedisLink", "Script"]

PREFIX = "llmgw:"
_FAILURES = 3
_FAREWELL_S = 1.0
# What goes beside the requests may be large, and takes its time.
_PATIENCE = 8
# Shows that scripts may be run and keys be written: a Redis that can only be read is of no use to us.
_PROBE = "return redis.call('SET', KEYS[1], '1', 'PX', 10000)"


class RedisLink:
    """Talks to Redis. `run` must run beside it.

    `up` says whether Redis answers as far as is known, `fault` why it does not.

    Args:
        timeout_s: How long a question may wait for its answer.
        probe_every_s: How often Redis is asked for, while nobody else asks.

    Raises:
        ValueError: The URL is none for Redis.
    """

    def __init__(
        self,
        url: str,
        *,
        logger: FilteringBoundLogger,
        timeout_s: float = 0.25,
        connect_timeout_s: float = 1.0,
        probe_every_s: float = 1.0,
    ) -> None:
        self.address = read_address(url)
        self.up = True
        self.fault: str | None = None
        self.round_trips = 0  # those that requests make, before and after their answer; probes do not count
        self.failures = 0
        self._logger = logger
        self._connect_timeout_s = connect_timeout_s
        self._probe_every_s = probe_every_s
        self._context: ssl.SSLContext | None = None
        self._context_made = False
        self._failed_in_row = 0
        self._away_since = 0.0
        self._asked = False  # Redis answered somebody since the last probe
        self._scripts = Scripts()
        probe = self._scripts.make(_PROBE)
        self._probe: tuple[Command, ...] = (probe([f"{PREFIX}probe"]), ("PUBLISH", f"{PREFIX}probe", ""))
        self._wanted = asyncio.Event()
        self._asks = Lane(timeout_s, self.open)
        self._sends = Lane(timeout_s * _PATIENCE, self.open)
        self._outbox = Outbox(self._sends, self._scripts, self, self._wanted.set)

    @property
    def dropped(self) -> int:
        """How many commands that nobody waited for were lost."""
        return self._outbox.dropped

    def script(self, text: str) -> Script:
        """Make a script known: it is loaded with each connection, and again when Redis has forgotten it."""
        return self._scripts.make(text)

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands together and return their replies in order: a `CommandError` for one that Redis refuses.

        Raises:
            StoreAwayError: Redis does not answer in time, or forbids what is needed; at once while that is known.
        """
        if not self.up:
            raise StoreAwayError(self.fault)
        self.round_trips += 1
        return await self._trip(commands)

    async def peek(self, *commands: Command) -> list[Any]:
        """Ask beside the requests: it is none of their round trips, and its answer is no sign that Redis serves them.

        Raises:
            StoreAwayError: As `ask`.
        """
        if not self.up:
            raise StoreAwayError(self.fault)
        return await self._replies(commands)

    def send(self, *commands: Command, then: Then | None = None) -> None:
        """Send commands soon, with whatever else waits. `then` is called with their replies, if they come.

        Never waits and never raises: while Redis is away they are kept, and dropped when there is no more room.
        """
        self._outbox.put(commands, then)

    def follow(self, *commands: Command) -> None:
        """Send commands behind all that was asked: Redis does them after it, as it may not when they are sent.

        Never waits and never raises. When the connection is lost they are sent, so that they may be done twice.
        """
        connection = self._asks.current
        if connection is None:
            self.send(*commands)
            return
        self.round_trips += 1
        self._scripts.ask(connection, commands, lambda replies, _: self.send(*commands) if replies is None else None)

    async def connect(self) -> None:
        """Find out whether Redis answers; if not, it counts as away. Never raises."""
        try:
            await self._trip(self._probe)
            await self._sends.opened()
        except StoreAwayError as error:
            self.fault = str(error)
            self._open_breaker()
        self._outbox.schedule()

    async def run(self) -> None:
        """Find out, for ever, whether Redis still answers, or again."""
        await self.connect()
        while True:
            wanted = await set_within(self._wanted, self._probe_every_s)
            self._wanted.clear()
            asked, self._asked = self._asked, False
            if not self.up or not (asked or wanted):
                await self._look()
            if self.up and self._sends.current is None:
                await self._reconnect()

    async def drain(self, within_s: float = _FAREWELL_S) -> bool:
        """Wait until all that was sent is answered; whether it was in time."""
        return await self._outbox.drain(within_s)

    async def close(self) -> None:
        """Send what waits, and close."""
        if self.up:
            with contextlib.suppress(StoreAwayError):
                await self._sends.opened()
            self._outbox.schedule()
            await self._outbox.drain(_FAREWELL_S)
        self._outbox.give_up()
        if (connection := self._asks.current) is not None:
            with contextlib.suppress(StoreAwayError):
                await connection.answers(("PING",))  # after all that followed a question
        self._asks.close()
        self._sends.close()

    async def open(self, timeout_s: float, heard: Callable[[Any], None] | None = None) -> Connection:
        """Open a connection, with our scripts loaded unless it is for news. Raises: StoreAwayError."""
        if not self._context_made:
            try:
                self._context = await asyncio.to_thread(self.address.ssl_context)  # reads hundreds of certificates
            except OSError as error:
                raise StoreAwayError(f"the certificates for Redis cannot be read: {error}") from error
            self._context_made = True
        connection = await connect(
            self.address, self._context, timeout_s=timeout_s, connect_timeout_s=self._connect_timeout_s, heard=heard
        )
        if heard is None:
            connection.ask(self._scripts.loads(), _ignore)
        return connection

    def answered(self) -> None:
        """Note that Redis answered."""
        self._asked = True
        if self._failed_in_row or not self.up:
            self._failed_in_row, self.fault = 0, None
            if not self.up:
                self._close_breaker()

    def failed(self, fault: str) -> None:
        """Note that it did not."""
        self.failures += 1
        self._failed_in_row += 1
        self.fault = fault
        if self._failed_in_row >= _FAILURES:
            self._open_breaker()

    async def _trip(self, commands: Sequence[Command]) -> list[Any]:
        replies = await self._replies(commands)
        self.answered()
        return replies

    async def _replies(self, commands: Sequence[Command]) -> list[Any]:
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        try:
            connection = self._asks.current or await self._asks.opened()
            self._scripts.ask(connection, commands, lambda replies, fault: resolve(future, replies, fault))
            return await future
        except StoreAwayError as error:
            self.failed(str(error))
            raise

    async def _look(self) -> None:
        """Probe; when that fails and Redis does not count as away yet, again at once."""
        while True:
            was_up = self.up
            try:
                await self._trip(self._probe)
            except StoreAwayError:
                if was_up:
                    continue
            return

    async def _reconnect(self) -> None:
        try:
            await self._sends.opened()
        except StoreAwayError as error:
            self.failed(str(error))
        self._outbox.schedule()

    def _open_breaker(self) -> None:
        if self.up:
            self.up = False
            self._away_since = time.perf_counter()
            self._logger.warning("redis_away", redis=self.address.shown, reason=self.fault)

    def _close_breaker(self) -> None:
        self.up = True
        away_s = round(time.perf_counter() - self._away_since, 3)
        self._logger.info("redis_back", redis=self.address.shown, away_s=away_s, dropped=self.dropped)
        self._outbox.schedule()


def _ignore(replies: list[Any] | None, fault: str | None) -> None:
    """A script that could not be loaded is seen when it is run."""
