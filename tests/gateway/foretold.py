"""A catalog served twice: by what answers calls, and by what only says how it would."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from llmgateway.caller import ANYONE, Caller
from llmgateway.catalog.equivalents import Table
from llmgateway.catalog.model import Auto, CallerLimits, Model
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import GatewayError
from llmgateway.exchange import Call, Complete, Exchange
from llmgateway.gateway.explain import Explain
from llmgateway.gateway.layers.access import Access
from llmgateway.gateway.layers.limits import Limits
from llmgateway.gateway.rules import RuleBook
from llmgateway.gateway.spending import Spending
from llmgateway.gateway.target import Answer, wrap
from llmgateway.routing.attempt import Attempts, TimeLimits
from llmgateway.routing.choosing.auto import AutoModel
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.failover.failover import Failover
from llmgateway.routing.failover.patience import Patience
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Health
from llmgateway.routing.model import RoutedModels
from llmgateway.routing.retry import Retry, RetryPolicy
from llmgateway.tokens import TokenCounter
from tests.gateway.desk import memory, nothing_spent, watching
from tests.routed import Accounts, Play, answer
from tests.routing.scripted import CHARGE

QUESTION = b'{"model":"chat","messages":[{"role":"user","content":"How far is the moon?"}]}'
CALL = Call("chat", "chat", QUESTION)
NO_LIMITS = CallerLimits(tiers={}, operations={})
COUNTER = TokenCounter()
# Time stands still at this moment, which rests and paces are before and after.
NOW = time.perf_counter()


class Foretold:
    """Models over accounts that play their parts; a call that finds nobody is not repeated.

    Args:
        plays: By account; all others answer.
        turn: Of every model.
    """

    def __init__(
        self,
        *models: Model,
        plays: Mapping[str, list[Play]] | None = None,
        auto: Auto | None = None,
        equivalents: Table | None = None,
        turn: int = 0,
    ) -> None:
        accounts = {one.account.name: one.account for model in models for one in model.deployments}
        by_name = {model.name: model for model in models}
        self.catalog = Catalog(by_name, accounts, "1", limits=NO_LIMITS, auto=auto, own_equivalents=equivalents)
        self.upstream = Accounts({**{name: [answer()] for name in accounts}, **(plays or {})})
        self.book = HealthBook(clock=lambda: NOW)
        self.planner = Planner(self.book, Routes(self.book, first_turn=turn), COUNTER)
        self.store, self.clock = memory()
        self.rules = RuleBook(lambda: self.catalog, enabled=False)
        access = partial(Access, lambda: self.catalog, AutoModel(self.planner))
        explain = Explain(self.planner, COUNTER, self.rules, self.store.limiter, lambda: self.catalog)
        attempts = Attempts({"openai": self.upstream}, TimeLimits(), charge=CHARGE)
        retry = Retry(RetryPolicy(max_retries=0))
        routed = RoutedModels(self.planner, Failover(attempts, Patience()), retry, lambda: self.catalog)
        limits = partial(
            Limits,
            self.store,
            self.rules,
            planner=self.planner,
            names=lambda: self.catalog,
            spending=Spending(self.store, nothing_spent),
            watch=watching(),
        )
        self._real = wrap([access, limits], Answer(routed))
        self._dry = wrap([partial(access, peek=True)], explain)

    def health(self, name: str, model: str = "chat") -> Health:
        """Give the health of a model's deployment, by its account."""
        pool = self.planner.route(self.catalog.models[model]).pool
        return next(one.health for one in pool.candidates if one.deployment.account.name == name)

    async def told(self, call: Call = CALL, caller: Caller = ANYONE, **asked: Any) -> dict[str, Any]:
        """Say what a dry run says."""
        exchange = self.exchange(call, caller, **asked)
        reply = await self._dry.send(exchange, call)
        assert isinstance(reply, Complete)
        told: dict[str, Any] = msgspec.json.decode(reply.body)
        assert told["request_id"] == exchange.id
        return told

    async def foretold(self, call: Call = CALL, caller: Caller = ANYONE, **asked: Any) -> str:
        """Name who would be asked first, or the error's code."""
        try:
            told = await self.told(call, caller, **asked)
        except GatewayError as error:
            return error.code
        assert (told["decision"] is None) is (told["error"] is not None)
        return str(told["error"]["code"] if told["error"] else told["decision"]["deployment"])

    async def asked(self, call: Call = CALL, caller: Caller = ANYONE, **asked: Any) -> str:
        """Make the call, and name who was asked first, or the error's code where nobody was."""
        exchange, code = self.exchange(call, caller, **asked), ""
        try:
            await self._real.send(exchange, call)
        except GatewayError as error:
            code = error.code
        finally:
            for end in exchange.at_end:
                end()
        return f"{exchange.attempts[0].provider}/{exchange.attempts[0].model}" if exchange.attempts else code

    def exchange(self, call: Call, caller: Caller, **asked: Any) -> Exchange:
        made = Exchange(caller=caller, operation=call.operation, requested_model=call.model)
        for name, value in asked.items():
            setattr(made, name, value)
        return made
