import asyncio

import anyio
import anyio.lowlevel
import pytest
from typing_extensions import override
from yarl import URL

from llmgateway.upstream.http.body import Body, WholeBody
from llmgateway.upstream.http.failures import LostError
from llmgateway.upstream.http.pool import Pool
from tests.upstream.http.speaking import read_request, serving

PIECE = b"x" * 64 * 1024


class Valve(asyncio.Transport):
    """Notes whether the one who sends may."""

    is_open = True

    @override
    def pause_reading(self) -> None:
        assert self.is_open
        self.is_open = False

    @override
    def resume_reading(self) -> None:
        assert not self.is_open
        self.is_open = True


@pytest.fixture
def valve() -> Valve:
    return Valve()


@pytest.fixture
async def body(valve: Valve) -> Body:
    return Body(asyncio.get_running_loop(), valve)


async def test_pieces_that_came_are_read_together_and_without_waiting(body: Body) -> None:
    body.feed([b"one "])
    body.feed([b"two"])
    body.settle()
    with pytest.raises(StopIteration) as done:
        body.readany().send(None)

    assert done.value.value == b"one two"
    assert not body.at_eof()
    body.end()
    assert (body.at_eof(), await body.readany(), await body.read()) == (True, b"", b"")


async def test_who_reads_before_a_cancelled_reader_has_heard_of_it_is_told(body: Body) -> None:
    def come() -> None:
        body.feed([b"x"])
        body.settle()

    first = asyncio.ensure_future(body.readany())
    await anyio.lowlevel.checkpoint()
    first.cancel()
    asyncio.get_running_loop().call_later(0.05, come)

    with anyio.fail_after(1):
        assert await body.readany() == b"x"


async def test_what_is_raised_is_not_what_the_body_holds(body: Body) -> None:
    """The one who is told would hold the body, and the body the one who is told: for the collector alone."""
    body.feed([PIECE])
    body.end(failure := LostError("cut"))

    with pytest.raises(LostError, match="cut") as raised:
        await body.read()

    assert raised.value is not failure
    assert failure.__traceback__ is None


async def test_a_cancelled_reader_misses_nothing(body: Body) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(body.readany)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    body.feed([b"one"])
    body.settle()

    assert await body.readany() == b"one"


async def test_news_for_a_reader_that_is_cancelled_at_the_same_moment_is_kept(body: Body) -> None:
    reader = asyncio.get_running_loop().create_task(body.readany())
    await asyncio.sleep(0)
    body.feed([b"one"])
    body.settle()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    assert await body.readany() == b"one"


async def test_who_reads_the_whole_is_woken_once(body: Body) -> None:
    read: list[bytes] = []

    async def reader() -> None:
        read.append(await body.read())

    async with anyio.create_task_group() as group:
        group.start_soon(reader)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
            body.feed([PIECE])
            body.settle()
        assert not read
        body.end()

    assert read == [PIECE * 3]


async def test_a_whole_body_is_taken_without_waiting_and_nothing_else_is(body: Body, valve: Valve) -> None:
    body.feed([b"one "])
    assert body.whole(100) is None, "there may be more"
    body.feed([b"two"])
    body.end()
    assert body.whole(6) is None
    assert body.whole(7) == b"one two"
    assert body.at_eof()

    broken = Body(asyncio.get_running_loop(), valve)
    broken.feed([b"one"])
    broken.end(LostError("gone"))
    assert broken.whole(100) is None


async def test_a_body_that_has_come_already_is_read_once() -> None:
    one, other = WholeBody(b"whole"), WholeBody(b"whole")

    assert (one.at_eof(), await one.readany(), one.at_eof(), await one.readany()) == (False, b"whole", True, b"")
    assert (await other.read(), other.at_eof(), await other.read()) == (b"whole", True, b"")


async def test_a_failure_comes_after_all_that_came_before_it(body: Body) -> None:
    body.feed([b"one"])
    body.end(LostError("gone"))

    assert not body.at_eof()
    assert await body.readany() == b"one"
    for _ in range(2):
        with pytest.raises(LostError):
            await body.readany()
    with pytest.raises(LostError):
        await body.read()


async def test_what_is_not_read_holds_up_the_sender_until_it_is(body: Body, valve: Valve) -> None:
    body.feed([PIECE])
    body.settle()
    assert valve.is_open
    for _ in range(3):
        body.feed([PIECE])
        body.settle()
    assert not valve.is_open
    assert len(await body.readany()) == 4 * len(PIECE)
    assert valve.is_open


async def test_who_reads_the_whole_holds_nobody_up(body: Body, valve: Valve) -> None:
    for _ in range(4):
        body.feed([PIECE])
        body.settle()
    async with anyio.create_task_group() as group:
        group.start_soon(body.read)
        await anyio.lowlevel.checkpoint()
        assert valve.is_open
        for _ in range(4):
            body.feed([PIECE])
            body.settle()
        assert valve.is_open
        body.end()


async def test_a_body_that_is_over_leaves_the_connection_alone(body: Body, valve: Valve) -> None:
    for _ in range(4):
        body.feed([PIECE])
        body.settle()
    body.end(LostError("gone"))
    await body.readany()

    assert not valve.is_open


async def test_a_reader_that_stops_bounds_what_is_kept_and_the_rest_comes_when_it_goes_on(pool: Pool) -> None:
    written: list[int] = []
    total = 400

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (total * len(PIECE)))
        for number in range(total):
            writer.write(PIECE)
            await writer.drain()
            written.append(number)
        await reader.read()

    async with serving(talk, pool) as server:
        response = await pool.post(URL(server.url), {}, b"{}")
        before = -1
        while before < len(written):
            before = len(written)
            await anyio.sleep(0.1)
        # The sockets' own buffers hold some megabytes.
        assert before < total // 2
        assert isinstance(response.content, Body)
        assert response.content._size_bytes <= 512 * 1024  # noqa: SLF001  there is no other way to see what is kept
        size_bytes = 0
        while piece := await response.content.readany():
            size_bytes += len(piece)

        assert size_bytes == total * len(PIECE)
        assert pool.connections() == (1, 0)
