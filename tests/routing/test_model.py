import pytest

from llmgateway.caller import Caller, RouteAsk
from llmgateway.catalog.model import Account, Deployment, Fallbacks, Model
from llmgateway.errors import (
    AuthenticationError,
    ContextLengthError,
    GatewayError,
    NoHealthyDeploymentError,
    UnsupportedParameterError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Call, Exchange, Streamed
from llmgateway.routing.retry import RetryPolicy
from tests.routed import FAST, Play, Routed, answer, at
from tests.routing.scripted import CALL, STREAM, exchange, pieces

MODEL = Model("chat", (at("a"), at("b"), at("c")))
NO_RETRIES = RetryPolicy(max_retries=0)


def down(text: str = "down") -> UpstreamError:
    return UpstreamError(text, may_retry=True, upstream_status=500)


GOES_ON = [
    down(),
    UpstreamRateLimitedError("slow down", may_retry=True, upstream_status=429),
    UpstreamAuthError("no", upstream_status=401),
    UpstreamQuotaError("empty", upstream_status=402),
    UpstreamRejectedError("no such model", upstream_status=404),
    UnsupportedParameterError("no such parameter"),
]
STAYS = [
    UpstreamRejectedError("bad", upstream_status=400),
    UpstreamRejectedError("odd", upstream_status=422),
    UpstreamRejectedError("filtered", upstream_status=400, code="content_filter"),
]


@pytest.mark.parametrize("error", GOES_ON, ids=lambda error: type(error).__name__)
async def test_the_next_deployment_answers_at_once_when_one_fails(error: GatewayError) -> None:
    routed, asked = Routed({"a": [error], "b": [answer()], "c": [answer()]}, MODEL), exchange()

    await routed.send(asked=asked)

    assert routed.upstream.asked == ["a", "b"]
    assert asked.provider == "b"
    (event,) = asked.events
    assert (event.name, event.attributes) == (
        "failover",
        {"from": "a/gpt-4o", "to": "b/gpt-4o", "cause": error.code},
    )
    assert asked.route_reason == f"b/gpt-4o: a/gpt-4o failed with {error.code}"


@pytest.mark.parametrize("error", STAYS, ids=lambda error: error.code)
async def test_what_is_wrong_with_the_request_is_asked_of_nobody_else(error: GatewayError) -> None:
    routed = Routed({"a": [error], "b": [answer()], "c": [answer()]}, MODEL)

    with pytest.raises(type(error)):
        await routed.send()

    assert routed.upstream.asked == ["a"]
    assert all(health.state(routed.book.clock()) == "closed" for health in routed.book)


async def test_a_prompt_that_is_too_long_goes_to_a_longer_window_only() -> None:
    model = Model("chat", (at("a", context_length=100), at("b", context_length=100), at("c", context_length=900)))
    routed = Routed({"a": [ContextLengthError("too long")], "b": [answer()], "c": [answer()]}, model)

    await routed.send()

    assert routed.upstream.asked == ["a", "c"]


async def test_all_are_asked_once_before_any_is_asked_again() -> None:
    routed = Routed({"a": [down(), answer()], "b": [down()], "c": [down()]}, MODEL)

    await routed.send()

    assert routed.upstream.asked == ["a", "b", "c", "a"]


async def test_pitfall_061_the_error_tells_who_was_asked_and_what_each_said() -> None:
    limited = UpstreamRateLimitedError("slow down", may_retry=True, upstream_status=429, retry_after_s=60)
    routed = Routed({"a": [limited], "b": [down()], "c": [UpstreamAuthError("no")]}, MODEL, policy=NO_RETRIES)

    with pytest.raises(UpstreamError) as caught:
        await routed.send()

    assert caught.value.code == "provider_unavailable", "what time heals soonest"
    attempts = (caught.value.details or {})["attempts"]
    assert isinstance(attempts, list)
    assert [(one["provider"], one["outcome"], one["status"]) for one in attempts] == [
        ("a", "provider_rate_limited", 429),
        ("b", "provider_unavailable", 500),
        ("c", "provider_auth_failed", None),
    ]


async def test_pitfall_005_with_fallbacks_disabled_nobody_else_is_asked_streaming_or_not() -> None:
    model = Model("chat", MODEL.deployments, fallbacks=Fallbacks(any=("spare",)))
    for call in (CALL, STREAM):
        plays: dict[str, list[Play]] = {"a": [down()], "b": [down()], "c": [down()], "s": [answer()]}
        routed = Routed(plays, model, Model("spare", (at("s"),)))

        with pytest.raises(UpstreamError):
            await routed.send(call, Exchange(route_ask=RouteAsk(alone=True)))

        assert set(routed.upstream.asked) == {"a"}


async def test_pitfall_003_a_stream_that_breaks_before_its_first_event_is_answered_by_the_next() -> None:
    routed = Routed({"a": [down()], "b": [Streamed(pieces(b"x", b"y"))], "c": [down()]}, MODEL)

    reply = await routed.send(STREAM)

    assert isinstance(reply, Streamed)
    assert [chunk async for chunk in reply.chunks] == [b"x", b"y"]


async def test_nobody_is_asked_when_the_time_is_over() -> None:
    routed, asked = Routed({"a": [down()], "b": [answer()], "c": [answer()]}, MODEL), exchange(within_s=-1)

    with pytest.raises(GatewayError):
        await routed.send(asked=asked)

    assert routed.upstream.asked == ["a"]


async def test_pitfall_058_a_deployment_that_asks_for_a_pause_gets_it_and_others_are_asked_meanwhile() -> None:
    busy = UpstreamError("overloaded", may_retry=True, upstream_status=503, retry_after_s=2)
    routed = Routed({"a": [busy, answer()], "b": [answer()], "c": [answer()]}, MODEL)

    for _ in range(5):
        await routed.send()

    assert routed.upstream.asked == ["a", "b", "b", "b", "b", "b"]


async def test_when_all_rest_the_client_is_told_when_to_come_back() -> None:
    routed = Routed({name: [down()] for name in "abc"}, MODEL, policy=NO_RETRIES)
    for _ in range(5):
        with pytest.raises(UpstreamError):
            await routed.send()
    asked_before = len(routed.upstream.asked)

    with pytest.raises(NoHealthyDeploymentError) as caught:
        await routed.send()

    assert (caught.value.status, caught.value.code) == (503, "no_healthy_deployment")
    assert 0 < (caught.value.retry_after_s or 0) <= 5
    assert len(routed.upstream.asked) == asked_before


async def test_when_all_are_limited_it_is_a_rate_limit_and_is_waited_for() -> None:
    limited = UpstreamRateLimitedError("slow down", may_retry=True, upstream_status=429, retry_after_s=0.1)
    routed = Routed({name: [limited, answer()] for name in "abc"}, MODEL)

    await routed.send()

    assert routed.upstream.asked == ["a", "b", "c", "a"]


CAUSES = [
    (ContextLengthError("too long"), "context"),
    (UpstreamRejectedError("filtered", upstream_status=400, code="content_filter"), "content_filter"),
    (UpstreamRateLimitedError("slow down"), "rate_limit"),
    (UpstreamError("down"), "any"),
    (UpstreamAuthError("no"), "any"),
]


@pytest.mark.parametrize(("error", "cause"), CAUSES)
async def test_each_cause_has_its_own_fallbacks(error: GatewayError, cause: str) -> None:
    fallbacks = Fallbacks(**{name: (name,) for name in ("any", "context", "content_filter", "rate_limit")})
    models = [Model(name, (at(name),)) for name in ("any", "context", "content_filter", "rate_limit")]
    plays: dict[str, list[Play]] = {"a": [error], **{model.name: [answer()] for model in models}}
    routed = Routed(plays, Model("chat", (at("a"),), fallbacks=fallbacks), *models, policy=NO_RETRIES)
    asked = exchange()

    await routed.send(asked=asked)

    assert routed.upstream.asked == ["a", cause]
    assert asked.route_reason == f"{cause}, the fallback of chat after {error.code}"
    assert asked.events[-1].attributes == {"from": "chat", "to": cause, "cause": error.code}


@pytest.mark.parametrize(("error", "cause"), CAUSES)
async def test_a_cause_without_a_list_uses_any_and_an_empty_list_is_none(error: GatewayError, cause: str) -> None:
    spare = Model("spare", (at("s"),))
    for fallbacks, expected in ((Fallbacks(any=("spare",)), 2), (Fallbacks(**{"any": ("spare",), cause: ()}), 1)):
        model = Model("chat", (at("a"),), fallbacks=fallbacks)
        routed = Routed({"a": [error], "s": [answer()]}, model, spare, policy=NO_RETRIES)
        try:
            await routed.send()
        except GatewayError:
            assert expected == 1
        assert len(routed.upstream.asked) == expected


async def test_fallbacks_have_fallbacks_and_no_model_is_asked_twice() -> None:
    one = Model("chat", (at("a"),), fallbacks=Fallbacks(any=("two", "three")))
    two = Model("two", (at("b"),), fallbacks=Fallbacks(any=("chat", "three")))
    three = Model("three", (at("c"),), fallbacks=Fallbacks(any=("chat", "two")))
    routed = Routed({name: [UpstreamError("down")] for name in "abc"}, one, two, three, policy=NO_RETRIES)

    with pytest.raises(UpstreamError):
        await routed.send()

    assert routed.upstream.asked == ["a", "b", "c"]


async def test_a_bad_request_never_falls_back() -> None:
    model = Model("chat", (at("a"),), fallbacks=Fallbacks(any=("spare",)))
    routed = Routed(
        {"a": [UpstreamRejectedError("bad", upstream_status=400)], "s": [answer()]}, model, Model("spare", (at("s"),))
    )

    with pytest.raises(UpstreamRejectedError):
        await routed.send()

    assert routed.upstream.asked == ["a"]


async def test_a_fallback_is_for_those_who_may_use_it() -> None:
    model = Model("chat", (at("a"),), fallbacks=Fallbacks(any=("spare",)))
    routed = Routed({"a": [UpstreamError("down")], "s": [answer()]}, model, Model("spare", (at("s"),)))

    with pytest.raises(UpstreamError):
        await routed.send(asked=Exchange(caller=Caller(kind="client", models=("chat",))))

    assert routed.upstream.asked == ["a"]


async def test_an_alias_that_names_no_fallback_has_the_equivalents_of_its_model() -> None:
    equal = Model("other/model", (at("b"),), in_catalog=False)
    for model, expected in (
        (Model("chat", (at("a"),)), ["a", "b"]),
        (Model("chat", (at("a"),), in_catalog=False), ["a"]),
        (Model("chat", (at("a"),), fallbacks=Fallbacks()), ["a"]),
    ):
        routed = Routed(
            {"a": [UpstreamError("down")], "b": [answer()]},
            model,
            equal,
            policy=NO_RETRIES,
            equivalents={"a": ("other/model",)},
        )
        try:
            await routed.send()
        except UpstreamError:
            assert len(expected) == 1
        assert routed.upstream.asked == expected


async def test_a_fallback_that_may_not_see_a_sensitive_text_does_not() -> None:
    trusted = Deployment(Account("a", "openai", "openai", security_level="high"), "gpt-4o")
    model = Model("chat", (trusted,), fallbacks=Fallbacks(any=("spare",)))
    routed = Routed({"a": [UpstreamError("down")], "s": [answer()]}, model, Model("spare", (at("s"),)))

    with pytest.raises(UpstreamError):
        await routed.send(asked=Exchange(min_security="high"))

    assert routed.upstream.asked == ["a"]


async def test_a_fallback_that_is_not_among_those_that_may_see_a_sensitive_text_does_not() -> None:
    high = [Deployment(Account(name, "openai", "openai", security_level="high"), "gpt-4o") for name in "abc"]
    model = Model("chat", (high[0],), fallbacks=Fallbacks(any=("spare", "named")))
    others = Model("spare", (high[1],)), Model("named", (high[2],))
    routed = Routed({"a": [UpstreamError("down")], "b": [answer()], "c": [answer()]}, model, *others)

    await routed.send(asked=Exchange(min_security="high", only_models=("chat", "named")))

    assert routed.upstream.asked == ["a", "c"]


async def test_a_providers_own_key_that_is_refused_is_the_clients_matter() -> None:
    own = Account("a", "openai", "openai", api_key="sk-ours", accepts_client_keys=True)
    model = Model("chat", (Deployment(own, "gpt-4o"), at("b")), fallbacks=Fallbacks(any=("spare",)))
    routed = Routed(
        {"a": [UpstreamAuthError("no")], "b": [answer()], "s": [answer()]}, model, Model("spare", (at("s"),))
    )
    caller = Caller(kind="provider", provider="openai", provider_key="sk-theirs")

    with pytest.raises(AuthenticationError):
        await routed.send(asked=Exchange(caller=caller))

    assert routed.upstream.asked == ["a"]
    assert routed.book.of(Deployment(own, "gpt-4o")).state(routed.book.clock()) == "closed"


async def test_the_deployment_that_the_limits_chose_is_asked_first() -> None:
    routed, asked = Routed({name: [answer()] for name in "abc"}, MODEL), exchange()
    asked.plan, asked.choice = routed.planner.plan(asked, CALL, MODEL), 1

    await routed.send(asked=asked)

    assert routed.upstream.asked == ["b"]


async def test_whoever_is_asked_after_the_first_is_asked_for_room_in_its_limits() -> None:
    routed, asked, seen = Routed({name: [down()] for name in "abc"}, MODEL, policy=NO_RETRIES), exchange(), []

    async def leave(deployments: object) -> int | None:
        seen.append(deployments)
        return 1 if len(seen) == 1 else None

    asked.plan = routed.planner.plan(asked, CALL, MODEL)
    asked.leave = leave

    with pytest.raises(UpstreamError):
        await routed.send(asked=asked)

    assert routed.upstream.asked == ["a", "c"], "b has no room"


async def test_retries_begin_when_nobody_is_left() -> None:
    routed, asked = Routed({"a": [down(), down(), answer()]}, Model("chat", (at("a"),)), policy=FAST), exchange()

    await routed.send(Call("chat", "chat", b"{}"), asked)

    assert [event.name for event in asked.events] == ["retry", "retry"]
