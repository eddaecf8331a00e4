import pytest

from llmgateway.caller import Caller
from llmgateway.catalog.model import Account, Deployment, Model
from llmgateway.errors import AuthenticationError, UpstreamAuthError, UpstreamError, UpstreamRejectedError
from llmgateway.exchange import Complete, Streamed
from llmgateway.routing.model import RoutedModel
from llmgateway.routing.retry import Retry, RetryPolicy
from tests.routing.scripted import ANSWER, CALL, DEPLOYMENT, STREAM, Scripted, attempts, exchange, pieces

SECOND = Deployment(Account("spare", "openai", "openai"), "gpt-4o-mini")
MODEL = Model("chat", (DEPLOYMENT, SECOND))
FAST = RetryPolicy(max_retries=2, min_delay_s=0.001, max_delay_s=0.002)


def routed(upstream: Scripted) -> RoutedModel:
    return RoutedModel(MODEL, Retry(attempts(upstream), FAST))


async def test_the_first_deployment_answers() -> None:
    asked = exchange()

    assert await routed(Scripted(ANSWER)).send(asked, CALL) is ANSWER
    assert (asked.provider, asked.upstream_model) == ("main", "gpt-4o")


async def test_its_failures_are_tried_again_at_the_same_place() -> None:
    asked = exchange()

    reply = await routed(Scripted(UpstreamError("lost", may_retry=True), ANSWER)).send(asked, CALL)

    assert isinstance(reply, Complete)
    assert [(attempt.provider, attempt.model) for attempt in asked.attempts] == [("main", "gpt-4o")] * 2


async def test_what_it_refuses_stays_refused() -> None:
    upstream = Scripted(UpstreamRejectedError("no", upstream_status=422), ANSWER)

    with pytest.raises(UpstreamRejectedError):
        await routed(upstream).send(exchange(), CALL)

    assert upstream.calls == 1


async def test_a_stream_comes_in_its_pieces() -> None:
    reply = await routed(Scripted(Streamed(pieces(b"a", b"b")))).send(exchange(), STREAM)

    assert isinstance(reply, Streamed)
    assert [chunk async for chunk in reply.chunks] == [b"a", b"b"]


async def test_the_deployment_that_the_limits_chose_answers() -> None:
    asked = exchange()
    asked.choice = 1

    await routed(Scripted(ANSWER)).send(asked, CALL)

    assert (asked.provider, asked.upstream_model) == ("spare", "gpt-4o-mini")
    assert asked.route_reason == "deployment 2: those before it are at their limits"


async def test_a_refused_key_of_the_client_is_the_clients_fault() -> None:
    model = Model("chat", (Deployment(Account("main", "openai", "openai", accepts_client_keys=True), "gpt-4o"),))
    asked = exchange()
    asked.caller = Caller(kind="provider", provider="openai", provider_key="sk-theirs")
    target = RoutedModel(model, Retry(attempts(Scripted(UpstreamAuthError("no such key"))), FAST))

    with pytest.raises(AuthenticationError) as caught:
        await target.send(asked, CALL)

    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")


async def test_a_refused_key_of_ours_is_not() -> None:
    with pytest.raises(UpstreamAuthError):
        await routed(Scripted(UpstreamAuthError("no such key"))).send(exchange(), CALL)
