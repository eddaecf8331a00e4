"""The plan of a call: who may answer it, best first; made the same way for a call and for a dry run of it."""

from collections.abc import Sequence
from dataclasses import replace

from llmgateway.catalog.model import Deployment, Model, Strategy
from llmgateway.exchange import Call, Exchange
from llmgateway.routing.choosing.candidate import Candidate, Weighing
from llmgateway.routing.choosing.filters import Among, Wanted
from llmgateway.routing.choosing.routes import Route, Routes
from llmgateway.routing.choosing.strategies import STRATEGIES, choose, ordered
from llmgateway.routing.estimate import counted_prompt
from llmgateway.routing.expected import expected, rough_bounds
from llmgateway.routing.health.book import HealthBook
from llmgateway.tokens import TokenCounter

# Why the one is asked that has nobody beside it.
ONLY = "only deployment"


class Planned:
    """Who may answer a call: the first is chosen at once, the order of the others when somebody asks for it.

    Args:
        among: Those that passed the filters, in the catalog's order.

    Args of the state: `left` are these; of them `among` may be asked, which are fewer where a client wants it so, or
    where one of them made what is sealed in the call (`is_bound`).
    """

    __slots__ = ("_order", "among", "is_bound", "left", "route", "strategy", "tried", "weighing")

    def __init__(self, route: Route, strategy: Strategy, among: Among, weighing: Weighing) -> None:
        self.route = route
        self.strategy = strategy
        self.left = among
        self.among = among
        self.weighing = weighing
        self.is_bound = False
        self.tried: list[Candidate] = []
        self._order: list[Candidate] | None = None

    def first(self) -> Candidate:
        """The one to ask first."""
        if self._order is not None:
            return self._order[0]
        among = self.among
        return among[0] if len(among) == 1 else among[choose(STRATEGIES[self.strategy], among, self.weighing)]

    def order(self) -> Sequence[Candidate]:
        """All of them, best first."""
        if self._order is None:
            self._order = ordered(STRATEGIES[self.strategy], self.among, self.weighing)
        return self._order

    def ordered(self) -> tuple[Deployment, ...]:
        """The deployments, best first."""
        return tuple(one.deployment for one in self.order())

    def untried(self, now: float) -> list[Candidate]:
        """Those that were not asked yet and may be asked now, best first."""
        return [one for one in self.order() if one not in self.tried and one.health.available(now)]

    def why(self, candidate: Candidate) -> str:
        """Say why this one is asked first."""
        total, left = len(self.route.pool.candidates), len(self.left)
        if total == 1:
            return ONLY
        if self.is_bound:
            return "it made what is sealed in this call"
        dropped = f", {total - left} of {total} cannot be asked" if left < total else f" of {total}"
        if self._order is not None and candidate is not self._order[0] and not self.tried:
            return f"{self.strategy}: those before it have no room{dropped}"
        if candidate.health.is_due(self.weighing.now):
            return f"{self.strategy}: tries whether it is well again{dropped}"
        return f"{self.strategy}: first{dropped}"


class Planner:
    """Makes plans.

    Args:
        counter: Counts prompts where their exact length decides.
    """

    def __init__(self, book: HealthBook, routes: Routes, counter: TokenCounter) -> None:
        self._book = book
        self._routes = routes
        self._counter = counter

    def only(self, exchange: Exchange, call: Call, model: Model) -> Candidate | None:
        """Give the one to ask where a plan would hold nobody else and say nothing more; `None` asks for a plan.

        So it is where a model has one deployment, which is well, and no filter could drop it.
        """
        pool = self._routes.of(model).pool
        candidate = pool.only
        if (
            candidate is None
            or candidate.health.until != 0.0
            or exchange.route_ask is not None
            or exchange.plan is not None
            or exchange.leave is not None
            or exchange.min_security is not None
            or exchange.prompt_tokens is not None
            or exchange.caller.provider_key is not None
        ):
            return None
        most_tokens = rough_bounds(call)[1] + (call.max_tokens or 0) if pool.knows_windows else 0
        return candidate if pool.suits(call.needs, most_tokens, stream=call.stream) else None

    def must_count(self, exchange: Exchange, call: Call, model: Model) -> bool:
        """Whether the prompt's exact length decides who may answer: then `count` first, which takes its time."""
        if exchange.prompt_tokens is not None:
            return False
        ask = exchange.route_ask
        if ask is not None and ask.max_cost_usd is not None:
            return True
        pool = self._routes.of(model).pool
        return pool.knows_windows and pool.must_count(*rough_bounds(call))

    async def count(self, exchange: Exchange, call: Call, model: Model) -> None:
        """Count the prompt's tokens, in a thread."""
        counted = await counted_prompt(call, model.deployments[0], self._counter)
        exchange.prompt_tokens = counted.tokens

    def plan(
        self,
        exchange: Exchange,
        call: Call,
        model: Model,
        *,
        forced: bool = False,
        peek: bool = False,
        wanted: Wanted | None = None,
    ) -> Planned:
        """Choose who is to answer.

        Args:
            forced: Ask somebody even if all of them rest: for who has waited as long as was said.
            peek: Only look: the next call gets the same turn.
            wanted: What the filters must know of the call, where somebody has asked already.

        Raises:
            GatewayError: Nobody may; `details.filter` names the filter that left nothing.
        """
        route, wanted = self._routes.of(model), wanted or self.wanted(exchange, call, model)
        among = route.pool.left(wanted, forced=forced)
        if (key := exchange.caller.provider_key) is not None:
            among = [self._with_key(one, key) for one in among]
        weighing = Weighing(wanted.now, route.turn, call.stream, wanted.prompt_tokens, wanted.answer_tokens)
        planned = Planned(route, self.strategy_of(exchange, model.strategy), among, weighing)
        if exchange.maker is not None and (made := [one for one in among if one.health.id == exchange.maker]):
            # For all others what is sealed is a mistake in the request.
            planned.among, planned.is_bound = made, True
        elif not peek:
            route.turn += 1
        if exchange.route_ask is not None and exchange.route_ask.alone:
            planned.among = (planned.first(),)
        return planned

    def strategy_of(self, exchange: Exchange, usual: Strategy) -> Strategy:
        """Say whose word counts: the request's, the key's, or the catalog's."""
        ask = exchange.route_ask
        if ask is not None and ask.strategy is not None:
            return ask.strategy
        return exchange.caller.strategy or usual

    def route(self, model: Model) -> Route:
        """Give a model's candidates."""
        return self._routes.of(model)

    def wanted(self, exchange: Exchange, call: Call, model: Model) -> Wanted:
        """Say what the filters must know of a call."""
        prompt_tokens, answer_tokens = expected(call, model.deployments[0], exchange.prompt_tokens)
        counted, ask, caller = exchange.prompt_tokens, exchange.route_ask, exchange.caller
        fewest, most = rough_bounds(call) if counted is None else (counted, counted)
        return Wanted(
            self._book.clock(),
            needs=call.needs,
            stream=call.stream,
            fewest_prompt_tokens=fewest,
            most_prompt_tokens=most,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            max_answer_tokens=call.max_tokens or 0,
            min_security=exchange.min_security,
            own_provider=caller.provider if caller.provider_key is not None else None,
            max_cost_usd=None if ask is None else ask.max_cost_usd,
        )

    def _with_key(self, candidate: Candidate, key: str) -> Candidate:
        """Give a candidate to be asked with the caller's own key, and no other; its health is nobody else's."""
        deployment = candidate.deployment
        own = replace(deployment, account=replace(deployment.account, api_key=key))
        return Candidate(own, self._book.apart(own), candidate.place)
