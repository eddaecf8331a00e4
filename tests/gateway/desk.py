"""The limits' layer with all around it: a target that answers, a catalog, a store."""

import asyncio
import io
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import pytest

from llmgateway.caller import Budget, Caller
from llmgateway.catalog.model import CallerLimits, Deployment, Model, Prices
from llmgateway.catalog.model import Limits as Numbers
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import (
    GatewayError,
    LedgerAwayError,
)
from llmgateway.exchange import Attempt, Call, Complete, Exchange, Reply, Usage
from llmgateway.gateway.answers.entry import unpack
from llmgateway.gateway.budgets import BudgetWatch
from llmgateway.gateway.coalescing import Flights
from llmgateway.gateway.layers.limits import Limits
from llmgateway.gateway.rules import RuleBook
from llmgateway.gateway.spending import Spending
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.health.book import HealthBook
from llmgateway.stores.base import Store
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.store import MemoryStore
from llmgateway.telemetry.logs import LineSink, build_logger
from llmgateway.tokens import TokenCounter
from tests.deployments import deployment

PRICES = Prices(0.000_001, 0.000_002)
CLIENT = Caller(kind="client", key_id="key_1", organization="acme")
RICH = msgspec.structs.replace(CLIENT, budget=Budget(1))
BODY = b"x" * 400  # about a hundred tokens


@dataclass
class Answers:
    """A target: an attempt with this usage and cost, or an error after it."""

    usage: Usage | None = field(default_factory=lambda: Usage(prompt_tokens=10, completion_tokens=20))
    cost_usd: float | None = 0.5
    error: GatewayError | None = None
    outcome: str | None = "ok"
    calls: int = 0
    chosen: list[int] = field(default_factory=list)
    held: asyncio.Event | None = None

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        self.calls += 1
        self.chosen.append(exchange.choice)
        if isinstance(exchange.cached, bytes):
            return Complete(exchange.cached)
        exchange.attempts.append(Attempt(_chosen(exchange), 0.0, outcome=self.outcome))
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        exchange.usage, exchange.cost_usd = self.usage, self.cost_usd
        return Complete(b"{}")


def _chosen(exchange: Exchange) -> Deployment:
    if exchange.plan is not None:
        return exchange.plan.ordered()[exchange.choice]
    assert exchange.model is not None
    return exchange.model.deployments[0]


@dataclass
class Desk:
    """The layer with all around it."""

    layer: Limits
    answers: Answers
    model: Model
    watch: BudgetWatch

    async def ask(self, caller: Caller = CLIENT, *, cache_key: str | None = None, **call: object) -> Exchange:
        """Ask, and be through with it, whatever came out."""
        exchange = self.exchange(caller, cache_key)
        try:
            await self.layer.send(exchange, msgspec.structs.replace(Call("chat", "chat", BODY), **call))
        finally:
            for end in exchange.at_end:
                end()
        return exchange

    def exchange(self, caller: Caller = CLIENT, cache_key: str | None = None) -> Exchange:
        return Exchange(caller=caller, organization=caller.organization, model=self.model, cache_key=cache_key)

    async def refused(self, caller: Caller = CLIENT, *, cache_key: str | None = None) -> tuple[GatewayError, Exchange]:
        exchange = self.exchange(caller, cache_key)
        with pytest.raises(GatewayError) as caught:
            await self.layer.send(exchange, Call("chat", "chat", BODY))
        assert exchange.at_end == []
        return caught.value, exchange


async def nothing_spent(*_: object) -> int:
    return 0


async def ledger_away(*_: object) -> int:
    raise LedgerAwayError("The ledger is away.")


def desk(
    store: Store,
    limits: CallerLimits | None = None,
    *,
    model: Model | None = None,
    ledger: object = nothing_spent,
    enabled: bool = True,
    unpriced: Literal["deny", "allow"] = "deny",
    fail_open: bool = True,
) -> Desk:
    model = model or Model("chat", (deployment(prices=PRICES),))
    accounts = {one.account.name: one.account for one in model.deployments}
    catalog = Catalog(
        models={"chat": model}, accounts=accounts, version="1", limits=limits or CallerLimits(tiers={}, operations={})
    )
    answers, watch = Answers(), watching()
    layer = Limits(
        store,
        RuleBook(lambda: catalog, enabled=enabled),
        answers,
        names=lambda: catalog,
        planner=Planner(book := HealthBook(), Routes(book, first_turn=0), TokenCounter()),
        spending=Spending(store, ledger),  # type: ignore[arg-type]
        watch=watch,
        unpriced=unpriced,
        fail_open=fail_open,
        request_s=100,
        flights=Flights(store.values, unpack, shared=lambda: store.shared),
    )
    return Desk(layer, answers, model, watch)


def watching() -> BudgetWatch:
    return BudgetWatch(build_logger(LineSink(io.BytesIO()), level="error", log_format="json"), lambda *_: None)


def memory(spent: object = None) -> tuple[Store, list[float]]:
    """Make the real store of one process, its limiter with a clock that a test moves."""
    clock = [1_800_000_000.0]
    limiter = MemoryLimiter(now_ns=lambda: int(clock[0] * 1e6) * 1000, spent=spent)  # type: ignore[arg-type]
    return MemoryStore(limiter), clock


def tier(**named: object) -> CallerLimits:
    return CallerLimits(tiers={"default": Numbers(**named)}, operations={})  # type: ignore[arg-type]
