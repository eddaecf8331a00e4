from llmgateway.exchange import Call, Complete, Exchange
from llmgateway.gateway.answers.makers import MakersLayer
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.makers import Makers
from llmgateway.stores.memory.values import MemoryValues
from tests.deployments import deployment
from tests.gateway.test_target import Says
from tests.routing.test_makers import NAME, SIGNED, answered_by


async def asked(call: Call) -> Exchange:
    makers = Makers(MemoryValues(max_bytes=10**6), HealthBook())
    makers.note(answered_by(deployment("one")), Complete(SIGNED % NAME))
    exchange = Exchange()
    assert await MakersLayer(makers, Says("model")).send(exchange, call) == Complete(b"model")
    return exchange


async def test_who_made_what_is_sealed_is_known_before_anybody_chooses() -> None:
    exchange = await asked(Call("chat", "chat", SIGNED % NAME))

    assert exchange.maker is not None
    assert exchange.maker.startswith("one/gpt-4o#")


async def test_other_calls_pass_as_they_are() -> None:
    assert (await asked(Call("chat", "chat", b"{}"))).maker is None
    assert (await asked(Call("embedding", "chat", SIGNED % NAME))).maker is None
    # No answer is in it, so this is only what somebody wrote.
    assert (await asked(Call("chat", "chat", SIGNED % NAME, has_answers=False))).maker is None


async def test_a_long_call_is_searched_beside_the_event_loop_and_finds_the_same() -> None:
    blanks = b" " * 300_000

    assert (await asked(Call("chat", "chat", blanks + SIGNED % NAME))).maker is not None
    assert (await asked(Call("chat", "chat", blanks + b"{}"))).maker is None
