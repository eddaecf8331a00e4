import asyncio
import gc
import weakref

import anyio
import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import ProviderTimeoutError, UpstreamError
from llmgateway.exchange import Call, Reply, Streamed, Usage
from llmgateway.wire.sse import WholeStream
from tests.routing.scripted import ANSWER, CALL, DEPLOYMENT, STREAM, Asking, Scripted, attempts, exchange, pieces


async def silence() -> Reply:
    await asyncio.Event().wait()
    return ANSWER


async def test_an_attempt_is_written_down() -> None:
    asked = exchange()

    await attempts(Scripted(ANSWER)).send(asked, DEPLOYMENT, CALL)

    (attempt,) = asked.attempts
    assert (attempt.provider, attempt.model, attempt.outcome) == ("main", "gpt-4o", "ok")
    assert attempt.ended is not None
    assert (asked.provider, asked.upstream_model) == ("main", "gpt-4o")


async def test_a_failure_is_written_down_with_its_status() -> None:
    asked = exchange()

    with pytest.raises(UpstreamError):
        await attempts(Scripted(UpstreamError("x", upstream_status=503))).send(asked, DEPLOYMENT, CALL)

    assert (asked.attempts[0].outcome, asked.attempts[0].upstream_status) == ("provider_unavailable", 503)


async def test_the_requests_deadline_ends_an_attempt() -> None:
    asked = exchange(within_s=0.05)

    with pytest.raises(ProviderTimeoutError, match=r"openai did not answer within 0\.0"):
        await attempts(Scripted(silence)).send(asked, DEPLOYMENT, CALL)

    assert asked.attempts[0].outcome == "provider_timeout"


async def test_the_accounts_time_limit_ends_an_attempt() -> None:
    slow = Deployment(Account("main", "openai", "openai", timeout_s=0.05), "gpt-4o")

    with pytest.raises(ProviderTimeoutError):
        await attempts(Scripted(silence)).send(exchange(), slow, CALL)


async def test_the_first_token_has_its_own_limit() -> None:
    with pytest.raises(ProviderTimeoutError):
        await attempts(Scripted(silence), first_token_s=0.05).send(exchange(), DEPLOYMENT, STREAM)


async def test_a_cancelled_attempt_is_no_failure() -> None:
    asked = exchange()
    task = asyncio.get_running_loop().create_task(attempts(Scripted(silence)).send(asked, DEPLOYMENT, CALL))
    await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert asked.attempts[0].outcome == "cancelled"


async def test_a_streams_attempt_lasts_until_its_last_chunk() -> None:
    asked = exchange()

    reply = await attempts(Scripted(Streamed(pieces(b"a", b"b")))).send(asked, DEPLOYMENT, STREAM)

    (attempt,) = asked.attempts
    assert isinstance(reply, Streamed)
    assert attempt.first_chunk is not None
    assert attempt.outcome is None
    assert [chunk async for chunk in reply.chunks] == [b"a", b"b"]
    assert attempt.outcome == "ok"


EVENTS = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'


async def test_a_stream_that_came_whole_is_over_and_paid_at_once() -> None:
    asked, told = exchange(), Streamed(WholeStream(EVENTS), Usage(3, 1))

    reply = await attempts(Scripted(told)).send(asked, DEPLOYMENT, STREAM)

    (attempt,) = asked.attempts
    assert isinstance(reply, Streamed)
    assert isinstance(reply.chunks, WholeStream)
    assert attempt.first_chunk is not None
    assert attempt.ended is not None
    assert (attempt.outcome, asked.usage) == ("ok", Usage(3, 1))
    assert reply.heard is not None
    assert (reply.heard.text(), reply.heard.tail()) == ("Hi", EVENTS)
    assert [chunk async for chunk in reply.chunks] == [EVENTS]


async def test_a_stream_that_came_whole_without_its_usage_is_counted() -> None:
    asked = exchange()

    reply = await attempts(Scripted(Streamed(WholeStream(EVENTS)))).send(asked, DEPLOYMENT, STREAM)

    assert isinstance(reply, Streamed)
    assert asked.usage is None
    assert [chunk async for chunk in reply.chunks] == [EVENTS]
    assert asked.usage is not None
    assert asked.usage.estimated
    assert (asked.usage.completion_tokens, asked.attempts[0].outcome) == (1, "ok")


async def test_pitfall_003_a_stream_that_came_whole_and_is_no_json_is_a_failure() -> None:
    asked, broken = exchange(), Streamed(WholeStream(b"data: {nothing\n\ndata: [DONE]\n\n"), Usage(3, 1))

    with pytest.raises(UpstreamError, match="not JSON"):
        await attempts(Scripted(broken)).send(asked, DEPLOYMENT, STREAM)

    assert (asked.attempts[0].outcome, asked.usage) == (UpstreamError.code, None)


async def test_a_whole_answer_that_nobody_waited_for_is_charged_as_it_was_expected() -> None:
    asked, begun = exchange(), anyio.Event()

    async def hangs() -> Reply:
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def ask() -> None:
        call = Call("chat", "chat", b"x" * 400, max_tokens=7)
        await attempts(Scripted(hangs)).send(asked, DEPLOYMENT, call)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await begun.wait()
        group.cancel_scope.cancel()

    assert asked.usage == Usage(100, 7, estimated=True)
    assert asked.attempts[0].outcome == "cancelled"


async def test_an_attempt_that_was_late_holds_nobody() -> None:
    """What holds its frame holds the exchange and its body, and the collector comes late."""

    async def ask() -> weakref.ref[Asking]:
        asker = attempts(Scripted(silence))
        with pytest.raises(ProviderTimeoutError):
            await asker.send(exchange(within_s=0.02), DEPLOYMENT, CALL)
        return weakref.ref(asker)

    gc.disable()
    try:
        held = await ask()
        await asyncio.sleep(0)

        assert held() is None
    finally:
        gc.enable()


async def test_each_attempt_has_its_own_limit_whatever_the_ones_before_it_had() -> None:
    asker = attempts(Scripted(ANSWER, ANSWER, silence, ANSWER))
    await asker.send(exchange(within_s=60.0), DEPLOYMENT, CALL)
    await asker.send(exchange(), DEPLOYMENT, CALL)
    late = exchange(within_s=0.05)

    with pytest.raises(ProviderTimeoutError):
        await asker.send(late, DEPLOYMENT, CALL)
    await asker.send(exchange(within_s=60.0), DEPLOYMENT, CALL)

    assert late.attempts[0].outcome == "provider_timeout"


@pytest.mark.parametrize(("account_s", "within_s", "counts"), [(0.05, 60.0, True), (None, 0.05, False)])
async def test_who_is_late_is_slow_unless_the_client_allowed_too_little(
    account_s: float | None, within_s: float, *, counts: bool
) -> None:
    asker = attempts(Scripted(silence))
    slow = Deployment(Account("main", "openai", "openai", timeout_s=account_s), "gpt-4o")

    with pytest.raises(ProviderTimeoutError):
        await asker.send(exchange(within_s), slow, CALL)

    assert asker.book.of(slow).in_a_row == int(counts)
