from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.caller import Caller
from llmgateway.exchange import Attempt, Call, Complete, Exchange, Streamed
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.makers import Makers, holds_sealed, sealed
from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.wire.sse import WholeStream
from tests.deployments import deployment
from tests.timing import relative_cost

ONE, TWO = deployment("one"), deployment("two")
SIGNED = b'{"messages":[{"role":"assistant","thinking_blocks":[{"type":"thinking","signature":"%b"}]}]}'
NAME = b"EqQBCkYIARgCKkDsigned"


def answered_by(one: object) -> Exchange:
    return Exchange(attempts=[Attempt(one, 0.0)])  # type: ignore[arg-type]


def makers(values: object = None) -> tuple[Makers, HealthBook]:
    book = HealthBook()
    return Makers(values or MemoryValues(max_bytes=10**6), book), book  # type: ignore[arg-type]


def call(*names: bytes) -> Call:
    return Call("chat", "chat", b"".join(SIGNED % name for name in names))


@pytest.mark.parametrize("field", ["signature", "encrypted_content", "thought_signature", "thoughtSignature"])
def test_what_providers_seal_is_found_by_its_field(field: str) -> None:
    assert len(sealed(b'{"%b": "%b"}' % (field.encode(), NAME))) == 1


@pytest.mark.parametrize(
    "body",
    [b'{"type":"redacted_thinking","data":"%b"}', b'{"type":"reasoning.encrypted","data":"%b"}'],
)
def test_redacted_and_encrypted_blocks_are_sealed_too(body: bytes) -> None:
    assert len(sealed(body % NAME)) == 1


@pytest.mark.parametrize(
    "body", [b"", b'{"signature":"short"}', b'{"content":"my signature, encrypted"}', b'{"data":"x"}']
)
def test_talk_of_signatures_is_not_sealed(body: bytes) -> None:
    assert sealed(body) == []


@given(st.binary(max_size=200))
def test_any_bytes_can_be_searched(body: bytes) -> None:
    assert not sealed(body) or holds_sealed(body)


async def test_the_maker_of_the_newest_is_found() -> None:
    known, book = makers()
    known.note(answered_by(ONE), Complete(SIGNED % NAME))
    known.note(answered_by(TWO), Complete(SIGNED % (NAME + b"2")))

    assert await known.find(call(NAME)) == book.of(ONE).id
    assert await known.find(call(NAME, NAME + b"2")) == book.of(TWO).id
    assert await known.find(call(NAME + b"2", b"unknown-and-long-enough")) == book.of(TWO).id
    assert await known.find(call(b"unknown-and-long-enough")) is None


async def test_a_streams_pieces_are_looked_at_as_they_pass() -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b'data: {"choices":[]}\n\n'
        yield b"data: " + SIGNED % NAME + b"\n\n"

    known, book = makers()
    stream = Streamed(pieces())
    known.note(answered_by(TWO), stream)

    assert len([chunk async for chunk in stream.chunks]) == 2
    await stream.chunks.aclose()

    assert await known.find(call(NAME)) == book.of(TWO).id


async def test_a_stream_that_came_whole_is_looked_at_at_once() -> None:
    known, book = makers()
    whole = WholeStream(b"data: " + SIGNED % NAME + b"\n\ndata: [DONE]\n\n")
    stream = Streamed(whole)

    known.note(answered_by(TWO), stream)

    assert stream.chunks is whole
    assert await known.find(call(NAME)) == book.of(TWO).id


async def test_nothing_is_kept_of_a_clients_own_key_and_nothing_of_the_text() -> None:
    values = MemoryValues(max_bytes=10**6)
    known, _ = makers(values)
    own = answered_by(ONE)
    own.caller = Caller(kind="provider", provider="openai", provider_key="sk-theirs")
    known.note(own, Complete(SIGNED % NAME))
    assert await known.find(call(NAME)) is None

    known.note(answered_by(ONE), Complete(SIGNED % NAME))
    assert NAME.decode() not in "".join(sealed(SIGNED % NAME))


async def test_without_the_store_anybody_is_asked() -> None:
    class Away:
        async def get(self, key: str) -> bytes | None:
            raise StoreAwayError

    known, _ = makers(Away())

    assert await known.find(call(NAME)) is None


@pytest.mark.alone
def test_looking_costs_next_to_nothing_where_nothing_is_sealed() -> None:
    body = b'{"model":"chat","messages":[{"role":"user","content":"hello there"}]}'

    assert relative_cost(lambda: holds_sealed(body), number=5000) < 0.5
