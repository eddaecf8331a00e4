import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from llmgateway.caller import Caller, RouteAsk
from llmgateway.catalog.equivalents import table_of
from llmgateway.catalog.model import Auto, Fallbacks, Limits, Model, Prices
from llmgateway.errors import (
    ContextLengthError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Call, Complete, Exchange, Reply, Sensitivity
from llmgateway.gateway.explain import Explain
from llmgateway.routing.health.health import Health
from llmgateway.tokens import Counted, TokenCounter
from tests.deployments import deployment
from tests.gateway.foretold import CALL, COUNTER, NOW, QUESTION, Foretold
from tests.gateway.scripted_store import ScriptedLimiter
from tests.routed import answer

STRATEGIES = ("priority", "weighted", "round_robin", "least_busy", "fastest", "cheapest", "balanced")
DEAR, CHEAP = Prices(10e-6, 30e-6), Prices(1e-7, 4e-7)


def two(**fields: Any) -> Model:
    return Model("chat", (deployment("one", prices=DEAR), deployment("two", prices=CHEAP)), **fields)


def by_name(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["deployment"]: one for one in told["candidates"]}


async def test_the_plan_names_everybody_best_first_with_score_cost_and_reason() -> None:
    world = Foretold(two(strategy="cheapest"))

    told = await world.told(msgspec.structs.replace(CALL, max_tokens=100))

    first, second = told["candidates"]
    assert (told["object"], told["requested_model"], told["model"], told["strategy"]) == (
        *("route", "chat", "chat"),
        "cheapest",
    )
    assert told["decision"]["deployment"] == first["deployment"] == "two/gpt-4o"
    assert told["decision"]["reason"] == first["reason"] == "cheapest: first of 2"
    assert (first["position"], second["position"], second["reason"]) == (1, 2, "asked when those before it fail")
    assert first["score"] < second["score"]
    tokens = told["estimate"]["prompt_tokens"]
    assert told["estimate"] == {
        "prompt_tokens": tokens,
        "completion_tokens": 100,
        "tokenizer": "o200k_base",
        "exact": True,
    }
    assert first["estimated_cost_usd"] == tokens * CHEAP.input + 100 * CHEAP.output
    assert second["estimated_cost_usd"] == tokens * DEAR.input + 100 * DEAR.output
    assert world.upstream.asked == []


async def test_who_is_dropped_is_named_with_the_filter_and_why() -> None:
    small = deployment("small", context_length=10)
    blind = deployment("blind", lacks=frozenset({"vision"}))
    world = Foretold(Model("chat", (small, blind, deployment("sick"), deployment("well"))))
    world.health("sick").rest_until(NOW, NOW + 12, "rate_limit")

    told = await world.told(msgspec.structs.replace(CALL, needs=frozenset({"vision"})))

    assert {name: one["filter"] for name, one in by_name(told).items()} == {
        "well/gpt-4o": None,
        "blind/gpt-4o": "capability",
        "small/gpt-4o": "context_window",
        "sick/gpt-4o": "circuit",
    }
    sick = by_name(told)["sick/gpt-4o"]
    assert sick["reason"] == "dropped: rests because its provider limits us, for 12.0 s more"
    assert (sick["position"], sick["taken"], sick["score"], sick["circuit"]) == (None, False, None, "open")
    assert told["decision"]["reason"] == "priority: first, 3 of 4 cannot be asked"


async def test_where_nobody_is_left_the_error_of_the_call_is_told_and_everybody_with_it() -> None:
    world = Foretold(two(), Model("small", (deployment("cheap", prices=Prices(0.0, 1e-9)),)))

    told = await world.told(route_ask=RouteAsk(max_cost_usd=1e-6))

    assert told["decision"] is None
    assert (told["error"]["code"], told["error"]["status"]) == ("max_cost_exceeded", 402)
    assert told["error"]["details"]["cheapest"]["model"] == "small"
    assert [one["filter"] for one in told["candidates"]] == ["max_cost", "max_cost"]
    assert all(one["estimated_cost_usd"] > 1e-6 for one in told["candidates"])


async def test_a_deployment_at_its_limit_is_passed_over_and_the_limit_named() -> None:
    limits = Limits(requests_per_minute=6, burst=1)
    world = Foretold(Model("chat", (deployment("one", limits=limits), deployment("two", limits=limits))))

    assert await world.asked() == "one/gpt-4o"
    told = await world.told()

    one, second = told["candidates"]
    assert (one["filter"], one["position"], second["position"]) == ("deployment_limits", None, 1)
    assert one["reason"] == "dropped: its limit deployment.requests_per_minute has no room now"
    assert told["decision"]["deployment"] == await world.asked() == "two/gpt-4o"
    assert (await world.told())["error"]["details"] == {
        "filter": "deployment_limits",
        "rule": "deployment.requests_per_minute",
    }
    assert await world.foretold() == await world.asked() == "rate_limit_exceeded"


@pytest.mark.parametrize("limits", [Limits(concurrent=1), Limits(tokens_per_minute=600)])
async def test_calls_in_flight_and_their_tokens_count_at_once(limits: Limits) -> None:
    world = Foretold(Model("chat", (deployment("one", limits=limits), deployment("two"))))
    held, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> Reply:
        held.set()
        await go_on.wait()
        return answer()

    world.upstream.plays["one"] = [wait]
    async with asyncio.TaskGroup() as group:
        group.create_task(world.asked())
        await held.wait()
        assert await world.foretold() == await world.asked() == "two/gpt-4o"
        go_on.set()


async def test_a_store_that_is_away_leaves_room_as_it_does_for_calls() -> None:
    world = Foretold(Model("chat", (deployment("one", limits=Limits(concurrent=1)),)))
    explain = Explain(world.planner, COUNTER, world.rules, ScriptedLimiter(away=True), lambda: world.catalog)
    exchange = world.exchange(CALL, Caller(), model=world.catalog.models["chat"])

    reply = await explain.send(exchange, CALL)

    assert isinstance(reply, Complete)
    assert msgspec.json.decode(reply.body)["decision"]["deployment"] == "one/gpt-4o"


async def test_fallbacks_are_listed_with_the_causes_that_lead_to_them() -> None:
    lists = Fallbacks(any=("backup",), context=("long", "backup"), content_filter=())
    models = (two(fallbacks=lists), Model("backup", (deployment("three"),)), Model("long", (deployment("four"),)))

    told = await Foretold(*models).told()

    assert [(one["model"], one["of"], one["causes"]) for one in told["fallbacks"]] == [
        ("backup", "chat", ["any", "context", "rate_limit"]),
        ("long", "chat", ["context"]),
    ]
    assert told["fallbacks"][0]["decision"]["deployment"] == "three/gpt-4o"
    assert told["decision"]["fallback"] is None
    alone = await Foretold(*models).told(route_ask=RouteAsk(alone=True))
    assert alone["fallbacks"] == []


async def test_where_nobody_of_a_model_is_left_the_fallback_is_the_decision_however_far() -> None:
    small = (deployment("one", context_length=5),)
    models = (
        Model("chat", small, fallbacks=Fallbacks(context=("second",))),
        Model("second", small, fallbacks=Fallbacks(any=("third",))),
        Model("third", (deployment("big"),)),
    )
    world = Foretold(*models)

    told = await world.told()

    assert told["error"] is None
    assert told["decision"] == {
        "deployment": "big/gpt-4o",
        "provider": "big",
        "model": "gpt-4o",
        "reason": "second, the fallback of chat after context_length_exceeded: third, the fallback of second after "
        "context_length_exceeded: only deployment",
        "estimated_cost_usd": None,
        "fallback": "third",
    }
    assert [(one["model"], one["of"]) for one in told["fallbacks"]] == [("second", "chat"), ("third", "second")]
    assert await world.asked() == "big/gpt-4o"


async def test_a_fallback_to_which_two_ways_lead_is_come_to_once() -> None:
    small = (deployment("one", context_length=5),)
    models = (
        Model("chat", small, fallbacks=Fallbacks(any=("second", "third"))),
        Model("second", small, fallbacks=Fallbacks(any=("third",))),
        Model("third", small, fallbacks=Fallbacks(any=())),
    )
    world = Foretold(*models)

    told = await world.told()

    assert (told["decision"], told["error"]["code"]) == (None, "context_length_exceeded")
    assert [one["model"] for one in told["fallbacks"]] == ["second", "third"]
    assert await world.asked() == "context_length_exceeded"


async def test_who_is_not_asked_because_the_client_wants_one_try_is_told_so() -> None:
    told = await Foretold(two()).told(route_ask=RouteAsk(alone=True))

    first, other = told["candidates"]
    assert (first["taken"], first["reason"]) == (True, "priority: first of 2")
    assert (other["filter"], other["position"]) == (None, None)
    assert other["reason"] == "not asked: X-Disable-Fallbacks leaves only the first choice"


async def test_vectors_have_no_equivalents() -> None:
    groups = table_of([["openai/text-embedding-3-small", "groq/embed"]])
    embed = Model("embed", (deployment("one", "text-embedding-3-small"),))
    world = Foretold(embed, Model("groq/embed", (deployment("two", "embed", provider="groq"),)), equivalents=groups)
    call = Call("embedding", "embed", b'{"model":"embed","input":"hi"}')

    assert (await world.told(call))["fallbacks"] == []
    assert await world.foretold(call) == await world.asked(call) == "one/text-embedding-3-small"


async def test_a_clients_own_key_is_planned_for_and_never_shown() -> None:
    own = deployment("own", accepts_client_keys=True)
    world = Foretold(Model("chat", (deployment("other", provider="groq"), own)))
    caller = Caller(kind="provider", provider="openai", provider_key="sk-of-a-client")

    told = await world.told(caller=caller)

    assert by_name(told)["other/gpt-4o"]["filter"] == "provider_key"
    assert told["decision"]["deployment"] == "own/gpt-4o"
    assert "sk-of-a-client" not in str(told)


async def test_what_was_found_in_the_text_and_the_task_are_told() -> None:
    world = Foretold(two(), auto=Auto())

    told = await world.told(
        msgspec.structs.replace(CALL, model="auto"), sensitivity=Sensitivity(0.9, ("email",), "redact")
    )

    assert told["sensitivity"] == {"score": 0.9, "categories": ["email"], "action": "redact"}
    assert (told["task"], told["requested_model"], told["model"]) == ("question_answering", "auto", "chat")


async def test_a_prompt_is_counted_once_for_models_that_count_alike() -> None:
    counted: list[str] = []

    class Counting(TokenCounter):
        @override
        def counted(self, texts: Sequence[str], model: str, tokenizer: str | None = None) -> Counted:
            counted.append(model)
            return super().counted(texts, model, tokenizer)

    lists = Fallbacks(any=("same", "other"))
    models = [two(fallbacks=lists), Model("same", (deployment("x"),)), Model("other", (deployment("x", "gpt-4"),))]
    world = Foretold(*models)
    explain = Explain(world.planner, Counting(), world.rules, world.store.limiter, lambda: world.catalog)

    await explain.send(world.exchange(CALL, Caller(), model=models[0]), CALL)

    assert counted == ["gpt-4o", "gpt-4"]


async def test_a_call_that_nobody_resolved_is_a_bug() -> None:
    world = Foretold(two())
    explain = Explain(world.planner, COUNTER, world.rules, world.store.limiter, lambda: world.catalog)

    with pytest.raises(TypeError, match="nobody resolved"):
        await explain.send(Exchange(), CALL)


prices = st.one_of(
    st.none(),
    st.builds(Prices, st.sampled_from([0.0, 1e-7, 3e-6, 1e-5]), st.sampled_from([0.0, 4e-7, 1.5e-5])),
    st.just(Prices(1e-6, 2e-6, above=((100, Prices(9e-6, 9e-6)),))),
)
limits = st.one_of(
    st.just(Limits()),
    st.builds(Limits, requests_per_minute=st.just(6), burst=st.integers(1, 2)),
    st.builds(Limits, tokens_per_minute=st.sampled_from([30, 700, 2000])),
    st.builds(Limits, concurrent=st.just(1)),
)


def mostly(usual: Any, otherwise: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 3).flatmap(lambda chance: otherwise if chance == 3 else st.just(usual))


skills = st.frozensets(st.sampled_from(["tools", "vision", "streaming"]))


@st.composite
def deployments(draw: st.DrawFn, model: str) -> Any:
    names = draw(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=5, unique=True))
    return tuple(
        deployment(
            name,
            model,
            weight=draw(st.sampled_from([0.1, 1.0, 3.0])),
            prices=draw(prices),
            context_length=draw(st.sampled_from([None, 100_000, 100_000, 300, 30])),
            max_output_tokens=draw(st.sampled_from([None, 10, 4000])),
            capabilities=draw(skills),
            lacks=draw(mostly(frozenset(), skills)),
            limits=draw(mostly(Limits(), limits)),
            security_level="high" if name in "ab" else "medium",
            provider="openai" if name in "abcd" else "groq",
            accepts_client_keys=name in "ac",
        )
        for name in names
    )


