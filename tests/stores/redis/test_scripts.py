import asyncio
from collections.abc import Sequence
from typing import Any

import redis

from llmgateway.stores.redis.address import read_address
from llmgateway.stores.redis.connection import Command, CommandError, Connection, connect
from llmgateway.stores.redis.scripts import Script, Scripts
from tests.services import Server

COUNT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


async def connected(server: Server) -> Connection:
    return await connect(read_address(server.url), None, timeout_s=1.0, connect_timeout_s=1.0)


async def asked(
    scripts: Scripts, connection: Connection, *commands: Command
) -> tuple[Sequence[Any] | None, str | None]:
    future: asyncio.Future[tuple[Sequence[Any] | None, str | None]] = asyncio.get_running_loop().create_future()
    scripts.ask(connection, commands, lambda replies, fault: future.set_result((replies, fault)))
    return await future


def test_a_script_called_with_keys_and_arguments_gives_a_command() -> None:
    script = Script("return 1")

    assert script(["a", "b"], ["x", 2, 0.5]) == ("EVALSHA", script.sha, 2, "a", "b", "x", 2, 0.5)
    assert script([]) == ("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 0)


def test_the_same_text_is_the_same_script() -> None:
    scripts = Scripts()

    assert scripts.make("return 1") is scripts.make("return 1")
    assert scripts.loads() == [("SCRIPT", "LOAD", "return 1")]


async def test_a_forgotten_script_is_loaded_and_the_other_commands_are_not_run_again(redis_service: Server) -> None:
    scripts, connection = Scripts(), await connected(redis_service)
    count = scripts.make(COUNT)

    replies, fault = await asked(
        scripts, connection, ("INCR", "once"), count(["n"], [5]), ("INCR", "once"), count(["n"], [7]), ("PING",)
    )

    assert fault is None
    assert replies == [1, 5, 2, 12, b"PONG"]
    connection.close()


async def test_an_unknown_script_that_nobody_made_is_an_error(redis_service: Server) -> None:
    connection = await connected(redis_service)

    replies, fault = await asked(Scripts(), connection, ("PING",), Script("return 7")([]))

    assert fault is None
    assert replies is not None
    assert isinstance(replies[1], CommandError)
    assert str(replies[1]).startswith("NOSCRIPT")
    connection.close()


async def test_a_connection_lost_before_the_second_try_is_told(redis_service: Server) -> None:
    scripts, connection = Scripts(), await connected(redis_service)
    made = scripts.make("return redis.call('CLIENT', 'ID')")

    replies, fault = await asked(scripts, connection, made([]), ("QUIT",))

    assert replies is None
    assert fault is not None
    # Redis closes while the second try is on its way: the end is heard, or the reset that answers it.
    assert fault.startswith(("Redis closed the connection", "the connection was lost"))


async def test_an_error_of_one_command_is_that_command_s_own(redis_service: Server) -> None:
    connection = await connected(redis_service)

    replies, fault = await asked(Scripts(), connection, ("SET", "text", "x"), ("INCR", "text"))

    assert fault is None
    assert replies is not None
    assert "not an integer" in str(replies[1])
    connection.close()


async def test_pitfall_032_a_redis_that_forbids_scripts_counts_as_no_answer(
    redis_service: Server, client: "redis.Redis"
) -> None:
    client.acl_setuser("careful", enabled=True, nopass=True, commands=["+@all", "-@scripting"], keys=["*"])
    scripts, connection = Scripts(), await connected(redis_service)
    await connection.answers(("AUTH", "careful", "any"))

    replies, fault = await asked(scripts, connection, ("PING",), scripts.make(COUNT)(["n"], [1]))

    assert replies is None
    assert fault is not None
    assert fault.startswith("Redis refuses: NOPERM")
    connection.close()
