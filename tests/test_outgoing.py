"""What several put into an answer on its way out."""

from collections.abc import Sequence

from starlette.types import Message, Send

from llmgateway.exchange import Exchange, Header
from llmgateway.outgoing import WHOLE, Outgoing
from tests.asgi import Client

END: Message = {"type": "http.response.body", "body": b"end"}


def start(*headers: Header) -> Message:
    return {"type": "http.response.start", "status": 203, "headers": list(headers)}


async def test_by_itself_it_changes_nothing() -> None:
    client = Client()
    outgoing = Outgoing(client.send)
    assert not outgoing.begun
    messages = [start((b"a", b"1")), END]
    for message in messages:
        await outgoing(message)
        assert outgoing.begun

    assert client.sent == [start((b"a", b"1")), END]


async def test_whoever_is_within_finds_the_same() -> None:
    outgoing = Outgoing(Client().send)

    assert Outgoing.of(outgoing) is outgoing


async def test_around_what_somebody_put_around_it_is_another() -> None:
    client = Client()
    outer = Outgoing(client.send)
    outer.lines = b"outer: 1\r\n"

    async def around(message: Message) -> None:
        await outer(message)

    inner = Outgoing.of(around)
    inner.lines = b"inner: 1\r\n"
    await inner(start())

    assert inner is not outer
    assert client.headers == {"inner": "1", "outer": "1"}


async def test_headers_may_depend_on_those_that_there_are() -> None:
    def fitting(headers: Sequence[Header]) -> Sequence[Header]:
        return [(b"seen", b"%d" % len(headers))]

    client = Client()
    outgoing = Outgoing(client.send)
    outgoing.fitting, outgoing.lines = fitting, b"last: 1\r\n"
    await outgoing(start((b"a", b"1"), (b"b", b"2")))

    assert client.headers == {"a": "1", "b": "2", "seen": "2", "last": "1"}


async def test_the_status_and_the_last_message_are_seen() -> None:
    client, exchange = Client(), Exchange()
    last: list[tuple[Exchange, Message]] = []

    async def send_last(whose: Exchange, send: Send, message: Message) -> None:
        last.append((whose, message))
        await send(message)

    outgoing = Outgoing(client.send)
    outgoing.exchange, outgoing.last = exchange, send_last
    for message in (start(), {**END, "more_body": True}, END):
        await outgoing(message)

    assert exchange.status == 203
    assert last == [(exchange, END)]
    assert client.body == b"endend"


async def test_a_message_may_be_a_whole_answer() -> None:
    client, exchange = Client(), Exchange()
    last: list[str] = []

    async def send_last(_: Exchange, send: Send, message: Message) -> None:
        last.append(message["type"])
        await send(message)

    outgoing = Outgoing(client.send)
    assert not outgoing.takes_whole
    outgoing.exchange, outgoing.last = exchange, send_last
    outgoing.json_lines, outgoing.lines = b"a: 1\r\n", b"b: 2\r\n"
    await outgoing({"type": WHOLE, "status": 203, "lines": b"c: 3\r\n", "body": b"end"})

    assert client.sent == [{"type": WHOLE, "status": 203, "lines": b"c: 3\r\na: 1\r\nb: 2\r\n", "body": b"end"}]
    assert (exchange.status, last) == (203, [WHOLE])
