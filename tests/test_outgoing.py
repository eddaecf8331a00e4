"""What several put into an answer on its way out."""

from collections.abc import Sequence

from starlette.types import Message, Receive, Scope, Send

from llmgateway.exchange import Exchange, Header
from llmgateway.middleware.observe import Observe
from llmgateway.middleware.security_headers import SecurityHeaders
from llmgateway.outgoing import WHOLE, Outgoing
from llmgateway.turn import Turn
from tests.asgi import Client, scope_of


class Records:
    """Writes nothing down."""

    def __init__(self) -> None:
        self.turn = Turn()

    def secure(self, exchange: Exchange) -> None:
        """Nothing is lost."""

    def record(self, exchange: Exchange) -> None:
        exchange.recorded = True

    secure_in_turn, record_in_turn = secure, record


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
    found: list[Send] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        found.append(send)

    client = Client()
    outgoing = Outgoing(client.send)
    for middleware in (SecurityHeaders(app), Observe(app, recorder=Records())):
        await middleware(scope_of(), client.receive, outgoing)

    assert found == [outgoing, outgoing]


async def test_around_what_somebody_put_around_it_is_another() -> None:
    client = Client()
    outer = Outgoing(client.send)
    outer.lines = b"outer: 1\r\n"

    async def around(message: Message) -> None:
        await outer(message)

    inner = Outgoing(around)
    inner.lines = b"inner: 1\r\n"
    await inner(start())

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
    outgoing.whole_lines, outgoing.lines = b"a: 1\r\n", b"b: 2\r\n"
    await outgoing({"type": WHOLE, "status": 203, "lines": b"c: 3\r\n", "body": b"end"})

    assert client.sent == [{"type": WHOLE, "status": 203, "lines": b"c: 3\r\na: 1\r\nb: 2\r\n", "body": b"end"}]
    assert (exchange.status, last) == (203, [WHOLE])
