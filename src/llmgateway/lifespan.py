"""The life of a web process: what runs beside its requests, the signals it hears, and an orderly end."""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import anyio
from anyio.abc import TaskGroup
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from llmgateway.catalog.source import CatalogSource
from llmgateway.malloc import one_arena
from llmgateway.middleware.inflight import Running
from llmgateway.turn import Turn

# A relayed call leaves no cycles: looking for them after every 700 allocations, as Python does, finds nothing.
_ALLOCATIONS = 20_000
# A thread that cuts a long document lets the event loop have its turn after so long, not after 5 ms as Python does: a
# request needs several turns.
_SWITCH_S = 0.001


def _nobody() -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class State:
    """What a process knows of itself while it serves."""

    logger: FilteringBoundLogger
    catalog: CatalogSource
    grace_s: float
    told: Callable[[], None] = _nobody  # that it drains
    running: Running = field(default_factory=Running)
    draining: bool = False

    def drain(self) -> None:
        """Be ready for nothing new; when the grace is over, end what still runs."""
        if not self.draining:
            self.draining = True
            self.told()
            self.logger.info("draining", running=len(self.running.tasks), grace_s=self.grace_s)
            asyncio.get_running_loop().call_later(self.grace_s, self._end)

    def _end(self) -> None:
        if ended := self.running.end_all():
            self.logger.warning("grace_over", ended=ended)


class Application:
    """The ASGI application.

    Args:
        stack: Serves requests.
        beside: Starts what runs beside them.
        close: Gives back what was opened.
        leave: Ends in order what runs beside the requests, while what it needs still runs.
        sockets: Serves WebSockets; `None` refuses them.
        turn: Puts off what is to happen before answers are written, and after: for our own server to write them.
    """

    def __init__(
        self,
        stack: ASGIApp,
        state: State,
        beside: Callable[[TaskGroup], None],
        close: Callable[[], Awaitable[None]],
        *,
        leave: Callable[[], Awaitable[None]] | None = None,
        sockets: ASGIApp | None = None,
        turn: Turn | None = None,
    ) -> None:
        self._stack = stack
        self.turn = turn
        self._sockets = sockets
        self.state = state
        self._beside = beside
        self._close = close
        self._leave = leave

    @property
    def requests(self) -> ASGIApp:
        """What serves requests alone, for a server that knows what it has: a coroutine less."""
        return self._stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            if self._sockets is None:
                await send({"type": "websocket.close"})
            else:
                await self._sockets(scope, receive, send)
        else:
            await self._stack(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            with _heard(self.state):
                async with anyio.create_task_group() as group:
                    self._beside(group)
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
                    if self._leave is not None:
                        await self._leave()
                    group.cancel_scope.cancel()
        finally:
            await self._close()
        await send({"type": "lifespan.shutdown.complete"})


def settle() -> None:
    """Keep the collector from walking, again and again, over what lives as long as the process; and threads brief.

    Threads share one arena as well: a dozen of them kept 5 MB.
    """
    sys.setswitchinterval(_SWITCH_S)
    one_arena()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 50)


def settle_again() -> None:
    """Do the same for what was loaded since, SQLAlchemy above all, where this process has settled at all."""
    # The count of what is frozen would tell as well, by walking over all of it.
    if gc.get_threshold()[0] == _ALLOCATIONS:
        gc.collect()  # what is garbage now would stay for good
        gc.freeze()


@contextmanager
def _heard(state: State) -> Iterator[None]:
    """Drain when told to end, before the server does its part; look at the catalog again at SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def hear(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(state.catalog.request_reload if number == signal.SIGHUP else state.drain)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)

    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, previous in before.items():
            # `None` was not set from Python, and cannot be from here.
            if previous is not None and signal.getsignal(number) is hear:
                signal.signal(number, previous)
