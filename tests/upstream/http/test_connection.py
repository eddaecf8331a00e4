"""One answer after another on a real socket: every framing, cut wherever bytes can be cut."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from yarl import URL

from llmgateway.upstream.http.connection import Connection
from llmgateway.upstream.http.failures import LostError, NotHTTPError
from llmgateway.upstream.http.pool import Pool
from llmgateway.upstream.http.response import Response
from tests.upstream.http.speaking import OK, Wire, ask, new_pool, read_request, say, saying, secured, serving, wired

H = b"HTTP/1.1 200 OK\r\n"
CHUNKED = H + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
LIMIT = 32 * 1024

# Answers whose body is `hello` and that leave their connection usable.
KEPT = {
    "length": H + b"Content-Length: 5\r\n\r\nhello",
    "length in other letters": H + b"cOnTeNt-LeNgTh:5\r\n\r\nhello",
    "no reason": b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
    "old but kept": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": CHUNKED + HELLO,
    "one chunk": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "chunked in other letters": H + b"transfer-encoding: Chunked\r\n\r\n" + HELLO,
    "chunk extensions": CHUNKED + b'2;a=b\r\nhe\r\n3;c="d"\r\nllo\r\n0;e\r\n\r\n',
    "chunk sizes with zeros": CHUNKED + b"0002\r\nhe\r\n03\r\nllo\r\n000\r\n\r\n",
    "trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 7\r\nX-More: 8\r\n\r\n",
    "provisional": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n"
    + H
    + b"Content-Length: 5\r\n\r\nhello",
    "empty lines before": b"\r\n\r\n" + H + b"Content-Length: 5\r\n\r\nhello",
}
# Answers whose body is `hello` and whose connection ends with them.
LAST = {
    "until the end": H + b"\r\nhello",
    "says close": H + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
    "chunked, says close": H + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO,
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
}
# What is refused, whatever comes after it.
BROKEN = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls": b"\x16\x03\x01\x00\xff",
    "status with a letter": b"HTTP/1.1 2x0 OK\r\n\r\n",
    "another version": b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no colon": H + b"no colon\r\n\r\n",
    "space before the colon": H + b"Content-Length : 2\r\n\r\nok",
    "folded": H + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "zero byte in a field": H + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "negative length": H + b"Content-Length: -1\r\n\r\nok",
    "length with a sign": H + b"Content-Length: +2\r\n\r\nok",
    "length in hex": H + b"Content-Length: 0x2\r\n\r\nok",
    "length beyond all": H + b"Content-Length: 99999999999999999999999\r\n\r\nok",
    "two lengths": H + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "two lengths in one": H + b"Content-Length: 2, 3\r\n\r\nok",
    "length and chunks": H + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks and length": H + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunk size no number": CHUNKED + b"zz\r\n",
    "chunk size negative": CHUNKED + b"-1\r\nok\r\n",
    "chunk size beyond all": CHUNKED + b"fffffffffffffffff\r\n",
    "chunk size of spaces": CHUNKED + b"  \r\nok\r\n",
    "chunk longer than it says": CHUNKED + b"2\r\noki\r\n0\r\n\r\n",
    "a length in the trailers": CHUNKED + b"2\r\nok\r\n0\r\nContent-Length: 3\r\n\r\n",
    "chunk without its end": CHUNKED + b"2\r\nok0\r\n\r\n",
}
# What is fine as far as it goes, and then the connection ends.
CUT = {
    "nothing": b"",
    "within the status line": b"HTTP/1.1 20",
    "within a field": H + b"Content-Le",
    "before the blank line": H + b"Content-Length: 5\r\n",
    "after the head": H + b"Content-Length: 5\r\n\r\n",
    "within the length": H + b"Content-Length: 5\r\n\r\nhell",
    "before the first chunk": CHUNKED,
    "within a chunk's size": CHUNKED + b"2",
    "within a chunk": CHUNKED + b"2\r\nh",
    "between chunks": CHUNKED + b"2\r\nhe\r\n",
    "within the last chunk": CHUNKED + b"2\r\nhe\r\n0\r\n",
    "within the trailers": CHUNKED + b"2\r\nhe\r\n0\r\nX-Sum: 7\r\n",
    "after a provisional answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}


def cut_at(whole: bytes, *offsets: int) -> list[bytes]:
    return [whole[start:end] for start, end in pairwise([0, *offsets, len(whole)])]


def one_by_one(whole: bytes) -> list[bytes]:
    return cut_at(whole, *range(1, len(whole)))


def named(answers: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("whole", answers.values(), ids=answers.keys())


async def ask_all(pool: Pool, answers: Sequence[Sequence[bytes]], *, ends: bool = False) -> tuple[list[bytes], int]:
    """What each of these answers was read as, and how many connections it took."""
    turns = iter(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            await say(writer, next(turns))
            if ends:
                return

    async with serving(talk, pool) as server:
        with anyio.fail_after(10):
            bodies = [await ask(pool, server.url) for _ in answers]
        return bodies, server.connections


@named(KEPT)
async def test_wherever_an_answer_is_cut_it_is_read_the_same_and_its_connection_stays(pool: Pool, whole: bytes) -> None:
    splits = [one_by_one(whole), *(cut_at(whole, offset) for offset in range(1, len(whole)))]

    bodies, connections = await ask_all(pool, splits)

    assert bodies == [b"hello"] * len(splits)
    assert connections == 1


@named(LAST)
async def test_wherever_the_last_answer_of_a_connection_is_cut_it_is_read_the_same(pool: Pool, whole: bytes) -> None:
    splits = [one_by_one(whole), *(cut_at(whole, offset) for offset in range(1, len(whole), 3))]

    bodies, connections = await ask_all(pool, splits, ends=True)

    assert bodies == [b"hello"] * len(splits)
    assert connections == len(splits)


@pytest.mark.parametrize("cut", [[], one_by_one], ids=["at once", "byte by byte"])
@named(BROKEN)
async def test_what_is_no_http_is_refused_and_its_connection_closed(pool: Pool, whole: bytes, cut: object) -> None:
    pieces = one_by_one(whole) if cut else [whole]
    async with serving(saying(pieces), pool) as server:
        with anyio.fail_after(2), pytest.raises((NotHTTPError, LostError)):
            await ask(pool, server.url)
        await server.until_all_gone()

    assert pool.connections() == (0, 0)


@pytest.mark.parametrize("pause_s", [0.0, 0.01])
@named(CUT)
async def test_an_answer_that_breaks_off_is_lost(pool: Pool, whole: bytes, pause_s: float) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(whole)
        await anyio.sleep(pause_s)
        writer.write_eof()
        await reader.read()

    async with serving(talk, pool) as server:
        with anyio.fail_after(2), pytest.raises(LostError):
            await ask(pool, server.url)
        await server.until_all_gone()

    assert pool.connections() == (0, 0)


async def test_what_came_before_the_connection_broke_off_can_be_read(pool: Pool) -> None:
    async with serving(saying([CHUNKED + b"2\r\nhe\r\n"], ends=True), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")
        await server.until_all_gone()

        assert await response.content.readany() == b"he"
        for _ in range(2):
            with pytest.raises(LostError):
                await response.content.readany()


@pytest.mark.parametrize("head", [H + b"\r\n", CHUNKED, H + b"Content-Length: 90\r\n\r\n"])
async def test_a_reset_is_never_the_end_of_an_answer(pool: Pool, head: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        # What was not read by the one who closes makes it a reset.
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # what streams write to can be read, too
        writer.write(head + b"5\r\nhello\r\n")
        await anyio.sleep(0.05)

    async with serving(talk, pool) as server:
        with anyio.fail_after(2), pytest.raises(LostError):
            await ask(pool, server.url, b"x" * 1_000_000)


@pytest.mark.parametrize("status", [101, 204, 205, 304, 307, 404, 500, 599])
async def test_every_final_status_is_handed_over(pool: Pool, status: int) -> None:
    async with serving(saying([b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")

        assert (response.status, await response.content.read()) == (status, b"")


@pytest.mark.parametrize("upgrade", [b"", b"Connection: upgrade\r\nUpgrade: x\r\n"])
async def test_after_an_unasked_switch_of_protocols_nothing_is_asked(pool: Pool, upgrade: bytes) -> None:
    switch = [b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % upgrade]
    async with serving(saying(switch, [OK]), pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")

        assert (response.status, pool.connections()) == (101, (0, 0))


async def test_heads_may_be_long_but_not_endless(pool: Pool) -> None:
    long = H + b"X: %b\r\nContent-Length: 2\r\n\r\nok"
    taken, refused = long % (b"x" * (LIMIT - 100)), long % (b"x" * LIMIT)
    unfinished, endless = H + b"X: " + b"x" * LIMIT, b"HTTP/1.1 100 Continue\r\n\r\n" * 2000
    half = len(refused) // 2
    async with serving(saying([taken]), pool) as server:
        assert await ask(pool, server.url) == b"ok"
    for pieces in ([refused], cut_at(refused, half), [unfinished], [endless]):
        pool = new_pool()
        async with serving(saying(pieces), pool) as server:
            with anyio.fail_after(2), pytest.raises(NotHTTPError):
                await ask(pool, server.url)
            await server.until_all_gone()


@pytest.mark.parametrize(
    "extra", [b"x", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le", OK, b"\0", b"POST / HTTP/1.1\r\n\r\n"]
)
@pytest.mark.parametrize("whole", [KEPT["length"], KEPT["chunked"], H + b"Content-Length: 0\r\n\r\n"])
@pytest.mark.parametrize("apart", [True, False])
async def test_a_connection_on_which_more_came_than_was_asked_is_not_used_again(
    pool: Pool, extra: bytes, whole: bytes, apart: bool
) -> None:
    turns = iter([[whole, extra] if apart else [whole + extra], [OK]])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await say(writer, next(turns))
        await reader.read()

    async with serving(talk, pool) as server:
        first = await ask(pool, server.url)
        await anyio.sleep(0.01)
        assert pool.connections() == (0, 0)
        second = await ask(pool, server.url)

        assert (first, second) == (b"" if whole.endswith(b"\r\n\r\n") and b"chunked" not in whole else b"hello", b"ok")
        assert server.connections == 2


async def test_bytes_before_the_first_question_end_the_connection(pool: Pool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await read_request(reader)
        await reader.read()

    async with serving(talk, pool) as server:
        # Whether they come before the question or after it cannot be told from here: then they are its answer.
        with anyio.fail_after(2), suppress(LostError):
            assert await ask(pool, server.url) == b"ok"


async def test_a_slow_answer_is_waited_for(pool: Pool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in cut_at(KEPT["chunked"], 10, 30, 50, 55, 60):
            await anyio.sleep(0.02)
            writer.write(piece)
        await reader.read()

    async with serving(talk, pool) as server:
        assert await ask(pool, server.url) == b"hello"


async def test_pieces_are_handed_over_as_they_come(pool: Pool) -> None:
    more = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKED + b"2\r\nhe\r\n")
        await more.wait()
        writer.write(b"3\r\nllo\r\n0\r\n\r\n")
        await reader.read()

    async with serving(talk, pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")
        assert await response.content.readany() == b"he"
        with anyio.move_on_after(0.01):
            await response.content.readany()
        more.set()
        assert await response.content.readany() == b"llo"
        assert (await response.content.readany(), response.content.at_eof()) == (b"", True)


async def test_to_close_an_old_answer_does_nothing_to_the_next_one(pool: Pool) -> None:
    async with serving(saying([OK], [CHUNKED, b"2\r\nok\r\n", b"0\r\n\r\n"]), pool) as server:
        old = await pool.post(URL(server.url), {}, b"{}")
        new = await pool.post(URL(server.url), {}, b"{}")
        old.close()

        assert [await new.content.read(), await old.content.read()] == [b"ok", b"ok"]
        assert server.connections == 1


REQUEST = b"GET / HTTP/1.1\r\n\r\n"


async def test_whoever_is_cancelled_as_the_head_comes_hangs_up() -> None:
    wire = Wire()
    connection, freed = wired(wire)
    asking = asyncio.get_running_loop().create_task(connection.ask(REQUEST, b""))
    await asyncio.sleep(0)
    connection.data_received(CHUNKED)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await asking

    assert caught.value.__traceback__ is not None  # It holds what the caller held: nothing was collected.
    assert (freed, wire.is_gone) == ([False], True)


async def test_an_answer_to_whoever_was_just_cancelled_is_nobody_elses() -> None:
    wire = Wire()
    connection, freed = wired(wire)
    asking = asyncio.get_running_loop().create_task(connection.ask(REQUEST, b""))
    await asyncio.sleep(0)
    asking.cancel()
    connection.data_received(OK[:20])
    assert (freed, wire.is_gone) == ([False], True)
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert freed == [False]


async def test_a_question_on_a_closed_connection_is_lost_at_once() -> None:
    wire = Wire()
    connection, freed = wired(wire)
    wire.abort()
    with anyio.fail_after(1), pytest.raises(LostError):
        await connection.ask(REQUEST, b"")

    assert freed == [False]


async def test_a_connection_that_was_held_up_when_its_answer_ended_can_hear_the_next() -> None:
    wire = Wire()
    connection, freed = wired(wire)
    asking = asyncio.get_running_loop().create_task(connection.ask(REQUEST, b""))
    await wire.asked()
    connection.data_received(H + b"Content-Length: 200001\r\n\r\n" + b"x" * 200_000)
    response = await asking
    assert wire.is_paused
    connection.data_received(b"x")  # TLS may have had it in hand by then.

    assert (freed, wire.is_paused, len(await response.content.read())) == ([True], False, 200_001)


EARLY = pytest.mark.parametrize("answer", [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"])


@EARLY
@pytest.mark.parametrize("cut", [None, 1, -2])
async def test_what_comes_before_the_next_question_is_out_is_no_answer_to_it(answer: bytes, cut: int | None) -> None:
    wire = Wire()
    connection, freed = wired(wire)
    first = asyncio.get_running_loop().create_task(connection.ask(REQUEST, b""))
    await wire.asked()
    connection.data_received(OK)
    await first
    second = asyncio.get_running_loop().create_task(connection.ask(REQUEST, b""))
    await asyncio.sleep(0)
    connection.data_received(answer[:cut])
    with pytest.raises(LostError):
        await second

    assert (freed, wire.is_gone, wire.written) == ([True, False], True, [REQUEST])


@EARLY
@pytest.mark.parametrize("cut", [None, 1, -2])
async def test_who_speaks_first_is_heard_and_asked_nothing_more(answer: bytes, cut: int | None) -> None:
    """It says why nobody may ask. What follows would be the answer to this one, and taken for the next one's."""
    wire = Wire()
    connection, freed = wired(wire)
    asking = asyncio.get_running_loop().create_task(connection.ask(REQUEST, b""))
    await asyncio.sleep(0)
    assert not wire.written
    connection.data_received(answer[:cut])
    if cut is not None:
        await wire.asked()
        connection.data_received(answer[cut:])
    response = await asking
    await response.content.read()

    assert (freed, wire.is_gone) == ([False], True)


