import pytest
from typing_extensions import override

from llmgateway.errors import ModelNotFoundError, NotFoundError
from llmgateway.exchange import Call, Complete, Exchange, Reply
from llmgateway.gateway.gateway import Gateway

CALL = Call("embedding", "embed", b"{}")


class Answers:
    """Notes what it was asked, and gives one answer, or fails."""

    def __init__(self, reply: Reply | Exception) -> None:
        self.reply = reply
        self.seen: list[tuple[Exchange, Call]] = []
        self.closed = 0

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        self.seen.append((exchange, call))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def close(self) -> None:
        self.closed += 1


async def test_the_exchange_learns_what_was_asked_and_what_came_back() -> None:
    target, exchange, call = Answers(reply := Complete(b"{}")), Exchange(), Call("chat", "gpt", b"{}", stream=True)

    answered = await Gateway(target, target.close).send(exchange, call)

    assert answered is reply
    assert exchange.reply is reply
    assert (exchange.operation, exchange.requested_model, exchange.stream) == ("chat", "gpt", True)
    assert target.seen == [(exchange, call)]


async def test_a_call_that_fails_is_known_by_what_it_asked() -> None:
    target, exchange = Answers(ModelNotFoundError("no")), Exchange()

    with pytest.raises(ModelNotFoundError):
        await Gateway(target, target.close).send(exchange, CALL)

    assert (exchange.operation, exchange.requested_model, exchange.reply) == ("embedding", "embed", None)


async def test_closing_gives_back_what_was_opened() -> None:
    target = Answers(Complete(b"{}"))

    await Gateway(target, target.close).close()

    assert target.closed == 1


@pytest.mark.parametrize("reply", [Complete(b"{}"), ModelNotFoundError("no")])
async def test_a_dry_run_knows_what_is_asked_and_is_no_call_of_a_model_in_the_end(reply: Reply | Exception) -> None:
    seen: list[object] = []

    class Explains(Answers):
        @override
        async def send(self, exchange: Exchange, call: Call) -> Reply:
            seen.append((exchange.operation, exchange.requested_model, exchange.stream))
            return await super().send(exchange, call)

    target, exchange = Answers(Complete(b"{}")), Exchange(operation="chat")
    gateway = Gateway(target, target.close, explain=Explains(reply))

    if isinstance(reply, Exception):
        with pytest.raises(ModelNotFoundError):
            await gateway.explain(exchange, CALL)
    else:
        assert await gateway.explain(exchange, CALL) is reply

    assert seen == [("embedding", "embed", False)]
    assert (exchange.operation, exchange.call, exchange.reply) == (None, None, None)
    assert target.seen == []


async def test_where_nothing_explains_there_are_no_dry_runs() -> None:
    target = Answers(Complete(b"{}"))

    with pytest.raises(NotFoundError):
        await Gateway(target, target.close).explain(Exchange(), CALL)
