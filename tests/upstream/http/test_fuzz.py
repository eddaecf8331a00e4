"""Made-up answers in made-up pieces: never a hang, never wrong bytes, never a bad connection used again."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohttp
import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.upstream.http.failures import LostError, NotHTTPError
from llmgateway.upstream.http.pool import Pool
from tests.upstream.http.speaking import Wire, ask, say, serving, wired
from tests.upstream.http.test_connection import BROKEN, CUT, KEPT, LAST

BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=8)
PROVISIONAL = st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n"])
# Pieces of HTTP in any order come nearer to it than any bytes do.
SCRAPS = st.one_of(
    st.sampled_from([b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b" OK", b"100", b"204", b"5", b"-1", b" ", b": ", b"\r\n"]),
    st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"chunked", b"Connection", b"close", b"\r", b"\n"]),
    st.sampled_from([b"5\r\nhello\r\n", b"0\r\n\r\n", b"\r\n\r\n"]),
)
NOISE = st.one_of(st.binary(max_size=200), st.lists(SCRAPS, max_size=30).map(b"".join))


class Heard(NamedTuple):
    body: bytes | None  # None: there was no answer, or not all of it
    may_stay: bool


async def hear(pieces: Sequence[bytes], *, ends: bool) -> Heard:
    """What a connection makes of these bytes. That it is freed exactly once is part of every case."""
    wire = Wire()
    connection, freed = wired(wire)
    asking = asyncio.get_running_loop().create_task(connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
    await wire.asked()
    for piece in pieces:
        if piece and not wire.is_gone:
            connection.data_received(piece)
    if ends and not wire.is_gone:
        connection.eof_received()
    if not freed:
        assert not ends
        connection.hang_up()
    body = None
    try:
        async with asyncio.timeout(1):
            body = await (await asking).content.read()
    except (LostError, NotHTTPError):
        pass
    stays = freed == [True] and not wire.is_gone
    connection.connection_lost(None)
    assert len(freed) == 1
    return Heard(body, stays)


@st.composite
def pieces_of(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def by_length(body: list[bytes]) -> bytes:
    whole = b"".join(body)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(whole), whole)


def by_chunks(body: list[bytes]) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in body)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks


Frame = Callable[[list[bytes]], bytes]
FRAMES: st.SearchStrategy[Frame] = st.sampled_from([by_length, by_chunks])


@given(st.data(), BODIES, PROVISIONAL, FRAMES)
@settings(max_examples=300, deadline=None)
def test_an_answer_in_any_pieces_is_read_as_it_is(
    data: st.DataObject, body: list[bytes], before: bytes, frame: Frame
) -> None:
    pieces = data.draw(pieces_of(before + frame(body)))

    assert asyncio.run(hear(pieces, ends=False)) == Heard(b"".join(body), may_stay=True)


@given(st.data(), BODIES, FRAMES, st.integers(1, 400))
@settings(max_examples=300, deadline=None)
def test_a_part_of_an_answer_is_never_taken_for_the_whole(
    data: st.DataObject, body: list[bytes], frame: Frame, missing: int
) -> None:
    part = frame(body)[: -min(missing, len(frame(body)))]

    assert asyncio.run(hear(data.draw(pieces_of(part)), ends=True)) == Heard(None, may_stay=False)


@given(st.data(), BODIES, FRAMES, NOISE)
@settings(max_examples=300, deadline=None)
def test_what_follows_an_answer_neither_changes_it_nor_stays(
    data: st.DataObject, body: list[bytes], frame: Frame, noise: bytes
) -> None:
    heard = asyncio.run(hear(data.draw(pieces_of(frame(body) + noise)), ends=False))

    assert heard.body == b"".join(body)
    # Empty lines are nothing that could be taken for an answer.
    assert not heard.may_stay or not noise.strip(b"\r\n")


@given(st.data(), NOISE)
@settings(max_examples=500, deadline=None)
def test_noise_ends_in_an_answer_or_a_failure_and_the_same_however_it_is_cut(data: st.DataObject, noise: bytes) -> None:
    at_once = asyncio.run(hear([noise], ends=True))
    in_pieces = asyncio.run(hear(data.draw(pieces_of(noise)), ends=True))

    # An answer that came whole stands, whatever came after it in the same piece or the next.
    assert at_once.body == in_pieces.body


@given(st.data(), st.sampled_from([*KEPT.values(), *LAST.values()]), st.integers(0, 255))
@settings(max_examples=500, deadline=None)
def test_an_answer_with_one_byte_changed_never_hangs(data: st.DataObject, whole: bytes, byte: int) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([byte]) + whole[at + 1 :]

    assert (
        asyncio.run(hear([changed], ends=True)).body == asyncio.run(hear(data.draw(pieces_of(changed)), ends=True)).body
    )


NAMES = st.sampled_from(
    b"content-length|Content-Length|Transfer-Encoding|CONNECTION|Connection|Proxy-Connection|Upgrade|TE|Keep-Alive|"
    b"Content-Type|X-Request-Id|Date|x y| x||\xe9".split(b"|")
)
VALUES = st.sampled_from(
    b'5| 5|  5|05|5 |4|6|-5|5, 5|chunked|| keep-alive| Keep-Alive| keep-alive, x| close| upgrade|\t| a: b|h3=":443"|'
    b" \xe9|a\0b|a\nb|a\rb| \x7f".split(b"|")
)
FIELDS = st.lists(st.tuples(NAMES, VALUES).map(b":".join), max_size=6)
STATUS_LINES = st.sampled_from(
    [
        *[b"HTTP/1.1 200 OK"] * 4,
        *b"HTTP/1.1 200|HTTP/1.0 200 OK|HTTP/1.1 204 X|HTTP/1.1 200 \xe9\0|HTTP/1.1 2000 ".split(b"|"),
    ]
)


@given(STATUS_LINES, FIELDS, FIELDS)
@settings(max_examples=800, deadline=None)
def test_an_answer_that_comes_at_once_is_read_as_the_parser_reads_it(
    status_line: bytes, before: list[bytes], after: list[bytes]
) -> None:
    whole = b"\r\n".join([status_line, *before, b"Content-Length: 5", *after, b"", b"hello"])

    assert asyncio.run(hear([whole], ends=False)) == asyncio.run(hear([whole[:1], whole[1:]], ends=False))


async def by_aiohttp(url: str) -> bytes | None:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(url, data=b"{}", headers={"Accept-Encoding": "identity"}) as response:
                return await response.read()
        except aiohttp.ClientError:
            return None


async def by_ourselves(pool: Pool, url: str) -> bytes | None:
    try:
        return await ask(pool, url)
    except (LostError, NotHTTPError):
        return None


# What we refuse, and aiohttp's parser makes something of.
STRICTER = frozenset({"bare line feeds", "folded", "space before the colon"})
ALL = {**KEPT, **LAST, **BROKEN, **CUT}


@pytest.mark.parametrize("name", sorted(ALL))
async def test_aiohttp_reads_the_same(pool: Pool, name: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        await say(writer, [ALL[name]])
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    async with serving(talk, pool) as server:
        with anyio.fail_after(5):
            ours, theirs = await by_ourselves(pool, server.url), await by_aiohttp(server.url)

    assert ours is None if name in STRICTER else ours == theirs