LONG = bytes(range(256)) * 5000


async def test_pitfall_070_a_long_question_is_written_in_parts_between_which_others_have_a_turn() -> None:
    wire = Wire()
    connection, freed = wired(wire)
    asking = asyncio.get_running_loop().create_task(connection.ask(REQUEST, LONG))
    written = []
    for _ in range(6):
        await asyncio.sleep(0)
        written.append(sum(map(len, wire.written)))
    connection.data_received(OK)

    assert await (await asking).content.read() == b"ok"
    assert b"".join(wire.written) == REQUEST + LONG
    assert len(set(written)) == 3
    assert freed == [True]


@pytest.mark.parametrize("secure", [False, True])
async def test_a_long_question_arrives_whole(secure: bool) -> None:
    arrived = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            arrived.append((await read_request(reader))[1])
            await say(writer, [OK])

    async with secured(talk, secure=secure) as (_, pool, url):
        for _ in range(3):
            assert await (await pool.post(URL(url), {}, LONG)).content.read() == b"ok"

    assert arrived == [LONG] * 3


async def asking_long(wire: Wire) -> tuple[Connection, list[bool], asyncio.Task[Response]]:
    """A question of which the first part is written, and the others wait for their turns."""
    connection, freed = wired(wire)
    asking = asyncio.get_running_loop().create_task(connection.ask(REQUEST, LONG))
    await asyncio.sleep(0)
    return connection, freed, asking


