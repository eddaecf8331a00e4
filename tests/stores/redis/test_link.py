import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import redis
import redis.asyncio
import trustme

from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.redis.link import Command, RedisLink
from tests.lines import Lines
from tests.services import Server, free_port, redis_server
from tests.stores.conftest import StartLink
from tests.stores.waiting import until


async def failing(link: RedisLink, times: int) -> None:
    for _ in range(times):
        with pytest.raises(StoreAwayError):
            await link.ask(("PING",))


async def test_a_question_is_one_round_trip_whatever_belongs_to_it(link: RedisLink, client: "redis.Redis") -> None:
    add = link.script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    client.set("llmgw:kept", "answer")
    await link.ask(("PING",))
    before = link.round_trips

    replies = await link.ask(add(["llmgw:n"], [3]), ("GET", "llmgw:kept"), ("GET", "llmgw:none"))

    assert replies == [3, b"answer", None]
    assert link.round_trips == before + 1


async def test_pitfall_081_two_round_trips_a_call_before_and_after(link: RedisLink) -> None:
    """What a call does: one question before it, and what it sends after it, all together."""
    before = link.round_trips

    await link.ask(("INCR", "llmgw:rate"), ("GET", "llmgw:answer"))
    link.send(("DECR", "llmgw:rate"))
    link.send(("SET", "llmgw:answer", b"x", "PX", 1000))
    assert await link.drain()

    assert link.round_trips == before + 2


async def test_what_follows_a_question_goes_over_the_same_connection(
    start_link: StartLink, client: "redis.Redis"
) -> None:
    link = await start_link(probe_every_s=60)
    [asked] = await link.ask(("CLIENT", "ID"))

    link.follow(("LPUSH", "llmgw:n", 1))
    await until(lambda: client.lrange("llmgw:n", 0, -1) == [b"1"])

    assert {each["id"]: each["cmd"] for each in client.client_list()}[str(asked)] == "lpush"


async def test_what_followed_a_question_waits_when_the_connection_was_lost(
    start_link: StartLink, redis_service: Server
) -> None:
    link = await start_link(timeout_s=0.05, probe_every_s=0.05)

    with redis_service.hung():
        link.follow(("SET", "llmgw:n", 1))
        await until(lambda: not link.up)
        link.follow(("SET", "llmgw:m", 1))
        await link.close()

    assert link.dropped == 2


async def test_what_still_waits_at_the_end_is_counted_as_dropped(lines: Lines) -> None:
    link = RedisLink(f"redis://127.0.0.1:{free_port()}/0", logger=lines.logger)
    await link.connect()
    link.send(("INCR", "llmgw:n"))

    await link.close()

    assert link.dropped == 1


async def test_what_is_sent_is_told_and_counted(link: RedisLink, client: "redis.Redis") -> None:
    told: list[list[object]] = []

    link.send(("INCR", "llmgw:n"), then=told.append)
    await until(lambda: told == [[1]])

    assert client.get("llmgw:n") == b"1"
    assert (link.up, link.failures, link.dropped) == (True, 0, 0)


async def test_a_restarted_redis_knows_the_scripts_again(link: RedisLink, client: "redis.Redis") -> None:
    add = link.script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert await link.ask(add(["llmgw:n"], [1])) == [1]

    client.script_flush()

    assert await link.ask(("PING",), add(["llmgw:n"], [1]), ("PING",)) == [b"PONG", 2, b"PONG"]
    told: list[list[object]] = []
    client.script_flush()
    link.send(add(["llmgw:n"], [1]), then=told.append)
    await until(lambda: told == [[3]])


async def test_pitfall_078_a_redis_that_hangs_holds_nobody_up(
    redis_service: Server, start_link: StartLink, lines: Lines
) -> None:
    link = await start_link(timeout_s=0.1, connect_timeout_s=0.1, probe_every_s=0.1)
    await link.ask(("PING",))

    with redis_service.hung():
        await failing(link, 3)
        assert not link.up
        began = time.perf_counter()
        await failing(link, 100)
        assert time.perf_counter() - began < 0.1  # all hundred together
        assert "no answer within 0.1 s" in str(link.fault) or "no connection" in str(link.fault)

    await until(lambda: link.up)
    assert await link.ask(("PING",)) == [b"PONG"]
    assert lines.events() == ["redis_away", "redis_back"]


