from typing import Any

import pytest

from llmgateway.caller import Caller, RouteAsk
from llmgateway.catalog.model import Model, Prices, Strategy
from llmgateway.errors import ContextLengthError, GatewayError, NoHealthyDeploymentError, PermissionDeniedError
from llmgateway.exchange import Call, Exchange
from llmgateway.routing.choosing.planner import ONLY, Planned, Planner
from llmgateway.routing.choosing.routes import Routes
from llmgateway.routing.choosing.strategies import STRATEGIES
from llmgateway.routing.health.book import HealthBook
from llmgateway.tokens import TokenCounter
from tests.deployments import deployment
from tests.timing import relative_cost

NOW = 1000.0
BODY = b'{"model":"chat","messages":[{"role":"user","content":"hello, how are you?"}]}'
CALL = Call("chat", "chat", BODY)
OWN = Caller(kind="provider", provider="openai", provider_key="sk-of-a-client")
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def chat(*names: str, strategy: Strategy = "priority", **fields: Any) -> Model:
    return Model("chat", tuple(deployment(name, **fields) for name in names), strategy)


class Planning:
    """A planner whose time stands still."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.book = HealthBook(clock=lambda: NOW)
        self.planner = Planner(self.book, Routes(self.book, first_turn=0), TokenCounter())
        self.candidates = self.planner.route(model).pool.candidates

    def plan(self, call: Call = CALL, *, caller: Caller | None = None, **asked: Any) -> Planned:
        options = {name: asked.pop(name) for name in ("forced", "peek") if name in asked}
        return self.planner.plan(self.exchange(caller, **asked), call, self.model, **options)

    def exchange(self, caller: Caller | None = None, **asked: Any) -> Exchange:
        made = Exchange(caller=caller or Caller())
        for name, value in asked.items():
            setattr(made, name, value)
        return made

    def must_count(self, call: Call = CALL, **asked: Any) -> bool:
        return self.planner.must_count(self.exchange(**asked), call, self.model)

    def first(self, **asked: Any) -> str:
        return self.plan(**asked).first().deployment.account.name


def order(plan: Planned) -> list[str]:
    return [one.deployment.account.name for one in plan.order()]


@every_strategy
def test_who_is_asked_first_is_the_first_in_the_order(strategy: Strategy) -> None:
    planning = Planning(chat("one", "two", "three", strategy=strategy, prices=Prices(1e-6, 2e-6)))

    for _ in range(50):
        plan = planning.plan()
        first = plan.first()
        assert plan.order()[0] is first is plan.first()
        assert sorted(order(plan)) == ["one", "three", "two"]


@every_strategy
def test_a_plan_that_only_looks_foretells_the_next_one(strategy: Strategy) -> None:
    planning = Planning(chat("one", "two", "three", "four", strategy=strategy))

    for _ in range(50):
        looked = order(planning.plan(peek=True))
        assert order(planning.plan(peek=True)) == looked
        assert order(planning.plan()) == looked


def test_each_call_has_a_turn_of_its_own() -> None:
    planning = Planning(chat("one", "two", "three", strategy="round_robin"))

    assert [planning.first() for _ in range(4)] == ["one", "two", "three", "one"]


def test_the_requests_word_goes_before_the_keys_and_that_before_the_catalogs() -> None:
    planning = Planning(chat("one", "two", strategy="priority"))
    key = Caller(strategy="round_robin")

    assert planning.plan().strategy == "priority"
    assert planning.plan(caller=key).strategy == "round_robin"
    assert planning.plan(caller=key, route_ask=RouteAsk("cheapest")).strategy == "cheapest"
    assert planning.plan(caller=key, route_ask=RouteAsk(max_cost_usd=None)).strategy == "round_robin"


def test_a_client_that_wants_one_try_gets_one_candidate() -> None:
    planning = Planning(chat("one", "two", strategy="round_robin"))

    plans = [planning.plan(route_ask=RouteAsk(alone=True)) for _ in range(2)]

    assert [order(plan) for plan in plans] == [["one"], ["two"]]
    assert [len(plan.left) for plan in plans] == [2, 2]
    assert plans[0].untried(NOW) == list(plans[0].order())


def test_a_clients_own_key_is_used_and_nothing_it_meets_says_anything_of_ours() -> None:
    planning = Planning(chat("one", "two", accepts_client_keys=True, api_key="sk-ours"))
    planning.candidates[0].health.rest_until(NOW, NOW + 100, "auth")

    candidate = planning.plan(caller=OWN).first()

    assert candidate.deployment.account.api_key == "sk-of-a-client"
    assert candidate.health is not planning.candidates[0].health
    candidate.health.failed(NOW, NOW, "auth")
    assert planning.plan(caller=OWN).first().deployment.account.name == "one"
    assert planning.candidates[0].deployment.account.api_key == "sk-ours"


def test_a_clients_own_key_never_goes_to_another_provider() -> None:
    with pytest.raises(PermissionDeniedError):
        Planning(chat("one", provider="groq", accepts_client_keys=True)).plan(caller=OWN)


def test_who_rests_is_not_asked_unless_the_call_has_waited_long_enough() -> None:
    planning = Planning(chat("one", "two"))
    for candidate in planning.candidates:
        candidate.health.rest_until(NOW, NOW + 100, "failures")

    with pytest.raises(NoHealthyDeploymentError):
        planning.plan()

    assert order(planning.plan(forced=True)) == ["one", "two"]


def test_a_refused_call_takes_no_turn() -> None:
    planning = Planning(chat("one", context_length=1))
    exchange = planning.exchange(prompt_tokens=5)

    with pytest.raises(ContextLengthError):
        planning.planner.plan(exchange, CALL, planning.model)

    assert planning.planner.route(planning.model).turn == 0


def test_the_untried_are_those_who_were_not_asked_and_are_well() -> None:
    planning = Planning(chat("one", "two", "three"))
    plan = planning.plan()
    plan.tried.append(plan.first())
    planning.candidates[1].health.rest_until(NOW, NOW + 100, "failures")

    assert [one.deployment.account.name for one in plan.untried(NOW)] == ["three"]


def test_the_deployments_are_given_in_the_same_order() -> None:
    plan = Planning(chat("one", "two", strategy="round_robin")).plan()

    assert [one.account.name for one in plan.ordered()] == order(plan)


def test_a_plan_says_why() -> None:
    planning = Planning(chat("one", "two", "three"))
    assert planning.plan().why(planning.candidates[0]) == "priority: first of 3"

    planning.candidates[0].health.rest_until(NOW - 9, NOW + 9, "failures")
    assert planning.plan().why(planning.candidates[1]) == "priority: first, 1 of 3 cannot be asked"

    planning.candidates[1].health.rest_until(NOW - 9, NOW - 1, "failures")
    plan = planning.plan()
    assert plan.first() is planning.candidates[1]
    assert plan.why(plan.first()) == "priority: tries whether it is well again, 1 of 3 cannot be asked"

    alone = Planning(chat("one"))
    assert alone.plan().why(alone.candidates[0]) == "only deployment"


def test_a_model_with_one_deployment_needs_no_plan_unless_something_may_drop_it() -> None:
    planning = Planning(chat("one", capabilities=frozenset({"vision"}), context_length=1000))

    def only(call: Call = CALL, caller: Caller | None = None, **asked: Any) -> object:
        return planning.planner.only(planning.exchange(caller, **asked), call, planning.model)

    (candidate,) = planning.candidates
    assert only() is only(Call("chat", "chat", CALL.body, needs=frozenset({"vision"}))) is candidate
    assert planning.plan().why(candidate) == ONLY
    assert only(Call("chat", "chat", CALL.body, needs=frozenset({"tools"}))) is None
    assert only(Call("chat", "chat", CALL.body, max_tokens=1000)) is None
    assert only(Call("chat", "chat", b"x" * 10_000)) is None
    assert only(caller=OWN) is only(route_ask=RouteAsk("cheapest")) is only(min_security="low") is None
    assert only(plan=planning.plan()) is only(leave=lambda _: None) is only(prompt_tokens=3) is None
    candidate.health.rest_until(NOW, NOW + 1, "rate_limit")
    assert only() is None
    planning = Planning(chat("one", lacks=frozenset({"streaming"})))
    assert only() is planning.candidates[0]
    assert only(Call("chat", "chat", CALL.body, stream=True)) is None
    planning = Planning(chat("one", "two"))
    assert only() is None


def test_a_prompt_is_counted_only_where_its_length_may_decide() -> None:
    assert not Planning(chat("one")).must_count()
    assert not Planning(chat("one", context_length=1000)).must_count()
    assert Planning(chat("one", context_length=20)).must_count()
    assert not Planning(chat("one", context_length=20)).must_count(prompt_tokens=12)
    assert Planning(chat("one")).must_count(route_ask=RouteAsk(max_cost_usd=1.0))
    assert not Planning(chat("one")).must_count(route_ask=RouteAsk("cheapest"))


async def test_what_was_counted_is_what_the_filters_and_strategies_see() -> None:
    planning = Planning(chat("one", "two", context_length=20))
    exchange = planning.exchange()

    await planning.planner.count(exchange, CALL, planning.model)

    assert exchange.prompt_tokens == 13
    wanted = planning.planner.wanted(exchange, CALL, planning.model)
    assert (wanted.fewest_prompt_tokens, wanted.most_prompt_tokens, wanted.prompt_tokens) == (13, 13, 13)
    assert planning.planner.plan(exchange, CALL, planning.model).weighing.prompt_tokens == 13


def test_the_choice_for_a_call_is_made_with_what_the_call_says() -> None:
    planning = Planning(chat("one", max_output_tokens=100, prices=Prices(1e-6, 1e-6)))
    call = Call("chat", "chat", BODY, stream=True, max_tokens=500, n=2, needs=frozenset({"tools"}))
    ask = RouteAsk(max_cost_usd=0.5)

    exchange = planning.exchange(route_ask=ask, min_security="medium")
    wanted = planning.planner.wanted(exchange, call, planning.model)

    assert (wanted.now, wanted.stream, wanted.needs) == (NOW, True, frozenset({"tools"}))
    assert (wanted.answer_tokens, wanted.max_answer_tokens) == (200, 500)
    assert (wanted.max_cost_usd, wanted.min_security, wanted.own_provider) == (0.5, "medium", None)


@pytest.mark.parametrize(
    ("needs", "max_cost_usd", "refused"),
    [({"tools"}, 1.0, "capability"), ({"tools"}, 1e-9, "capability"), (set[str](), 1e-9, "max_cost")],
)
def test_a_refusal_names_its_filter(needs: set[str], max_cost_usd: float, refused: str) -> None:
    planning = Planning(chat("one", lacks=frozenset({"tools"}), prices=Prices(1e-6, 1e-6)))

    with pytest.raises(GatewayError) as caught:
        planning.plan(Call("chat", "chat", BODY, needs=frozenset(needs)), route_ask=RouteAsk(max_cost_usd=max_cost_usd))

    assert caught.value.details is not None
    assert caught.value.details["filter"] == refused


def large(count: int, strategy: Strategy) -> Planning:
    deployments = tuple(
        deployment(
            f"a{at}",
            weight=1.0 + at % 3,
            context_length=128_000,
            max_output_tokens=16_384,
            capabilities=frozenset({"tools", "vision"}),
            prices=Prices(1e-6 * (1 + at % 5), 4e-6),
        )
        for at in range(count)
    )
    planning = Planning(Model("chat", deployments, strategy))
    for at, one in enumerate(planning.candidates):
        for _ in range(3):
            one.health.answered(NOW, NOW - 0.1 - at * 0.01, stream=False)
    return planning


# Of the unit some 2.9 us: 8 us for ten deployments, 40 for a hundred, and a third for the machine's moods.
@pytest.mark.alone
@pytest.mark.parametrize(("count", "most"), [(10, 8 / 2.9 * 1.3), (100, 40 / 2.9 * 1.3)])
@every_strategy
def test_a_choice_costs_little(strategy: Strategy, count: int, most: float) -> None:
    planning = large(count, strategy)
    exchange, call = Exchange(), Call("chat", "chat", BODY, max_tokens=100)

    cost = relative_cost(lambda: planning.planner.plan(exchange, call, planning.model).first(), number=500)

    assert cost < most, f"{cost:.2f} of {most:.2f}"


@pytest.mark.alone
def test_to_look_whether_a_prompt_must_be_counted_costs_next_to_nothing() -> None:
    planning = large(100, "priority")
    exchange = Exchange()

    assert relative_cost(lambda: planning.planner.must_count(exchange, CALL, planning.model), number=2000) < 0.6