async def test_an_answer_before_a_long_question_is_written_costs_the_connection() -> None:
    wire = Wire()
    connection, freed, asking = await asking_long(wire)
    connection.data_received(OK)

    assert await (await asking).content.read() == b"ok"
    assert (freed, wire.is_gone) == ([False], True)
    assert len(b"".join(wire.written)) < len(LONG)


async def test_a_stream_that_begins_before_a_long_question_is_written_gets_the_rest_of_it() -> None:
    wire = Wire()
    connection, freed, asking = await asking_long(wire)
    connection.data_received(CHUNKED)
    response = await asking
    connection.data_received(HELLO)

    assert await response.content.read() == b"hello"
    assert b"".join(wire.written) == REQUEST + LONG
    assert freed == [True]


async def test_whoever_is_cancelled_while_a_long_question_is_written_hangs_up() -> None:
    wire = Wire()
    _, freed, asking = await asking_long(wire)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert (freed, wire.is_gone) == ([False], True)
    assert len(b"".join(wire.written)) < len(LONG)


async def test_a_connection_that_is_lost_while_a_long_question_is_written_is_lost() -> None:
    wire = Wire()
    connection, freed, asking = await asking_long(wire)
    connection.eof_received()
    with anyio.fail_after(1), pytest.raises(LostError):
        await asking

    assert freed == [False]