async def test_pitfall_079_the_breaker_opens_after_three_failures_and_a_probe_closes_it(
    redis_service: Server, start_link: StartLink, lines: Lines
) -> None:
    link = await start_link(probe_every_s=0.2)
    redis_service.stop()
    await failing(link, 3)

    assert not link.up
    assert link.failures >= 3
    assert link.fault is not None
    redis_service.start()
    await until(lambda: link.up)

    assert link.fault is None
    assert await link.ask(("PING",)) == [b"PONG"]
    assert lines.events() == ["redis_away", "redis_back"]


async def test_a_redis_that_hangs_is_found_out_although_nobody_asks(
    redis_service: Server, start_link: StartLink
) -> None:
    link = await start_link(timeout_s=0.05, connect_timeout_s=0.05, probe_every_s=0.05)

    with redis_service.hung():
        await until(lambda: not link.up)


async def test_a_redis_that_is_not_there_at_the_start_is_away_at_once_and_used_when_it_comes(
    redis_service: Server, start_link: StartLink, lines: Lines
) -> None:
    redis_service.stop()
    link = await start_link(probe_every_s=0.05)

    assert not link.up
    with pytest.raises(StoreAwayError, match="refused"):
        await link.ask(("PING",))
    assert lines.events() == ["redis_away"]
    redis_service.start()
    await until(lambda: link.up)


