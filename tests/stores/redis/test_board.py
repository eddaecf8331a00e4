import contextlib

import anyio
import pytest
import redis

from llmgateway.stores.base import Board, StoreAwayError
from llmgateway.stores.redis.board import RedisBoard
from llmgateway.stores.redis.link import RedisLink
from tests.services import Server
from tests.stores.conftest import StartLink
from tests.stores.waiting import until


async def texts(board: Board, topic: str = "health") -> dict[str, bytes]:
    return {name: note.text for name, note in (await board.read(topic)).items()}


async def test_all_processes_read_what_one_posts_and_how_long_it_hangs(start_link: StartLink) -> None:
    here, there = await start_link(), await start_link()
    board: Board = RedisBoard(here)

    board.post("health", "a", b"rests: \xff \n", 5.0)
    board.post("health", "b\n", b"", 60.0)
    assert await here.drain(5)

    notes = await RedisBoard(there).read("health")
    assert {name: note.text for name, note in notes.items()} == {"a": b"rests: \xff \n", "b\n": b""}
    assert 4.0 < notes["a"].left_s <= 5.0
    assert 59.0 < notes["b\n"].left_s <= 60.0
    assert await board.read("nothing") == {}


async def test_what_is_over_is_gone_and_every_key_ends(link: RedisLink, client: "redis.Redis") -> None:
    board = RedisBoard(link)
    board.post("health", "short", b"x", 0.02)
    board.post("health", "long", b"y", 60.0)
    board.post("health", "again", b"z", 5.0)
    assert await link.drain(5)
    assert 59_000 < client.pttl("llmgw:board:health") <= 60_000

    with anyio.fail_after(5):
        while "short" in await board.read("health"):
            continue

    assert sorted(client.hkeys("llmgw:board:health")) == [b"again", b"long"]


async def test_a_note_replaces_only_the_one_that_is_meant(link: RedisLink) -> None:
    board = RedisBoard(link)
    board.post("health", "a", b"first", 5.0)
    board.post("health", "a", b"second", 5.0)
    board.post("health", "a", b"closed", 5.0, instead_of=b"first")
    board.post("health", "b", b"new", 5.0, instead_of=b"anything")
    assert await link.drain(5)
    assert await texts(board) == {"a": b"second", "b": b"new"}

    board.post("health", "a", b"closed", 5.0, instead_of=b"second")
    assert await link.drain(5)
    assert await texts(board) == {"a": b"closed", "b": b"new"}


async def test_reading_is_one_trip_that_is_no_request_of_a_client(link: RedisLink) -> None:
    board = RedisBoard(link)
    before = link.round_trips

    await board.read("health")

    assert link.round_trips == before


async def test_reading_all_the_time_hides_no_redis_that_can_only_be_read(
    link: RedisLink, client: "redis.Redis"
) -> None:
    client.replicaof("127.0.0.1", "1")
    board = RedisBoard(link)

    with anyio.move_on_after(5):
        while link.up:
            with contextlib.suppress(StoreAwayError):
                await board.read("health")

    client.replicaof("no", "one")
    assert not link.up
    assert "READONLY" in str(link.fault)


async def test_while_redis_is_away_reading_fails_and_posts_are_not_kept_for_later(
    link: RedisLink, redis_service: Server
) -> None:
    board = RedisBoard(link)
    await anyio.to_thread.run_sync(redis_service.stop)
    await until(lambda: not link.up)

    board.post("health", "a", b"x", 60.0)
    with pytest.raises(StoreAwayError):
        await board.read("health")

    await anyio.to_thread.run_sync(redis_service.start)
    await until(lambda: link.up)
    assert await link.drain(5)
    assert await board.read("health") == {}


async def test_a_redis_that_refuses_says_so(link: RedisLink, client: "redis.Redis") -> None:
    client.set("llmgw:board:health", "no hash")

    with pytest.raises(StoreAwayError, match="WRONGTYPE"):
        await RedisBoard(link).read("health")
