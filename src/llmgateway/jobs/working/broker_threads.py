"""Jobs called by a broker: each of Dramatiq's threads stands for one job that runs on this process's event loop.

A thread holds its message as long as the job runs, so that a process takes no more messages than it has room for, and
its event loop does all the work. A message that comes again meanwhile finds nothing to claim.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from anyio import to_thread
from anyio.abc import TaskGroup
from structlog.typing import FilteringBoundLogger

from llmgateway.jobs.queue.announcing import BrokerQueue
from llmgateway.jobs.working.local import LocalConsumers, taken

if TYPE_CHECKING:
    import dramatiq

# How long a thread, and Redis's consumer, sleep at most when there is nothing: so late may a job begin.
_IDLE_MS = 250
_FAREWELL_S = 3.0


class BrokerConsumers:
    """Dramatiq's worker, and beside it those who find jobs by themselves while the broker is away.

    Args:
        run_next: Claims the most urgent job and runs it to its end; false when there is none.
    """

    def __init__(
        self, queue: BrokerQueue, run_next: Callable[[], Awaitable[bool]], threads: int, logger: FilteringBoundLogger
    ) -> None:
        self._queue = queue
        self._run_next = run_next
        self._threads = threads
        self._logger = logger
        self._room = asyncio.Semaphore(threads)
        self._local = LocalConsumers(self._run_in_room, threads, logger)
        self._arrived: asyncio.Queue[Future[None]] = asyncio.Queue()
        self._held: set[Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: dramatiq.Worker | None = None
        self._leaving: threading.Thread | None = None
        self._stopped = False

    def start(self, group: TaskGroup) -> None:
        self._loop = asyncio.get_running_loop()
        self._local.start(group)
        group.start_soon(self._boot)
        group.start_soon(self._begin, group)

    def wake(self, count: int) -> None:
        self._local.wake(count)

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._local.stop()
        for held in tuple(self._held):
            _release(held)
        if self._worker is not None:
            self._leaving = threading.Thread(target=self._worker.stop, args=(int(_FAREWELL_S * 1000),), daemon=True)
            self._leaving.start()

    async def close(self) -> None:
        self.stop()
        if self._leaving is not None:
            await to_thread.run_sync(self._leaving.join, _FAREWELL_S, abandon_on_cancel=True)

    async def _boot(self) -> None:
        worker = await to_thread.run_sync(self._made)
        if not self._stopped:
            self._worker = worker
            worker.start()

    def _made(self) -> "dramatiq.Worker":
        import dramatiq  # noqa: PLC0415  only who has a broker pays for it

        from llmgateway.jobs.queue.brokers import ACTOR, QUEUE  # noqa: PLC0415  likewise

        broker = self._queue.link().broker
        dramatiq.actor(actor_name=ACTOR, queue_name=QUEUE, broker=broker)(self._run)
        worker = dramatiq.Worker(broker, worker_timeout=_IDLE_MS, worker_threads=self._threads)
        # Twice as many by default: those would lie here, while another worker has nothing to do.
        worker.queue_prefetch = self._threads
        return worker

    def _run(self, job_id: str) -> None:
        """Have a job run, in one of Dramatiq's threads: the most urgent one, whichever the message was sent for."""
        held: Future[None] = Future()
        if self._loop is None or self._stopped:
            return
        try:
            self._loop.call_soon_threadsafe(self._arrive, held)
        except RuntimeError:
            return  # the loop is closed: the process ends
        held.result()

    def _arrive(self, held: "Future[None]") -> None:
        if self._stopped:
            _release(held)
        else:
            self._held.add(held)
            self._arrived.put_nowait(held)

    async def _begin(self, group: TaskGroup) -> None:
        while True:
            group.start_soon(self._run_held, await self._arrived.get())

    async def _run_held(self, held: "Future[None]") -> None:
        try:
            await taken(self._run_in_room, self._logger)
        finally:
            self._held.discard(held)
            _release(held)

    async def _run_in_room(self) -> bool:
        async with self._room:
            return not self._stopped and await self._run_next()


def _release(held: "Future[None]") -> None:
    if not held.done():
        held.set_result(None)
