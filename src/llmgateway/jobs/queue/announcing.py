"""Tells workers through a broker that there is work. Whoever orders a job never fails because the broker is away."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from anyio import to_thread
from structlog.typing import FilteringBoundLogger

from llmgateway.jobs.queue.lane import Lane

if TYPE_CHECKING:
    from llmgateway.jobs.queue.brokers import Link

# So many messages wake every worker there is; the jobs beyond them are found by whoever is free.
MOST_REMINDERS = 100
_WITHIN_S = 2.0
_CHECK_WITHIN_S = 0.7  # a readiness check has a second
_FAREWELL_S = 1.0


class BrokerQueue:
    """One broker, asked in a thread of its own.

    Args:
        url: Of Redis or RabbitMQ.
        options: For Dramatiq's broker.
    """

    def __init__(self, url: str, logger: FilteringBoundLogger, *, within_s: float = _WITHIN_S, **options: Any) -> None:
        self._url = url
        self._logger = logger
        self._within_s = within_s
        self._options = options
        self._lane = Lane("queue")
        self._late: Future[Any] | None = None
        self._link: Link | None = None
        self._opening = threading.Lock()
        self._fault: str | None = None

    async def announce(self, job_id: str) -> None:
        await self._asked(lambda: _say_all(self.link(), [job_id]), self._within_s)

    async def remind(self, job_ids: Sequence[str]) -> None:
        """Say that these jobs still wait, unless as many messages do; never raises."""
        if not job_ids and self._link is None:
            return  # a gateway without jobs needs no client library
        await self._asked(lambda: _top_up(self.link(), job_ids), self._within_s)

    async def check(self) -> str | bool:
        if self._link is None:
            return self._fault or True  # likewise
        await self._asked(lambda: self.link().waiting(), _CHECK_WITHIN_S)
        return True if self._fault is None else self._fault

    async def close(self) -> None:
        if self._link is not None:
            await self._asked(self._link.broker.close, _FAREWELL_S, quietly=True)
        self._lane.end()

    def link(self) -> "Link":
        """Give the broker; imports its client at first, so call it in a thread."""
        with self._opening:
            if self._link is None:
                from llmgateway.jobs.queue.brokers import open_link  # noqa: PLC0415  a tenth of a second

                self._link = open_link(self._url, **self._options)
            return self._link

    async def _asked(self, question: Callable[[], object], within_s: float, *, quietly: bool = False) -> None:
        """Have the broker asked; nothing more is asked while it does not come back from the last question."""
        if self._late is not None and not self._late.done():
            return
        self._late = None
        future, fault = None, None
        try:
            if self._link is None:
                await to_thread.run_sync(self.link)
            future = self._lane.submit(question)
            async with asyncio.timeout(within_s):
                await asyncio.wrap_future(future)
        except TimeoutError:
            self._late, fault = future, "no answer"
        except Exception as error:  # noqa: BLE001  whatever a client library raises: a sweep says it again
            fault = _why(error)
        if not quietly:
            self._heard(fault)

    def _heard(self, fault: str | None) -> None:
        before, self._fault = self._fault, fault
        if fault is not None and before is None:
            effect = "workers look for jobs by themselves, every few seconds"
            self._logger.warning("queue_away", queue=shown(self._url), reason=fault, effect=effect)
        elif fault is None and before is not None:
            self._logger.info("queue_back", queue=shown(self._url))


def _say_all(link: "Link", job_ids: Sequence[str]) -> None:
    from llmgateway.jobs.queue.brokers import say  # noqa: PLC0415  imported by then

    for job_id in job_ids:
        say(link.broker, job_id)


def _top_up(link: "Link", job_ids: Sequence[str]) -> None:
    missing = min(len(job_ids), MOST_REMINDERS) - link.waiting()
    _say_all(link, job_ids[: max(missing, 0)])


def _why(error: Exception) -> str:
    """Say what failed by its name alone: texts of client libraries may hold addresses. Dramatiq wraps some of them."""
    inner = error.args[0] if error.args else None
    return type(inner if isinstance(inner, Exception) else error).__name__


def shown(url: str) -> str:
    """Give the address for people: without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
