"""An answer's body, between the connection that it comes from and the one who reads it."""

import asyncio
from collections.abc import Sequence

# What may wait to be read before the provider has to wait. A socket hands over up to 256 KB at once.
_HIGH_BYTES = 128 * 1024


class Body:
    """The pieces of one answer that have come and were not read yet; for one reader at a time.

    A reader that is cancelled misses nothing: the next read goes on where it was.
    """

    __slots__ = ("_failure", "_is_paused", "_pieces", "_size_bytes", "_transport", "_waiter", "_whole", "loop", "over")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self.loop = loop
        self.over = False
        self._transport = transport
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: OSError | None = None
        self._is_paused = False
        self._whole = False

    def at_eof(self) -> bool:
        """Whether all there is has been read."""
        return self.over and not self._pieces and self._failure is None

    async def readany(self) -> bytes:
        """Read what has come, or wait for it; nothing is the end.

        Raises:
            OSError: The rest will not come. All that came before has been read by then.
        """
        while not self._pieces:
            if self._failure is not None:
                raise _anew(self._failure)
            if self.over:
                return b""
            # As `_news` does, without a frame of its own: a stream reads each of its pieces so.
            self._waiter = self.loop.create_future()
            await self._waiter
        return self._taken()

    async def read(self) -> bytes:
        """Read all that is left, however much.

        Raises:
            OSError: The rest will not come.
        """
        self._whole = True
        self.resume()
        try:
            while not self.over:
                await self._news()
        finally:
            self._whole = False
        if self._failure is not None:
            self._pieces.clear()
            raise _anew(self._failure)
        return self._taken()

    def whole(self, most_bytes: int) -> bytes | None:
        """Take all of it without waiting; `None` where it has not come yet, broke off, or is longer than that."""
        if not self.over or self._failure is not None or self._size_bytes > most_bytes:
            return None
        return self._taken()

    def feed(self, pieces: Sequence[bytes]) -> None:
        """Take pieces; `settle` tells the reader."""
        self._pieces += pieces
        self._size_bytes += sum(map(len, pieces))

    def settle(self) -> None:
        """Tell the reader that pieces have come, or the provider to wait until there is a reader."""
        if self._whole:
            return
        if self._waiter is not None and not self._waiter.done():
            if self._pieces:
                self._waiter.set_result(None)
        elif self._size_bytes > _HIGH_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Let the provider go on."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def end(self, failure: OSError | None = None) -> None:
        """Say that nothing more will come, and whether that is as it should be."""
        self.over = True
        self._failure = failure
        # The connection is somebody else's now, or closed.
        self._is_paused = False
        if self._waiter is not None:
            self._wake()

    def _taken(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self._size_bytes = 0
        if self._is_paused:
            self.resume()
        return taken

    def _news(self) -> "asyncio.Future[None]":
        # Awaited as it is: a coroutine around it would be one more for each piece of a stream.
        self._waiter = self.loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class WholeBody:
    """A body that has come already; read as a `Body` is."""

    __slots__ = ("_rest",)

    def __init__(self, whole: bytes) -> None:
        self._rest = whole

    def at_eof(self) -> bool:
        """Whether all there is has been read."""
        return not self._rest

    async def readany(self) -> bytes:
        """Read all of it; nothing is the end."""
        rest, self._rest = self._rest, b""
        return rest

    async def read(self) -> bytes:
        """Read all that is left."""
        return await self.readany()


def _anew(failure: OSError) -> OSError:
    """Make another one like it: what is raised holds the frames that it passes, and these the body that holds it."""
    return type(failure)(*failure.args)
