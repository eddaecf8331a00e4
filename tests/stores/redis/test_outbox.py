import asyncio
from typing import Any

import pytest
import redis

from llmgateway.stores.redis.address import read_address
from llmgateway.stores.redis.connection import Connection, Lane, connect
from llmgateway.stores.redis.outbox import Outbox, set_within
from llmgateway.stores.redis.scripts import Scripts
from tests.services import Server


class Health:
    def __init__(self) -> None:
        self.up = True
        self.round_trips = 0
        self.told: list[str | None] = []

    def answered(self) -> None:
        self.told.append(None)

    def failed(self, fault: str) -> None:
        self.told.append(fault)


class Sent:
    """An outbox and what it stands on."""

    def __init__(self, server: Server) -> None:
        async def open_one(timeout_s: float) -> Connection:
            return await connect(read_address(server.url), None, timeout_s=timeout_s, connect_timeout_s=1.0)

        self.health = Health()
        self.wanted = 0
        self.scripts = Scripts()
        self.lane = Lane(0.1, open_one)
        self.outbox = Outbox(self.lane, self.scripts, self.health, self._want)

    def _want(self) -> None:
        self.wanted += 1


async def test_all_that_is_sent_at_once_goes_in_one_pipeline(redis_service: Server, client: "redis.Redis") -> None:
    sent = Sent(redis_service)
    await sent.lane.opened()

    for number in range(50):
        sent.outbox.put((("INCR", "n"), ("SET", f"k{number}", number)), None)

    assert await sent.outbox.drain(1.0)
    assert (client.get("n"), client.get("k49")) == (b"50", b"49")
    assert sent.health.round_trips == 1
    assert sent.health.told == [None]
    sent.lane.close()


async def test_each_is_told_its_own_replies(redis_service: Server) -> None:
    sent = Sent(redis_service)
    await sent.lane.opened()
    told: list[list[Any]] = []

    sent.outbox.put((("ECHO", "a"), ("ECHO", "b")), told.append)
    sent.outbox.put((("ECHO", "none"),), None)
    sent.outbox.put((("NONSENSE",),), told.append)
    await sent.outbox.drain(1.0)
    await asyncio.sleep(0)

    # An unknown command says that this Redis is of no use to us: then nobody is told anything.
    assert told == []
    assert sent.outbox.dropped == 4
    sent.outbox.put((("ECHO", "a"), ("ECHO", "b")), told.append)
    sent.outbox.put((("INCR", "a", "b"),), told.append)
    await sent.outbox.drain(1.0)
    await asyncio.sleep(0)
    assert told[0] == [b"a", b"b"]
    assert "wrong number of arguments" in str(told[1][0])
    sent.lane.close()


async def test_what_waits_for_a_connection_goes_when_there_is_one(redis_service: Server, client: "redis.Redis") -> None:
    sent = Sent(redis_service)
    sent.outbox.put((("INCR", "n"),), None)
    await asyncio.sleep(0)
    assert sent.wanted == 1

    await sent.lane.opened()
    sent.outbox.schedule()

    assert await sent.outbox.drain(1.0)
    assert client.get("n") == b"1"
    sent.lane.close()


async def test_what_finds_no_room_is_dropped_and_counted(redis_service: Server) -> None:
    sent = Sent(redis_service)
    sent.health.up = False

    for _ in range(10_003):
        sent.outbox.put((("INCR", "n"),), None)
    assert sent.outbox.dropped == 3

    sent.outbox.give_up()
    assert sent.outbox.dropped == 10_003
    large = b"x" * (20 * 1024 * 1024)
    sent.outbox.put((("SET", "a", large),), None)
    sent.outbox.put((("SET", "b", large),), None)
    assert sent.outbox.dropped == 10_004
    assert not await sent.outbox.drain(0.01)


async def test_what_was_sent_leaves_room(redis_service: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.stores.redis.outbox._MOST_BYTES", 100)
    monkeypatch.setattr("llmgateway.stores.redis.outbox._MOST_COMMANDS", 1)
    sent = Sent(redis_service)
    await sent.lane.opened()

    for _ in range(3):
        sent.outbox.put((("SET", "a", b"x" * 60),), None)
        assert await sent.outbox.drain(1.0)

    assert sent.outbox.dropped == 0
    sent.lane.close()


async def test_what_was_under_way_when_redis_hung_is_counted_as_dropped(redis_service: Server) -> None:
    sent = Sent(redis_service)
    await sent.lane.opened()

    with redis_service.hung():
        sent.outbox.put((("INCR", "n"), ("INCR", "n")), None)
        assert await sent.outbox.drain(2.0)

    assert sent.outbox.dropped == 2
    assert sent.health.told == ["no answer within 0.1 s"]
    assert not await set_within(asyncio.Event(), 0.01)


async def test_draining_ends_in_time_with_a_redis_that_hangs(redis_service: Server) -> None:
    sent = Sent(redis_service)
    await sent.lane.opened()

    with redis_service.hung():
        sent.outbox.put((("INCR", "n"),), None)
        assert not await sent.outbox.drain(0.02)
    sent.lane.close()
