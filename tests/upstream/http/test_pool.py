import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import pytest
from yarl import URL

from llmgateway.upstream.http.failures import LostError, NotAnAddressError, NotHTTPError
from llmgateway.upstream.http.pool import Pool
from tests.upstream.http.speaking import OK, ask, new_pool, read_request, saying, secured, serving
from tests.upstreams.ollama_wire import OllamaWire
from tests.upstreams.server import Player
from tests.upstreams.step import Framing, Piece, Step, raw_step

BIG = 20 * 1024 * 1024
LIMIT = 32 * 1024


@pytest.fixture
async def player() -> AsyncIterator[Player]:
    async with Player(OllamaWire()) as player:
        yield player


def answer(framing: Framing = "length", body: bytes = b"hello") -> Step:
    return Step(pieces=(Piece(body[:2]), Piece(body[2:])) if body else (), framing=framing)


@pytest.mark.parametrize(("framing", "connections"), [("length", 1), ("chunked", 1), ("close", 3)])
async def test_an_answer_is_read_to_its_end_however_it_is_framed(
    pool: Pool, player: Player, framing: Framing, connections: int
) -> None:
    player.always(answer(framing))

    assert [await ask(pool, player.url) for _ in range(3)] == [b"hello"] * 3
    assert player.connections == connections


@pytest.mark.parametrize(("status", "head"), [(200, b"200 OK\r\nContent-Length: 0"), (204, b"204 No Content")])
async def test_an_answer_without_a_body_ends_at_once_and_keeps_its_connection(
    pool: Pool, player: Player, status: int, head: bytes
) -> None:
    whole = Step(pieces=(Piece(b"HTTP/1.1 %b\r\n\r\n" % head),), framing="raw")
    player.script(whole, whole)
    for _ in range(2):
        response = await pool.post(URL(player.url), {}, b"{}")
        assert (response.status, await response.content.read()) == (status, b"")

    assert player.connections == 1


@pytest.mark.parametrize("together", [True, False])
async def test_provisional_answers_are_passed_over(pool: Pool, player: Player, together: bool) -> None:
    parts = [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", OK]
    pieces = (Piece(b"".join(parts)),) if together else tuple(Piece(part, 0.02) for part in parts)
    player.always(Step(pieces=pieces, framing="raw"))

    assert [await ask(pool, player.url) for _ in range(2)] == [b"ok"] * 2
    assert player.connections == 1


async def test_an_unasked_switch_of_protocols_does_not_hang(pool: Pool, player: Player) -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes"
    player.script(Step(pieces=(Piece(head),), framing="raw", ending="silence"))
    with anyio.fail_after(2):
        response = await pool.post(URL(player.url), {}, b"{}")

    assert response.status == 101
    await player.until(lambda: player.open_connections == 0)


async def test_header_names_have_no_case(pool: Pool, player: Player) -> None:
    player.script(raw_step(b"HTTP/1.1 200 OK\r\nx-REQUEST-id: 7\r\nCONTENT-length: 2\r\n\r\nok"))
    response = await pool.post(URL(player.url), {"user-agent": "mine"}, b"{}")
    await response.content.read()

    assert (response.headers["X-Request-Id"], response.content_length) == ("7", 2)
    assert player.last.headers["user-agent"] == "mine"


async def test_a_header_may_be_long_but_not_endless(pool: Pool, player: Player) -> None:
    player.script(answer().with_headers(x="x" * (LIMIT - 1000)), answer().with_headers(x="x" * (LIMIT + 1000)))

    assert await ask(pool, player.url) == b"hello"
    with pytest.raises((LostError, NotHTTPError)):
        await ask(pool, player.url)
    await player.until(lambda: player.open_connections == 0)


@pytest.mark.parametrize(
    "written",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x00\xff",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
    ],
)
async def test_what_is_cut_or_is_no_http_is_a_client_error(pool: Pool, player: Player, written: bytes) -> None:
    player.script(raw_step(*([written] if written else [])))
    with anyio.fail_after(2), pytest.raises((LostError, NotHTTPError)):
        await ask(pool, player.url)
    await player.until(lambda: player.open_connections == 0)

    player.script(answer())
    assert await ask(pool, player.url) == b"hello"


