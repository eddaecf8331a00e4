"""Events by topic that all processes read, in Redis: a stream for each topic, whose entries bear the events' numbers.

Whoever reads waits in Redis, on a connection that nobody else needs meanwhile.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmgateway.ids import new_id
from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.redis.connection import Command, CommandError, Connection, resolve
from llmgateway.stores.redis.link import PREFIX, RedisLink

_MOST_OF_TOPIC = 1000
_MOST_AT_ONCE = 200
# Redis is asked again after so long: whoever vanished without a word holds no place there for longer.
_LONGEST_WAIT_S = 5.0
_PATIENCE_S = 3.0
_IDLE_S = 10.0
_WAKE_TTL_MS = 60_000
_TOPIC = f"{PREFIX}feed:"

Found = Mapping[str, Sequence[tuple[int, bytes]]]


class RedisFeed:
    """A feed over one link, and over connections of its own for those who wait.

    Args:
        idle_s: After so long a connection that nobody reads from is given back.
    """

    def __init__(self, link: RedisLink, *, idle_s: float = _IDLE_S) -> None:
        self._link = link
        self._idle_s = idle_s
        self._idle: list[_Waiting] = []
        self._closed = False

    def append(self, topic: str, number: int, body: bytes, ttl_s: float) -> None:
        if not self._link.up:
            return  # it is told by the database: what comes late would only be in the way of what is new
        key = _TOPIC + topic
        # A number that is there already is refused by Redis, which is as good.
        self._link.send(
            ("XADD", key, "MAXLEN", "~", _MOST_OF_TOPIC, f"{number}-0", "b", body),
            ("PEXPIRE", key, max(1, round(ttl_s * 1000))),
        )

    async def read(self, after: Mapping[str, int], timeout_s: float) -> Found:
        if not self._link.up:
            raise StoreAwayError(self._link.fault)
        waiting = await self._taken()
        try:
            return await _until(waiting, after, timeout_s)
        except asyncio.CancelledError:
            waiting.wake(self._link)
            raise
        finally:
            self._give_back(waiting)

    def close(self) -> None:
        """Close the connections; one that is read from when its reader leaves."""
        self._closed = True
        for waiting in self._idle:
            waiting.close()
        self._idle.clear()

    async def _taken(self) -> "_Waiting":
        while self._idle:
            waiting = self._idle.pop()
            if waiting.resume():
                return waiting
        return _Waiting(await self._link.open(_LONGEST_WAIT_S + _PATIENCE_S, _unasked))

    def _give_back(self, waiting: "_Waiting") -> None:
        if self._closed:
            waiting.close()
        elif waiting.rest(self._idle_s, lambda: self._idle.remove(waiting)):
            self._idle.append(waiting)


class _Waiting:
    """A connection that waits in Redis for one reader; when that one leaves, it is woken for the next.

    To be woken it waits for the entries of a stream of its own as well: commands that wait can be ended in no other way
    that every user of Redis is allowed.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wakes = f"{_TOPIC}{new_id('wake')}"
        self._woken = 0
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, after: Mapping[str, int], timeout_s: float) -> Found:
        """Wait once. Raises: StoreAwayError."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        command = self._command(after, timeout_s)
        self._connection.ask([command], lambda replies, fault: resolve(future, replies, fault))
        (reply,) = await future
        if reply.__class__ is CommandError:
            raise StoreAwayError(f"Redis refuses: {reply}")
        found = {}
        for key, entries in reply or ():
            topic = key.decode().removeprefix(_TOPIC)
            if topic in after:
                found[topic] = [(int(name.partition(b"-")[0]), fields[1]) for name, fields in entries]
        return found

    def wake(self, link: RedisLink) -> None:
        """End the wait, soon: what comes then is read by nobody, and comes again for the next who asks."""
        self._woken += 1
        link.send(
            ("XADD", self._wakes, "MAXLEN", 1, f"{self._woken}-0", "", ""), ("PEXPIRE", self._wakes, _WAKE_TTL_MS)
        )

    def rest(self, idle_s: float, over: Callable[[], None]) -> bool:
        """Be there for the next reader for a while; false when the connection is lost."""
        if self._connection.lost:
            return False

        def end() -> None:
            over()
            self.close()

        self._timer = asyncio.get_running_loop().call_later(idle_s, end)
        return True

    def resume(self) -> bool:
        """Be read from again; false when the connection is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return not self._connection.lost

    def close(self) -> None:
        """Give the connection back."""
        self.resume()
        self._connection.close()

    def _command(self, after: Mapping[str, int], timeout_s: float) -> Command:
        keys = [_TOPIC + topic for topic in after]
        numbers = [f"{number}-0" for number in after.values()]
        block_ms = max(1, math.ceil(timeout_s * 1000))
        waits = ("XREAD", "COUNT", _MOST_AT_ONCE, "BLOCK", block_ms, "STREAMS")
        return (*waits, *keys, self._wakes, *numbers, f"{self._woken}-0")


async def _until(waiting: _Waiting, after: Mapping[str, int], timeout_s: float) -> Found:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        left_s = deadline - loop.time()
        if (found := await waiting.read(after, min(max(left_s, 0.0), _LONGEST_WAIT_S))) or left_s <= _LONGEST_WAIT_S:
            return found


def _unasked(reply: Any) -> None:
    """Nothing comes that was not asked for."""