@pytest.mark.alone
async def test_pitfall_073_a_redis_that_is_down_costs_one_line_and_next_to_no_time(
    redis_service: Server, start_link: StartLink, lines: Lines
) -> None:
    """Five hundred calls a second for two seconds, each of which asks and sends."""
    link = await start_link()
    redis_service.stop()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime

    for _ in range(200):
        for _ in range(5):
            with pytest.raises(StoreAwayError):
                await link.ask(("PING",))
            link.send(("INCR", "n"))
        await anyio.sleep(0.01)

    assert lines.events() == ["redis_away"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - used < 0.4


class Load:
    """Asks and sends again and again, and notes how it went."""

    def __init__(self, link: RedisLink, command: Command) -> None:
        self.ends: list[bool] = []
        self.slowest_s = 0.0
        self.over = False
        self._link = link
        self._command = command

    async def run(self) -> None:
        while not self.over:
            began = time.perf_counter()
            try:
                await self._link.ask(self._command)
                self.ends.append(True)
            except StoreAwayError:
                self.ends.append(False)
            self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
            self._link.send(("INCR", "llmgw:sent"))
            await anyio.sleep(0.002)


@pytest.mark.alone
async def test_pitfall_082_a_redis_killed_and_restarted_under_load_is_used_again_within_a_second(
    redis_service: Server, start_link: StartLink
) -> None:
    link = await start_link(probe_every_s=0.2)
    add = link.script("return redis.call('INCRBY', KEYS[1], 1)")
    load = Load(link, add(["llmgw:n"]))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(load.run)
        await until(lambda: len(load.ends) > 100)
        for _ in range(2):
            await anyio.to_thread.run_sync(redis_service.stop)
            await until(lambda: not link.up)
            await anyio.to_thread.run_sync(redis_service.start)
            back = time.perf_counter()
            await until(lambda: link.up)
            assert time.perf_counter() - back < 1.0
            load.ends.clear()
            await until(lambda: len(load.ends) > 100)
            assert all(load.ends[10:])
        load.over = True

    assert load.slowest_s < 0.5


async def test_pitfall_032_a_redis_that_forbids_scripts_is_away_and_says_so(
    redis_service: Server, client: "redis.Redis", start_link: StartLink, lines: Lines
) -> None:
    client.acl_setuser("gate", enabled=True, nopass=True, commands=["+@all", "-@scripting"], keys=["*"])
    link = await start_link(f"redis://gate:any@127.0.0.1:{redis_service.port}/0", probe_every_s=0.05)

    assert not link.up
    assert "NOPERM" in str(link.fault)
    (line,) = lines.all()
    assert line["event"] == "redis_away"
    assert "NOPERM" in line["reason"]
    client.acl_setuser("gate", commands=["+@all"], channels=["*"])
    await until(lambda: link.up)


async def test_a_redis_that_may_only_be_read_is_away(redis_service: Server, start_link: StartLink) -> None:
    with redis_server("--replicaof", "127.0.0.1", str(redis_service.port)) as replica:
        link = await start_link(replica.url)

        assert not link.up
        assert "READONLY" in str(link.fault)


@pytest.mark.alone
@pytest.mark.timeout(60)
async def test_pitfall_080_the_scheme_decides_between_plain_and_tls_and_the_wrong_one_is_told(
    redis_service: Server, start_link: StartLink
) -> None:
    with tls_redis() as (port, ca):
        right = await start_link(f"rediss://localhost:{port}/0?ssl_ca_certs={ca}")
        plain = await start_link(redis_service.url)
        plain_to_tls = await start_link(f"redis://localhost:{port}/0", timeout_s=0.5)
        tls_to_plain = await start_link(redis_service.url.replace("redis:", "rediss:"))
        untrusted = await start_link(f"rediss://localhost:{port}/0")

        assert await right.ask(("PING",)) == [b"PONG"]
        assert await plain.ask(("PING",)) == [b"PONG"]
        assert [link.up for link in (right, plain, plain_to_tls, tls_to_plain, untrusted)] == [True, True, *[False] * 3]
        assert "without TLS the URL begins with redis://" in str(tls_to_plain.fault)
        assert "CERTIFICATE_VERIFY_FAILED" in str(untrusted.fault)
        plain_s = await _seconds_for_asks(plain)
        tls_s = await _seconds_for_asks(right)
    assert plain_s < 1.2 * tls_s  # plain is really plain: encryption costs time


async def _seconds_for_asks(link: RedisLink) -> float:
    began = time.perf_counter()
    for _ in range(200):
        await link.ask(("PING",))
    return time.perf_counter() - began


@contextmanager
def tls_redis() -> Iterator[tuple[int, Path]]:
    """Run a Redis that has a plain port and one for TLS; gives the latter, and whom to trust."""
    authority, port = trustme.CA(), free_port()
    with tempfile.TemporaryDirectory(prefix="llmgateway-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Redis runs as another user
        own, ca = folder / "own.pem", folder / "ca.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(own)
        authority.cert_pem.write_to_path(ca)
        files = "--tls-cert-file", str(own), "--tls-key-file", str(own), "--tls-ca-cert-file", str(ca)
        with redis_server("--tls-port", str(port), "--tls-auth-clients", "no", *files):
            yield port, ca


@pytest.mark.alone
async def test_a_round_trip_costs_less_than_half_of_what_redis_py_takes(link: RedisLink, redis_service: Server) -> None:
    run = link.script("return redis.call('INCR', KEYS[1])")
    other = redis.asyncio.Redis.from_url(redis_service.url, max_connections=32)

    async def ours() -> None:
        await link.ask(run(["llmgw:n"]), ("GET", "llmgw:x"))

    async def theirs() -> None:
        pipeline = other.pipeline(transaction=False)
        pipeline.evalsha(run.sha, 1, "llmgw:n")
        pipeline.get("llmgw:x")
        await pipeline.execute()

    costs_s = []
    for ask in (ours, theirs):
        used = time.process_time()
        for _ in range(40):
            await asyncio.gather(*[ask() for _ in range(16)])
        costs_s.append(time.process_time() - used)
    await other.aclose()

    assert costs_s[0] < 0.5 * costs_s[1]