async def test_an_answer_that_says_close_is_the_last_on_its_connection(pool: Pool, player: Player) -> None:
    player.script(answer().with_headers(connection="close"))
    player.always(answer())
    for _ in range(3):
        await ask(pool, player.url)

    assert player.connections == 2


async def test_an_unread_answer_costs_its_connection(pool: Pool, player: Player) -> None:
    player.script(Step(pieces=(Piece(b"x"),), framing="chunked", ending="silence"))
    response = await pool.post(URL(player.url), {}, b"{}")
    response.close()
    response.close()
    await player.until(lambda: player.open_connections == 0, within_s=1)

    player.script(answer())
    assert (await ask(pool, player.url), player.connections) == (b"hello", 2)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_an_answer_before_the_body_was_sent_ends_the_connection(secure: bool) -> None:
    stopped = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # what streams write to can be read, too
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await stopped.wait()

    async with secured(refuse, secure=secure) as (server, pool, base):
        with anyio.fail_after(5):
            assert [await ask(pool, base, b"x" * BIG) for _ in range(2)] == [b"no"] * 2
        assert server.connections == 2
        stopped.set()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_large_body_arrives_whole_at_a_slow_reader_and_the_loop_stays_free(secure: bool) -> None:
    body = bytes(range(256)) * (BIG // 256)
    arrived: list[bool] = []

    async def read_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        whole = bytearray()
        while len(whole) < BIG:
            whole += await reader.read(1024 * 1024)
            await anyio.sleep(0.001)
        arrived.append(whole == body)
        writer.write(OK)
        await reader.read()

    async with secured(read_slowly, secure=secure) as (_, pool, base):
        slowest_s = 0.0
        async with anyio.create_task_group() as group:
            group.start_soon(ask, pool, base, body)
            while not arrived:
                before = time.perf_counter()
                await anyio.sleep(0.001)
                slowest_s = max(slowest_s, time.perf_counter() - before)

    assert arrived == [True]
    assert slowest_s < 0.5


async def test_tls_is_spoken_only_with_whom_is_trusted_and_kept_alive() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(OK)

    async with secured(talk, secure=True) as (server, pool, base):
        assert [await ask(pool, base) for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 1
        stranger = new_pool()
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(stranger, base)
        await stranger.close()


async def test_a_connection_closed_while_idle_is_not_used_again(pool: Pool, player: Player) -> None:
    player.script(answer().cut(pieces=2), answer())  # Whole by its length, and then the provider hangs up.
    await ask(pool, player.url)
    await player.until(lambda: player.open_connections == 0)
    await anyio.sleep(0.01)  # Its end has been sent, and is on its way.

    assert (await ask(pool, player.url), player.connections) == (b"hello", 2)


@pytest.mark.parametrize("extra", [b"garbage", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"])
@pytest.mark.parametrize("pause_s", [0, 0.02])
@pytest.mark.parametrize("split", [True, False])
async def test_what_follows_an_answer_is_not_the_next_calls(
    pool: Pool, player: Player, extra: bytes, pause_s: float, split: bool
) -> None:
    first = (Piece(OK[:-1]), Piece(b"k" + extra, 0.02)) if split else (Piece(OK + extra),)
    last = (Piece(OK), Piece(extra, pause_s)) if pause_s else first
    player.script(Step(pieces=last, framing="raw"))
    player.always(answer())

    # Whoever sees at once that an answer has too much may refuse it.
    with suppress(LostError, NotHTTPError):
        assert await ask(pool, player.url) == b"ok"
    await anyio.sleep(0.05)
    await anyio.sleep(0.01)  # On a busy machine both came due at once: the sockets are looked at once more.
    with suppress(LostError, NotHTTPError):
        assert await ask(pool, player.url) == b"hello"
    assert [await ask(pool, player.url) for _ in range(2)] == [b"hello"] * 2


@pytest.mark.parametrize("body", [b"{}", b"x" * BIG], ids=["sent", "unsent"])
async def test_a_call_cancelled_before_its_head_hangs_up_at_once(pool: Pool, body: bytes) -> None:
    received: list[int] = []

    async def be_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await anyio.sleep(0.3)
        received.append(len(await reader.read()))

    async with serving(be_silent) as server:
        with anyio.move_on_after(0.1):
            await ask(pool, f"http://127.0.0.1:{server.port}", body)

    assert received[0] < BIG


async def test_a_call_cancelled_within_its_body_hangs_up_at_once(pool: Pool, player: Player) -> None:
    player.script(answer("chunked").silent(pieces=1))
    with anyio.move_on_after(0.1) as scope:
        await ask(pool, player.url)

    assert scope.cancelled_caught
    await player.until(lambda: player.open_connections == 0, within_s=0.5)


async def test_the_limit_makes_a_call_wait_and_a_cancelled_wait_leaves_no_trace(player: Player) -> None:
    pool = new_pool(limit=1)
    player.always(answer())
    player.script(answer().delayed(0.2))
    async with anyio.create_task_group() as group:
        group.start_soon(ask, pool, player.url)
        await player.until(lambda: player.in_flight == 1)
        with anyio.move_on_after(0.05) as scope:
            await ask(pool, player.url)
        assert scope.cancelled_caught
        assert player.requests_total == 1
        group.start_soon(ask, pool, player.url)
    with anyio.fail_after(1):
        assert await ask(pool, player.url) == b"hello"
    await pool.close()

    assert (player.connections, player.requests_total) == (1, 3)


async def test_a_slow_reader_holds_up_the_provider(pool: Pool, player: Player) -> None:
    player.script(Step(pieces=(Piece(b"x" * 65536),), framing="chunked", ending="endless"))
    response = await pool.post(URL(player.url), {}, b"{}")
    await anyio.sleep(0.3)
    written_bytes = player.bytes_written
    await anyio.sleep(0.2)

    assert player.bytes_written == written_bytes < BIG
    for _ in range(200):
        await response.content.readany()
    assert player.bytes_written > written_bytes
    response.close()


@pytest.mark.parametrize("text", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
async def test_a_header_of_more_than_one_line_is_refused(pool: Pool, player: Player, text: str) -> None:
    for headers in ({"x": text}, {text: "x"}):
        with pytest.raises(NotAnAddressError):
            await pool.post(URL(player.url), headers, b"{}")

    assert player.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_request_names_its_host_and_keeps_the_addresss_password_to_itself(pool: Pool, host: str) -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        writer.write(OK)

    async with serving(talk, host=host.strip("[]")) as server:
        authority = f"{host}:{server.port}"
        response = await pool.post(URL(f"http://user:pass-0042@{authority}/a%2Fb?q=%20#part"), {}, b"{}")
        assert await response.content.read() == b"ok"

    first, *lines = heads[0].decode().split("\r\n")
    assert first == "POST /a%2Fb?q=%20 HTTP/1.1"
    assert [line for line in lines if line.startswith("Host:")] == [f"Host: {authority}"]
    assert b"pass-0042" not in heads[0]


async def test_many_addresses_share_a_connection(pool: Pool, player: Player) -> None:
    player.always(answer())
    for number in range(100):
        response = await pool.post(URL(f"{player.url}/{number}"), {}, b"x" * 1000)
        await response.content.read()

    assert (player.connections, pool.connections()) == (1, (1, 0))


async def test_whoever_came_first_is_served_first_and_newcomers_do_not_push_in(player: Player) -> None:
    pool = new_pool(limit=1)
    player.always(answer().delayed(0.005))
    order: list[int] = []

    async def one(number: int) -> None:
        await ask(pool, player.url)
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(one, number)
            await anyio.sleep(0.001)
    assert (player.connections, pool.connections()) == (1, (1, 0))
    await pool.close()

    assert order == list(range(20))


@pytest.mark.parametrize("seed", range(5))
async def test_places_are_neither_lost_nor_made_whoever_is_cancelled_when(player: Player, seed: int) -> None:
    pool = new_pool(limit=3)
    player.always(answer("chunked").paced(0.002))
    chance = random.Random(seed)

    async def one(patience_s: float) -> None:
        with anyio.move_on_after(patience_s):
            assert await ask(pool, player.url) == b"hello"

    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(one, chance.choice([0.0, 0.001, 0.002, 0.004, 0.01, 1.0]))
            await anyio.sleep(chance.choice([0.0, 0.0, 0.001]))
            assert pool.connections()[1] <= 3
            assert player.open_connections <= 6  # Those that were hung up on may not have noticed yet.

    assert pool.connections()[1] == 0
    assert [await ask(pool, player.url) for _ in range(5)] == [b"hello"] * 5
    await pool.close()
    await player.until(lambda: player.open_connections == 0)


async def test_a_place_that_is_given_to_whoever_is_cancelled_at_that_moment_goes_to_the_next(player: Player) -> None:
    pool = new_pool(limit=1)
    player.always(answer())
    player.script(answer("chunked").silent(pieces=1))
    held = await pool.post(URL(player.url), {}, b"{}")
    loop = asyncio.get_running_loop()
    first, second = (loop.create_task(ask(pool, player.url)) for _ in range(2))
    await asyncio.sleep(0)
    held.close()
    first.cancel()
    with anyio.fail_after(1):
        assert await second == b"hello"
    with pytest.raises(asyncio.CancelledError):
        await first

    assert pool.connections() == (1, 0)
    await pool.close()


async def test_an_answer_that_came_as_its_caller_was_cancelled_keeps_its_connection(pool: Pool) -> None:
    async with serving(saying([OK], [OK]), pool) as server:
        for _ in range(2):
            asking = asyncio.get_running_loop().create_task(pool.post(URL(server.url), {}, b"{}"))
            for moment in ((0, 1), (1, 0)):
                while pool.connections() != moment:  # noqa: ASYNC110  it is about the loop's very next step
                    await asyncio.sleep(0)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
            assert pool.connections() == (1, 0)

        assert server.connections == 1


async def test_a_connection_that_was_not_used_for_a_while_is_closed(player: Player) -> None:
    pool = new_pool(keep_alive_s=0.5)
    player.always(answer().delayed(0.01))
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask, pool, player.url)
    with anyio.fail_after(5):
        while pool.connections() != (1, 0):
            await anyio.sleep(0.02)
            await ask(pool, player.url)  # One of them stays in use.
    assert player.connections == 3
    await player.until(lambda: player.open_connections == 0)
    assert pool.connections() == (0, 0)

    assert await ask(pool, player.url) == b"hello"
    assert player.connections == 4
    await pool.close()


async def test_an_old_connection_is_not_used_even_if_the_loop_was_too_busy_to_close_it(player: Player) -> None:
    pool = new_pool(keep_alive_s=0.05)
    player.always(answer())
    await ask(pool, player.url)
    time.sleep(0.1)  # noqa: ASYNC251  a loop that is held up
    assert await ask(pool, player.url) == b"hello"

    assert player.connections == 2
    await pool.close()


async def test_a_question_on_a_connection_that_dies_under_it_is_asked_once(pool: Pool) -> None:
    questions: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        questions.append((await read_request(reader))[1])
        writer.write(OK)
        questions.append((await read_request(reader))[1])  # And hangs up without a word.

    async with serving(talk, pool) as server:
        assert await ask(pool, server.url, b"first") == b"ok"
        with pytest.raises(LostError):
            await ask(pool, server.url, b"second")

        assert (questions, server.connections) == ([b"first", b"second"], 1)


async def test_a_server_that_hangs_up_at_once_is_a_lost_connection(pool: Pool) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(talk, pool) as server:
        for _ in range(20):
            with anyio.fail_after(2), pytest.raises(LostError):
                await ask(pool, server.url)

    assert pool.connections() == (0, 0)


async def test_a_closed_pool_ends_whatever_is_under_way_and_asks_no_more(player: Player) -> None:
    pool = new_pool(limit=2)
    player.always(answer().delayed(30))
    ended: list[OSError] = []

    async def one() -> None:
        try:
            await ask(pool, player.url)
        except LostError as error:
            ended.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)
        await player.until(lambda: player.in_flight == 2)
        await pool.close()
    with pytest.raises(LostError):
        await ask(pool, player.url)

    assert (len(ended), pool.connections()) == (4, (0, 0))
    await player.until(lambda: player.open_connections == 0)
