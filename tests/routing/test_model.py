import pytest

from llmgateway.catalog.model import Account, Deployment, Model
from llmgateway.errors import UpstreamError, UpstreamRejectedError
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