@st.composite
def models(draw: st.DrawFn) -> Any:
    def model(name: str, *others: str) -> Model:
        lists = st.one_of(st.none(), st.lists(st.sampled_from(others), unique=True).map(tuple)) if others else st.none()
        fallbacks = st.one_of(st.none(), st.builds(Fallbacks, any=lists, context=lists, rate_limit=lists))
        return Model(name, draw(deployments(f"m-{name}")), draw(st.sampled_from(STRATEGIES)), fallbacks=draw(fallbacks))

    return [model("chat", "other", "third"), model("other", "third"), model("third")]


history = st.lists(
    st.one_of(
        st.tuples(st.just("failed"), st.integers(1, 6)),
        st.tuples(st.just("rests"), st.sampled_from(["failures", "rate_limit", "auth", "quota"])),
        st.tuples(st.just("due"), st.sampled_from(["failures", "rate_limit", "quota"])),
        st.tuples(st.just("probed"), st.just(0)),
        st.tuples(st.just("back"), st.sampled_from([0.0, 1.0, 2.5])),
        st.tuples(st.just("pace"), st.sampled_from([0.01, 0.2, 4.0])),
        st.tuples(st.just("busy"), st.integers(1, 3)),
    ),
    max_size=3,
)


def fails(health: Health, times: int) -> None:
    for _ in range(times):
        health.failed(NOW - 1, NOW - 1, "failures")


