"""How often a call goes to Redis: once before it, and once after it, for which nobody waits (pitfall 81).

Counted is what the gateway sends together, whatever is in it. On top of that come, beside the calls: the looks of one
that waits for another process, every 20 to 200 ms, and every 1.25 s the renewal of the claims to kept questions under
way. They are not what is promised here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from llmgateway import protection
from llmgateway.gateway.coalescing import Flights
from llmgateway.stores.redis.link import RedisLink
from tests.e2e.made_keys import ADMIN_KEY, make_key
from tests.running import Running, opened, running
from tests.services import Server, redis_server
from tests.stores.waiting import until
from tests.upstreams.server import Player

LIMITS = {
    "requests_per_minute": 6000,
    "requests_per_hour": 100_000,
    "tokens_per_minute": 10_000_000,
    "concurrent": 500,
    "burst": 1000,
    "cooldown_seconds": 0,
}
SCARCE = {"requests_per_hour": 1, "burst": 1, "cooldown_seconds": 0}
KEPT: dict[str, Any] = {"temperature": 0}
Serves = Callable[..., Awaitable["Counted"]]


class Counted:
    """A gateway whose ways to Redis are counted; it is asked with a key that has limits."""

    def __init__(self, running: Running, link: RedisLink, key: str) -> None:
        self.running = running
        self.key = key
        self._link = link
        running.client.headers["Authorization"] = f"Bearer {key}"

    async def ask(self, text: str = "one", **fields: Any) -> httpx2.Response:
        asked = {"model": "chat", "messages": [{"role": "user", "content": text}], **fields}
        response = await self.running.client.post("/v1/chat/completions", json=asked)
        await response.aread()
        return response

    async def in_flight(self, count: int) -> None:
        await until(lambda: len(self.running.app.state.running.tasks) == count)

    async def trips(self) -> int:
        """Give the count, once all that calls leave behind is sent."""
        await self.in_flight(0)
        assert await self._link.drain(5)
        return self._link.round_trips

    async def of(self, *asking: Awaitable[httpx2.Response]) -> tuple[int, list[str]]:
        """Ask at once; give the trips of all, and each status, of the cache or of HTTP."""
        before = await self.trips()
        found = await asyncio.gather(*asking)
        statuses = [each.headers["x-cache-status"] if each.is_success else str(each.status_code) for each in found]
        return await self.trips() - before, sorted(statuses)


@pytest.fixture(scope="module")
def one_redis() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def counted(
    one_redis: Server, tmp_path: Path, catalog: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Serves]:
    """Serve with an empty Redis: `await counted("name", given=LIMITS)`; each name is a process of its own."""
    with redis.Redis.from_url(one_redis.url) as client:
        client.flushall()
    links: list[RedisLink] = []

    def linked(*args: Any, **options: Any) -> RedisLink:
        # A machine at work keeps Redis waiting for longer than a gateway does: nothing would be counted.
        links.append(RedisLink(*args, **options | {"timeout_s": 5.0}))
        return links[-1]

    monkeypatch.setattr(protection, "RedisLink", linked)
    # Claims are renewed by the clock, whichever call is under way just then.
    monkeypatch.setattr(protection, "Flights", partial(Flights, lease_s=60.0))
    async with AsyncExitStack() as stack:

        async def serve(
            name: str = "one", key: str | None = None, given: Mapping[str, int] = LIMITS, **settings: Any
        ) -> Counted:
            folder = tmp_path / name
            folder.mkdir()
            settings |= {"auth__mode": "client", "admin_key": ADMIN_KEY, "redis_url": one_redis.url}
            settings["data_dir"] = tmp_path / "data"  # one database for all
            served = await stack.enter_async_context(running(folder, catalog, **settings))
            key = key or (await make_key(served.url, limits=given))["key"]
            here = Counted(served, links[-1], key)
            await opened(served.client)
            assert (await here.ask("to begin with")).is_success  # connects, and finds the key
            return here

        yield serve


async def test_pitfall_081_a_call_costs_at_most_one_round_trip_before_it_and_one_after(counted: Serves) -> None:
    here = await counted()

    assert await here.of(here.ask("plain")) == (2, ["BYPASS"])
    assert await here.of(here.ask("plain", stream=True)) == (2, ["BYPASS"])
    assert await here.of(here.ask("kept", **KEPT)) == (2, ["MISS"])
    assert await here.of(here.ask("kept", **KEPT)) == (2, ["HIT"])
    assert await here.of(here.ask("kept", stream=True, **KEPT)) == (2, ["HIT"])
    assert await here.of(here.ask("streamed", stream=True, **KEPT)) == (2, ["MISS"])
    assert await here.of(here.ask("streamed", stream=True, **KEPT)) == (2, ["HIT"])


async def test_pitfall_081_nothing_is_counted_and_one_round_trip_reads_or_claims(counted: Serves) -> None:
    here = await counted(limits__enabled="false")

    assert await here.of(here.ask("plain")) == (0, ["BYPASS"])
    assert await here.of(here.ask("kept", **KEPT)) == (2, ["MISS"])
    assert await here.of(here.ask("kept", **KEPT)) == (1, ["HIT"])
    assert await here.of(here.ask("streamed", stream=True, **KEPT)) == (2, ["MISS"])


async def test_pitfall_081_a_refused_call_costs_no_more_and_gives_its_claim_back(
    counted: Serves, one_redis: Server
) -> None:
    here = await counted(given=SCARCE)

    assert await here.of(here.ask("plain")) == (1, ["429"])
    assert await here.of(here.ask("kept", **KEPT)) == (2, ["429"])
    with redis.Redis.from_url(one_redis.url) as client:
        assert client.keys("llmgw:flight:*") == []


async def test_pitfall_081_those_who_wait_for_one_that_asks_cost_no_more(counted: Serves, provider: Player) -> None:
    here = await counted()
    provider.script(lambda step: step.delayed(1))

    trips, statuses = await here.of(*(here.ask("kept", **KEPT) for _ in range(20)))

    assert statuses == ["COALESCED"] * 19 + ["MISS"]
    assert trips <= 40
    assert provider.requests_total == 2


@pytest.mark.parametrize("fields", [{}, {"stream": True}])
async def test_two_processes_ask_once(counted: Serves, provider: Player, fields: dict[str, Any]) -> None:
    here = await counted()
    there = await counted("two", key=here.key)
    asked = provider.requests_total
    provider.script(lambda step: step.delayed(1))

    first = asyncio.ensure_future(here.ask("kept", **KEPT, **fields))
    await provider.until(lambda: provider.in_flight == 1)
    _, statuses = await there.of(*(there.ask("kept", **KEPT, **fields) for _ in range(3)))

    assert (await first).headers["x-cache-status"] == "MISS"
    assert statuses == ["COALESCED"] * 3
    assert provider.requests_total - asked == 1


@pytest.mark.alone
async def test_who_leaves_before_its_leave_comes_holds_nobody_up(counted: Serves, one_redis: Server) -> None:
    here = await counted()
    there = await counted("two", key=here.key)
    with one_redis.hung():
        leaves = asyncio.ensure_future(here.ask("kept", **KEPT))
        await here.in_flight(1)
        leaves.cancel()
        await here.in_flight(0)

    began = time.perf_counter()
    assert (await there.ask("kept", **KEPT)).headers["x-cache-status"] == "MISS"
    assert time.perf_counter() - began < 2  # and not the minute of a claim's lease
