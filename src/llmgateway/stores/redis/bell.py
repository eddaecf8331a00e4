"""News between processes, by Redis's channels: over a connection of its own, opened again whenever it is lost."""

import asyncio
import time
from typing import Any

from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.memory.bell import MemoryBell
from llmgateway.stores.redis.connection import CommandError, Connection
from llmgateway.stores.redis.link import PREFIX, RedisLink

_CHANNEL = f"{PREFIX}bell"
_TURN_S = 1.0
_SILENT_S = 5.0


class RedisBell:
    """A bell that all processes hear. `run` must run beside it.

    `fault` says why this process hears nothing from others.
    """

    def __init__(self, link: RedisLink, *, turn_s: float = _TURN_S) -> None:
        self.fault: str | None = None
        self._link = link
        self._own = MemoryBell()
        self._turn_s = turn_s
        self._heard_at = 0.0

    def ring(self, name: str) -> None:
        self._own.ring(name)
        if self._link.up:
            self._link.send(("PUBLISH", _CHANNEL, name))

    async def wait(self, name: str, timeout_s: float) -> bool:
        return await self._own.wait(name, timeout_s)

    async def run(self) -> None:
        """Listen, for ever."""
        while True:
            try:
                connection = await self._link.open(_SILENT_S, self._hear)
            except StoreAwayError as error:
                self.fault = str(error)
                await asyncio.sleep(self._turn_s)
                continue
            try:
                await self._listen(connection)
            finally:
                connection.close()

    async def _listen(self, connection: Connection) -> None:
        self.fault = None
        self._heard_at = time.perf_counter()
        connection.say(("SUBSCRIBE", _CHANNEL))
        while not connection.lost:
            await asyncio.sleep(self._turn_s)
            if time.perf_counter() - self._heard_at > _SILENT_S:
                self.fault = f"silent for {_SILENT_S:.3g} s"
                return
            connection.say(("PING",))

    def _hear(self, reply: Any) -> None:
        """Take what comes: `[message, channel, name]`, the subscription's own reply, or that of a ping."""
        self._heard_at = time.perf_counter()
        if reply.__class__ is CommandError:
            self.fault = f"Redis refuses: {str(reply)[:200]}"
        elif isinstance(reply, list) and reply[0] == b"message":
            self._own.ring(reply[2].decode("utf-8", "replace"))
        elif isinstance(reply, list) and reply[0] == b"subscribe":
            # What was told from the loss of the last connection until now was not heard.
            self._own.ring_all()