def probed(health: Health, _: object) -> None:
    health.rest_until(NOW - 9, NOW - 1, "failures")
    health.begin(NOW)


def back(health: Health, since_s: float) -> None:
    health.rest_until(NOW - 9, NOW - 4, "failures")
    health.well(NOW - since_s, NOW - since_s, probe=True)


def answers(health: Health, after_s: float) -> None:
    for stream in (True, False):
        health.answered(NOW - 0.5, NOW - 0.5 - after_s, stream=stream)


def busy(health: Health, calls: int) -> None:
    for _ in range(calls):
        health.begin(NOW - 20)


EVENTS: dict[str, Callable[[Health, Any], None]] = {
    "failed": fails,
    "rests": lambda health, cause: health.rest_until(NOW - 5, NOW + 500, cause),
    "due": lambda health, cause: health.rest_until(NOW - 9, NOW - 1, cause),
    "probed": probed,
    "back": back,
    "pace": answers,
    "busy": busy,
}


callers = mostly(
    Caller(),
    st.builds(
        Caller,
        models=st.sampled_from([None, ("chat",), ("chat", "third"), ("other",)]),
        strategy=st.one_of(st.none(), st.sampled_from(STRATEGIES)),
    )
    | st.just(Caller(kind="provider", provider="openai", provider_key="sk-of-a-client")),
)
asks = mostly(
    None,
    st.builds(
        RouteAsk,
        strategy=st.one_of(st.none(), st.sampled_from(STRATEGIES)),
        max_cost_usd=st.sampled_from([None, None, 0.0, 1e-4, 1e-2]),
        alone=st.booleans(),
        task=st.sampled_from([None, "code", "summarization"]),
    ),
)


