import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import redis

from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.redis.address import Address, read_address
from llmgateway.stores.redis.connection import CommandError, Connection, Lane, connect
from tests.services import Server, free_port
from tests.stores.waiting import until

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def connected(server: Server, timeout_s: float = 1.0) -> Connection:
    return await connect(read_address(server.url), None, timeout_s=timeout_s, connect_timeout_s=1.0)


@asynccontextmanager
async def player(serve: Serve) -> AsyncIterator[Address]:
    """Play a server that does as the test says."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1], tls=False)


async def test_commands_of_many_get_their_own_answers(redis_service: Server) -> None:
    connection = await connected(redis_service)

    answers = await asyncio.gather(*[connection.answers(("ECHO", number), ("PING",)) for number in range(100)])

    assert answers == [[str(number).encode(), b"PONG"] for number in range(100)]
    connection.close()


async def test_a_command_that_redis_refuses_is_an_error_in_its_place(redis_service: Server) -> None:
    connection = await connected(redis_service)

    first, refused, last = await connection.answers(("PING",), ("NONSENSE",), ("ECHO", "on"))

    assert (first, last) == (b"PONG", b"on")
    assert isinstance(refused, CommandError)
    connection.close()


async def test_who_left_meanwhile_does_not_shift_the_answers_of_the_others(redis_service: Server) -> None:
    connection = await connected(redis_service)
    gone = asyncio.ensure_future(connection.answers(("ECHO", "gone")))
    stays = asyncio.ensure_future(connection.answers(("ECHO", "stays")))
    await asyncio.sleep(0)
    gone.cancel()

    assert await stays == [b"stays"]
    connection.close()


async def test_a_lost_connection_tells_all_who_wait_and_all_who_come() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.close()

    async with player(hang_up) as address:
        connection = await connect(address, None, timeout_s=1.0, connect_timeout_s=1.0)
        with pytest.raises(StoreAwayError, match="Redis closed the connection"):
            await connection.answers(("PING",))

    assert connection.lost
    with pytest.raises(StoreAwayError, match="Redis closed the connection"):
        await connection.answers(("PING",))


async def test_a_silent_server_is_given_up_after_the_time_limit(redis_service: Server) -> None:
    connection = await connected(redis_service, timeout_s=0.05)

    with redis_service.hung():
        with pytest.raises(StoreAwayError, match=r"no answer within 0\.05 s"):
            await connection.answers(("PING",))
        assert connection.lost


async def test_the_time_limit_is_for_each_question_and_not_for_all(redis_service: Server) -> None:
    connection = await connected(redis_service, timeout_s=0.1)
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.3

    while loop.time() < end:
        assert await connection.answers(("PING",)) == [b"PONG"]
    connection.close()


async def test_what_is_no_redis_is_named_so() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with player(greet) as address:
        connection = await connect(address, None, timeout_s=1.0, connect_timeout_s=1.0)
        with pytest.raises(StoreAwayError, match="does not speak Redis's protocol"):
            await connection.answers(("PING",))


async def test_nobody_there_is_told_with_the_address_and_without_the_password() -> None:
    address = read_address(f"redis://user:hunter22@127.0.0.1:{free_port()}/0")

    with pytest.raises(StoreAwayError) as told:
        await connect(address, None, timeout_s=1.0, connect_timeout_s=1.0)

    assert address.shown in str(told.value)
    assert "hunter22" not in str(told.value)


async def test_a_server_that_takes_connections_only_is_not_waited_for_long(redis_service: Server) -> None:
    address = read_address(redis_service.url.replace("127", "user:secret@127"))

    with redis_service.hung(), pytest.raises(StoreAwayError, match=r"no connection within 0\.1 s"):
        await connect(address, None, timeout_s=1.0, connect_timeout_s=0.1)


async def test_user_password_and_database_are_told_first(redis_service: Server, client: "redis.Redis") -> None:
    client.acl_setuser("gate", enabled=True, passwords=["+se cret"], commands=["+@all"], keys=["*"])
    address = read_address(f"redis://gate:se%20cret@127.0.0.1:{redis_service.port}/5")
    connection = await connect(address, None, timeout_s=1.0, connect_timeout_s=1.0)

    who, _ = await connection.answers(("ACL", "WHOAMI"), ("SET", "here", "1"))

    assert who == b"gate"
    with redis.Redis(port=redis_service.port, db=5) as fifth:
        assert fifth.get("here") == b"1"
    connection.close()


async def test_a_wrong_password_is_told(redis_service: Server) -> None:
    address = read_address(f"redis://gate:wrong@127.0.0.1:{redis_service.port}/0")

    with pytest.raises(StoreAwayError, match="WRONGPASS"):
        await connect(address, None, timeout_s=1.0, connect_timeout_s=1.0)


async def test_a_server_that_knows_no_passwords_does_not_have_ours_told() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"-ERR unknown command 'AUTH', with args beginning with: 'hunter22' \r\n")
        await reader.read(1000)
        writer.close()

    async with player(refuse) as plain:
        address = read_address(f"redis://:hunter22@127.0.0.1:{plain.port}/0")
        with pytest.raises(StoreAwayError, match="unknown command 'AUTH'") as told:
            await connect(address, None, timeout_s=1.0, connect_timeout_s=1.0)

    assert "hunter22" not in str(told.value)


async def test_what_comes_unasked_is_heard(redis_service: Server, client: "redis.Redis") -> None:
    heard: list[object] = []
    connection = await connect(
        read_address(redis_service.url), None, timeout_s=1.0, connect_timeout_s=1.0, heard=heard.append
    )

    connection.say(("SUBSCRIBE", "news"))
    await until(lambda: len(heard) == 1)
    client.publish("news", "fresh")
    await until(lambda: len(heard) == 2)

    assert heard[1] == [b"message", b"news", b"fresh"]
    connection.close()


async def test_of_many_who_need_a_lane_one_opens_it(redis_service: Server) -> None:
    opened = []

    async def open_one(timeout_s: float) -> Connection:
        opened.append(timeout_s)
        return await connected(redis_service)

    lane = Lane(0.7, open_one)
    assert lane.current is None
    lane.close()
    connections = await asyncio.gather(*[lane.opened() for _ in range(20)])

    assert opened == [0.7]
    assert {*connections} == {lane.current}
    lane.close()
    assert lane.current is None


async def test_who_waited_for_a_vain_attempt_makes_none_of_his_own() -> None:
    attempts = []

    async def fail(timeout_s: float) -> Connection:
        attempts.append(timeout_s)
        await asyncio.sleep(0)
        raise StoreAwayError("nobody there")

    lane = Lane(0.7, fail)
    ends = await asyncio.gather(*[lane.opened() for _ in range(20)], return_exceptions=True)

    assert [str(end) for end in ends] == ["nobody there"] * 20
    assert len(attempts) == 1
    with pytest.raises(StoreAwayError):
        await lane.opened()
    assert len(attempts) == 2
