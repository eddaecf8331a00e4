import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest
from yarl import URL

from llmgateway.upstream.http.failures import NotHTTPError
from llmgateway.upstream.http.pool import Pool
from llmgateway.upstream.http.response import Response
from tests.upstream.http.speaking import saying, serving

TEXT = b"".join(b'{"number": %d}\n' % number for number in range(50_000))


def bare(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def packed_answer(encoding: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (encoding, len(body)) + body


async def pieces_of(response: Response) -> list[bytes]:
    pieces = []
    while piece := await response.content.readany():
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [(b"gzip", gzip.compress), (b"X-GZIP", gzip.compress), (b"deflate", zlib.compress), (b"Deflate", bare)],
)
@pytest.mark.parametrize("size", [1, 7, 1000, 10_000_000])
async def test_a_packed_body_is_read_as_what_it_was(
    pool: Pool, encoding: bytes, pack: Callable[[bytes], bytes], size: int
) -> None:
    text = TEXT[: max(size * 100, 100)]
    whole = packed_answer(encoding, pack(text))
    cut = [whole[at : at + size] for at in range(0, len(whole), size)]
    async with serving(saying(cut, [whole]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")
        assert b"".join(await pieces_of(response)) == text
        assert (response.content.at_eof(), await response.content.readany()) == (True, b"")
        response = await pool.post(URL(server.url), {}, b"{}")
        assert await response.content.read() == text
        assert server.connections == 1


async def test_members_one_after_another_are_one_body(pool: Pool) -> None:
    body = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    async with serving(saying([packed_answer(b"gzip", body)]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")

        assert await response.content.read() == b"one two"


async def test_a_bomb_is_unpacked_a_bounded_piece_at_a_time(pool: Pool) -> None:
    body = gzip.compress(bytes(20_000_000))
    async with serving(saying([packed_answer(b"gzip", body)]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")
        sizes = [len(piece) for piece in await pieces_of(response)]

    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 256 * 1024


@pytest.mark.parametrize("body", [b"not packed", gzip.compress(TEXT)[:-1], gzip.compress(TEXT)[:1000]])
async def test_what_is_not_packed_as_it_says_is_refused(pool: Pool, body: bytes) -> None:
    async with serving(saying([packed_answer(b"gzip", body)]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")
        with pytest.raises(NotHTTPError):
            await response.content.read()


@pytest.mark.parametrize("encoding", [b"identity", b"br", b""])
async def test_what_is_packed_otherwise_is_handed_over_as_it_is(pool: Pool, encoding: bytes) -> None:
    async with serving(saying([packed_answer(encoding, b"as it is")]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")

        assert await response.content.read() == b"as it is"


async def test_nothing_is_nothing_however_it_is_packed(pool: Pool) -> None:
    async with serving(saying([packed_answer(b"gzip", b"")]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")

        assert await response.content.readany() == b""
        assert response.content.at_eof()


async def test_pieces_of_a_packed_stream_are_handed_over_as_they_come(pool: Pool) -> None:
    packer, more = zlib.compressobj(wbits=zlib.MAX_WBITS | 16), asyncio.Event()
    first = packer.compress(b"event 1") + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = packer.compress(b"event 2") + packer.flush()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + first)
        await more.wait()
        writer.write(rest)
        writer.write_eof()

    async with serving(talk, pool) as server:
        response = await pool.post(URL(server.url), {}, b"")
        assert await response.content.readany() == b"event 1"
        more.set()
        assert await pieces_of(response) == [b"event 2"]