@st.composite
def calls(draw: st.DrawFn) -> Any:
    body = QUESTION.replace(b"moon?", b"moon? " + b"Far, and then some. " * draw(st.sampled_from([0, 5, 100, 1000])))
    call = Call(
        "chat",
        draw(mostly("chat", st.sampled_from(["auto", "other", "nothing"]))),
        body,
        stream=draw(st.booleans()),
        max_tokens=draw(st.sampled_from([None, 1, 50, 5000])),
        n=draw(st.sampled_from([1, 1, 3])),
        needs=draw(mostly(frozenset(), skills)) - {"streaming"},
    )
    asked = {"route_ask": draw(asks), "min_security": draw(mostly(None, st.just("high")))}
    return call, draw(callers), asked


def fails_with(kind: Any) -> Any:
    async def play() -> Reply:
        raise kind("It went wrong.", upstream_status=400) if kind is UpstreamRejectedError else kind("It went wrong.")

    return play


kinds = st.sampled_from(
    [None, UpstreamError, UpstreamRateLimitedError, UpstreamAuthError, ContextLengthError, UpstreamRejectedError]
)


@st.composite
def scenes(draw: st.DrawFn) -> Any:
    """Draw a catalog with what its deployments have lived through, and calls: all before, never within a coroutine."""
    offered = draw(models())
    plays = {name: [fails_with(kind)] for name in "abcdefg" if (kind := draw(kinds)) is not None}
    auto = draw(st.sampled_from([None, Auto({"code": "other"}), Auto(models=("third", "other"))]))
    alike = draw(st.sampled_from([[], ["openai/m-chat", "groq/m-third"], ["groq/m-chat", "openai/gpt-4o"]]))
    options = {"plays": plays, "auto": auto, "equivalents": table_of([alike]), "turn": draw(st.integers(0, 500))}
    lived = [draw(history) for model in offered for _ in model.deployments]
    return offered, options, lived, draw(st.lists(calls(), min_size=2, max_size=4))


