import pytest

from llmgateway.errors import ModelNotFoundError
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
