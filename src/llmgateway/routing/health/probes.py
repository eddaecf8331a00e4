"""Asks deployments now and then whether they live, where the catalog wants it: no client waits, no token is spent.

What a probe finds is less than what a call finds: its failure counts as a call's does, but its success ends no more
than the time of a rest, so that the next call decides.
"""

import asyncio
import math
import random
from collections.abc import Callable, Mapping

import anyio
from structlog.typing import FilteringBoundLogger

from llmgateway.catalog.model import Deployment, Wire
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import UpstreamAuthError, UpstreamError
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Health
from llmgateway.upstream.base import Probed

_LOOK_EVERY_S = 1.0
_SHORTEST_S = 0.01
_ANSWER_WITHIN_S = 5.0
_AT_ONCE = 8
_JITTER = 0.2


class Probes:
    """Probes the deployments of the catalog that is served.

    Args:
        upstreams: By wire, those that can be asked so.
        answer_within_s: How long an answer may take.
        look_every_s: How often it looks at least whether there is another catalog.
    """

    def __init__(
        self,
        book: HealthBook,
        catalog: Callable[[], Catalog],
        upstreams: Mapping[Wire, Probed],
        logger: FilteringBoundLogger,
        *,
        answer_within_s: float = _ANSWER_WITHIN_S,
        look_every_s: float = _LOOK_EVERY_S,
    ) -> None:
        self._book = book
        self._catalog = catalog
        self._upstreams = upstreams
        self._logger = logger
        self._answer_within_s = answer_within_s
        self._look_every_s = look_every_s
        self._room = anyio.Semaphore(_AT_ONCE)
        self._seen: Catalog | None = None
        self._probed: list[tuple[Deployment, float]] = []
        self._due: dict[str, float] = {}
        self._warned: set[str] = set()

    async def run(self) -> None:
        """Probe for ever; cancel to end."""
        async with anyio.create_task_group() as group:
            while True:
                now = self._book.clock()
                for deployment, interval_s in self._wanted():
                    health = self._book.of(deployment)
                    if self._is_due(health, interval_s, now):
                        group.start_soon(self._probe, deployment, health)
                soonest = min(self._due.values(), default=math.inf)
                await asyncio.sleep(min(self._look_every_s, max(_SHORTEST_S, soonest - now)))

    def _wanted(self) -> list[tuple[Deployment, float]]:
        """Give the deployments to probe, each once although several models have it, and how often."""
        catalog = self._catalog()
        if catalog is not self._seen:
            self._seen = catalog
            wanted: dict[str, tuple[Deployment, float]] = {}
            for model in catalog.models.values():
                for deployment in model.deployments:
                    if deployment.probe_s is not None and self._can(deployment):
                        wanted[self._book.of(deployment).id] = deployment, deployment.probe_s
            self._probed = list(wanted.values())
            self._due = {name: at for name, at in self._due.items() if name in wanted}
        return self._probed

    def _can(self, deployment: Deployment) -> bool:
        account = deployment.account
        if account.wire in self._upstreams:
            return True
        if account.name not in self._warned:
            self._warned.add(account.name)
            self._logger.warning(
                "probe_impossible",
                provider=account.name,
                reason="only providers that speak OpenAI's wire can be probed",
            )
        return False

    def _is_due(self, health: Health, interval_s: float, now: float) -> bool:
        due = self._due.get(health.id)
        if due is None:  # not all of them at the start
            self._due[health.id] = now + interval_s * random.random()
            return False
        if now < due:
            return False
        self._due[health.id] = now + interval_s * random.uniform(1.0 - _JITTER, 1.0 + _JITTER)
        return health.until != 0.0 or now - health.heard_at >= interval_s  # calls say it as well

    async def _probe(self, deployment: Deployment, health: Health) -> None:
        async with self._room:
            began = self._book.clock()
            try:
                async with asyncio.timeout(self._answer_within_s):
                    let_in = await self._upstreams[deployment.account.wire].probe(deployment)
            except UpstreamAuthError:
                health.failed(self._book.clock(), began, "auth")
            except (UpstreamError, TimeoutError):
                health.failed(self._book.clock(), began, "failures")
            else:
                if let_in or health.cause != "auth":
                    health.due_now(self._book.clock())