async def test_where_all_deployments_are_at_their_limits_another_model_has_room_in_both() -> None:
    full = deployment("one", limits=Limits(requests_per_minute=6, burst=1))
    model = Model("chat", (full,), fallbacks=Fallbacks(rate_limit=("other",)))
    world = Foretold(model, Model("other", (deployment("two"),)))

    assert await world.asked() == "one/gpt-4o"
    told = await world.told()

    assert (told["decision"]["deployment"], told["decision"]["fallback"]) == ("two/gpt-4o", "other")
    assert await world.asked() == "two/gpt-4o"


async def test_without_another_model_it_is_the_limit_that_refuses_in_both() -> None:
    world = Foretold(Model("chat", (deployment("one", limits=Limits(requests_per_minute=6, burst=1)),)))

    assert await world.asked() == "one/gpt-4o"

    assert await world.foretold() == await world.asked() == "rate_limit_exceeded"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenes())
async def test_a_dry_run_and_the_call_agree_always(scene: Any) -> None:
    offered, options, lived, asking = scene
    world = Foretold(*offered, **options)
    healths = (one.health for model in offered for one in world.planner.route(model).pool.candidates)
    for health, events in zip(healths, lived, strict=True):
        for event, value in events:
            EVENTS[event](health, value)

    for call, caller, asked in asking:
        foretold = await world.foretold(call, caller, **asked)
        again = await world.foretold(call, caller, **asked)
        before = len(world.upstream.asked)

        really = await world.asked(call, caller, **asked)

        assert foretold == again == really
        assert before == len(world.upstream.asked) or "/" in really
