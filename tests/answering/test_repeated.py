"""Heads that come again, and what only looks like one: whoever is asked is told what the parser would have said."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import uvicorn
from httptools import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from typing_extensions import override
from uvicorn.server import ServerState

from llmgateway.answering import Protocol
from llmgateway.answering.repeated import Repeated
from tests.answering.site import GET

HEAD = b"POST /a%20b?q HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nX-Two: 1\r\nx-two: 2\r\n\r\n"


def asking(body: bytes, head: bytes = HEAD) -> bytes:
    return head.replace(b"{}", b"%d" % len(body)) + body


class Wire(asyncio.Transport):
    """Keeps what is written, and when it was to be read no more."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_gone = False
        self.held: list[str] = []

    @override
    def write(self, data: Any) -> None:
        self.written += bytes(data)

    @override
    def is_closing(self) -> bool:
        return self.is_gone

    @override
    def close(self) -> None:
        self.is_gone = True

    @override
    def pause_reading(self) -> None:
        self.held.append("pause")

    @override
    def resume_reading(self) -> None:
        self.held.append("resume")


Told = list[tuple[dict[str, Any], bytes]]


def connected(told: Told) -> tuple[Protocol, Wire]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            body += message.get("body", b"")
        shown = {name: value for name, value in scope.items() if name not in {"piece", "request"}}
        told.append((shown | {"headers": [*scope["headers"]]}, body))
        scope["headers"].clear()  # it is the application's own
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    protocol, wire = Protocol(uvicorn.Config(app, log_config=None), ServerState(), {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def hear(pieces: Sequence[bytes]) -> tuple[list[Any], bytes, bool]:
    """What an application is told by these bytes, and what is answered."""
    told: Told = []
    protocol, wire = connected(told)
    for data in pieces:
        if not wire.is_gone:
            protocol.data_received(data)
        for _ in range(4):
            await asyncio.sleep(0)
    ended = wire.is_gone
    protocol.connection_lost(None)
    await asyncio.sleep(0)
    return told, wire.written, ended


HEADS = [
    HEAD,
    HEAD.replace(b"Content-Length", b"content-length"),
    HEAD.replace(b"x-two: 2", b"connection: close"),
    HEAD.replace(b"x-two: 2", b"transfer-encoding: chunked"),
    HEAD.replace(b"Content-Length: {}", b"transfer-encoding: chunked"),
    HEAD.replace(b"x-two: 2", b"content-length: 1"),
    HEAD.replace(b"x-two: 2", b"upgrade: h2c\r\nconnection: upgrade"),
    HEAD.replace(b"x-two: 2", b"x-length: \r\n"),
    HEAD.replace(b"1.1", b"1.0"),
    b"GET / HTTP/1.1\r\n\r\n",
]
BODY = st.sampled_from([b"", b"a", b"hello", b"x" * 10, b"\r\n\r\nab", b"0\r\n\r\n", asking(b"hello")])
WHOLE = st.builds(asking, BODY, st.sampled_from(HEADS))
SAID = st.one_of(
    st.just(asking(b"hello")),
    st.just(asking(b"x" * 10)),
    WHOLE,
    # Cut, doubled, with another length, or with something behind it.
    st.builds(lambda whole, at: whole[:at], WHOLE, st.integers(1, 120)),
    st.builds(lambda one, other: one + other, WHOLE, WHOLE),
    st.builds(
        lambda whole, at: whole.replace(b": 5", at),
        st.just(asking(b"hello")),
        st.sampled_from([b": 05", b": +5", b": 5 ", b":5", b": 4", b": 6", b": ", b": 5\r\nx: y", b": 5\n", b": 5\rx"]),
    ),
    st.sampled_from([b"\r\n", b"hello", b"5\r\nhello\r\n0\r\n\r\n"]),
)


PLAIN = asking(b"hello")
# In one read, or in two: a head alone and then its body is what many clients send.
PIECES = st.one_of(
    SAID.map(lambda said: [said]),
    st.builds(lambda said, at: [said[:at], said[at:]], SAID, st.integers(1, 120)),
    st.sampled_from([[PLAIN[:-5], PLAIN[-5:]], [PLAIN[:-2], b"lo" + PLAIN], [PLAIN[:-3], b"l", b"lo"]]),
)


@given(said=st.lists(PIECES, max_size=6))
def test_a_head_that_is_not_parsed_again_says_what_the_parser_says(said: list[list[bytes]]) -> None:
    async def both() -> None:
        again = [
            PLAIN,
            asking(b"x"),
            *(piece for pieces in said for piece in pieces if piece),
            PLAIN,
            asking(b"x" * 12),
        ]
        heard = await hear(again)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("llmgateway.answering.connection._MOST_UNLIKE", 0)
            assert heard == await hear(again)

    asyncio.run(both())


async def test_each_request_has_headers_and_a_scope_of_its_own() -> None:
    told, _, _ = await hear([asking(b"a" * length) for length in range(5)])

    assert [body for _, body in told] == [b"a" * length for length in range(5)]
    assert len({id(scope["headers"]) for scope, _ in told}) == len(told)
    assert [scope["named_headers"][b"content-length"] for scope, _ in told] == [b"0", b"1", b"2", b"3", b"4"]
    assert all(scope["named_headers"][b"x-two"] == b"2" for scope, _ in told)


@pytest.mark.parametrize(
    ("said", "parsed"),
    [
        ([asking(body) for body in (b"", b"one", b"two", b"three")], 2),
        ([PLAIN[:-5], b"hello"] * 4, 4),
        ([asking(b"hello", HEAD.replace(b"x-two: 2", b"x-two: %d" % turn)) for turn in range(30)], 30),
        ([GET] * 30, 30),
    ],
)
async def test_a_head_that_comes_again_is_parsed_twice(
    said: list[bytes], parsed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[bytes] = []

    class Counting(HttpRequestParser):
        @override
        def feed_data(self, data: Any) -> None:
            fed.append(data)
            super().feed_data(data)

    monkeypatch.setattr("llmgateway.answering.connection.HttpRequestParser", Counting)
    told, _, _ = await hear(said)

    assert len(told) == b"".join(said).count(b"HTTP/1.1")
    assert len(fed) == parsed


async def test_whoever_sends_another_head_each_time_is_not_compared_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    class Counting(Repeated, frozen=True):
        @override
        def read(self, data: bytes) -> tuple[bytes, bytes, int] | None:
            compared.append(data)
            return super().read(data)

    monkeypatch.setattr("llmgateway.answering.connection.Repeated", Counting)
    heads = [HEAD.replace(b"x-two: 2", b"x-two: %d" % turn) for turn in range(30)]
    await hear([asking(b"hello", head) for head in heads])

    assert 0 < len(compared) < len(heads) / 2


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        ([asking(b"b")], False),
        ([asking(b"c" * 70_000)], False),  # it is taken at once
        ([asking(b"c" * 70_000)[:66_000], asking(b"c" * 70_000)[66_000:]], True),
        ([asking(b"c" * 70_000)[:300], asking(b"c" * 70_000)[300:]], True),
        ([asking(b"b"), asking(b"c" * 70_000)], True),  # it waits for the answer to the one before
    ],
)
async def test_a_large_body_holds_its_sender_until_it_is_taken(said: list[bytes], holds: bool) -> None:
    protocol, wire = connected([])
    for _ in range(2):  # from the second one on its head is kept
        protocol.data_received(asking(b"a"))
        await asyncio.sleep(0.01)
    for data in said:
        protocol.data_received(data)
    assert protocol.is_held is holds
    await asyncio.sleep(0.01)
    assert not protocol.is_held
    protocol.data_received(asking(b"d"))
    await asyncio.sleep(0.01)
    protocol.connection_lost(None)

    assert wire.held == ["pause", "resume"] * holds


def kept(data: bytes, body_bytes: int) -> Repeated | None:
    return Repeated.of(data, body_bytes, {}, [(b"host", b"x"), (b"content-length", b"5")])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        asking(b"hello") + b"\r\n",
        asking(b"hello", HEAD.replace(b"Content-Length: ", b"Content-Length:")),
        asking(b"hello") + asking(b"hello"),
        asking(b"hello", HEAD.replace(b"x-two", b"x" * 5000)),
    ],
)
def test_only_one_whole_request_with_a_length_is_kept(data: bytes) -> None:
    assert kept(data, 5) is None


def test_a_head_is_known_again_whatever_its_length() -> None:
    repeated = kept(asking(b"hello"), 5)

    assert repeated is not None
    assert repeated.read(asking(b"what else")) == (b"9", b"what else", 0)
    assert repeated.read(asking(b"what else")[:-9]) == (b"9", b"", 9)
    headers = [(b"host", b"x"), (b"content-length", b"9")]
    assert repeated.headers_for(b"9") == (headers, dict(headers))
    assert repeated.headers == [(b"host", b"x"), (b"content-length", b"5")]


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + b"!",
        PLAIN.replace(b"x-two", b"x-too"),
        PLAIN[: PLAIN.index(b"hello") - 1],
        *(PLAIN.replace(b": 5", said) for said in (b": ", b": +5", b": 5 ", b": 4", b": " + b"9" * 20)),
    ],
)
def test_what_is_another_head_or_more_than_one_request_is_for_the_parser(data: bytes) -> None:
    repeated = kept(PLAIN, 5)

    assert repeated is not None
    assert repeated.read(data) is None
