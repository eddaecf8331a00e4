"""A model routed over scripted deployments, in memory: everything between a call and its upstreams."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llmgateway.catalog.model import Account, Deployment, Model
from llmgateway.exchange import Call, Complete, Exchange, Reply, Usage
from llmgateway.routing.attempt import Attempts, TimeLimits
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.failover.failover import Failover
from llmgateway.routing.failover.patience import Patience
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import HealthPolicy
from llmgateway.routing.model import RoutedModels
from llmgateway.routing.retry import Retry, RetryPolicy
from llmgateway.tokens import TokenCounter
from tests.routing.scripted import CALL, CHARGE, exchange

Play = Exception | Reply | Callable[[], Awaitable[Reply]]
FAST = RetryPolicy(max_retries=2, min_delay_s=0.001, max_delay_s=0.002)


def at(name: str, **fields: Any) -> Deployment:
    """Make a deployment at an account of this name."""
    return Deployment(Account(name, "openai", "openai"), "gpt-4o", **fields)


def answer(text: str = "hi") -> Complete:
    """Make an answer."""
    return Complete(b'{"choices":[{"message":{"content":"%s"}}]}' % text.encode(), Usage(3, 2))


class Accounts:
    """Upstreams by account: the last play of each is repeated."""

    def __init__(self, plays: Mapping[str, list[Play]]) -> None:
        self.plays = {name: list(given) for name, given in plays.items()}
        self.asked: list[str] = []
        self.calls: list[Call] = []
        self.cancelled: list[str] = []

    async def send(self, deployment: Deployment, call: Call) -> Reply:
        name = deployment.account.name
        self.asked.append(name)
        self.calls.append(call)
        plays = self.plays[name]
        play = plays.pop(0) if len(plays) > 1 else plays[0]
        if isinstance(play, Exception):
            raise play
        try:
            return await play() if callable(play) else play
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    async def close(self) -> None:
        """Nothing is open."""


class Offer:
    """A catalog of a few models, and what stands in for a deployment."""

    def __init__(self, *models: Model, equivalents: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.models = {model.name: model for model in models}
        self._equivalents = equivalents or {}

    def resolve(self, name: str) -> Model | None:
        return self.models.get(name)

    def reach(self, name: str) -> Model | None:
        return self.models.get(name)

    def equivalents(self, deployment: Deployment) -> tuple[str, ...]:
        return self._equivalents.get(deployment.account.name, ())


class Routed:
    """Models over accounts that play their parts.

    Args:
        silence_s: See `Patience`.
    """

    def __init__(
        self,
        plays: Mapping[str, list[Play]],
        *models: Model,
        policy: RetryPolicy = FAST,
        health: HealthPolicy | None = None,
        silence_s: float = 2.5,
        equivalents: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.upstream = Accounts(plays)
        self.book = HealthBook(health)
        self.planner = Planner(self.book, Routes(self.book, first_turn=0), TokenCounter())
        self.offer = Offer(*models, equivalents=equivalents)
        attempts = Attempts({"openai": self.upstream}, TimeLimits(), charge=CHARGE)
        failover = Failover(attempts, Patience(silence_s))
        self.target = RoutedModels(self.planner, failover, Retry(policy), lambda: self.offer)

    async def send(self, call: Call = CALL, asked: Exchange | None = None, model: str = "chat") -> Reply:
        """Send a call to a model."""
        asked = asked or exchange()
        asked.model = self.offer.models[model]
        asked.operation = call.operation
        return await self.target.send(asked, call)
