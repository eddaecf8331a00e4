"""What one gateway learns of a provider, the other one on the same Redis knows within a second."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.running import Running, running
from tests.services import Server, redis_server
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

ASKED: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "one two three"}]}


class Two:
    """Two gateways on one Redis, and the two providers that both of them ask."""

    def __init__(self, here: Running, there: Running, main: Player, spare: Player) -> None:
        self.here, self.there, self.main, self.spare = here, there, main, spare

    async def ask(self, gateway: Running, times: int = 1) -> None:
        for _ in range(times):
            answer = await gateway.client.post("/v1/chat/completions", json=ASKED)
            assert answer.status_code == 200, answer.text

    async def state(self, gateway: Running) -> dict[str, Any]:
        told: dict[str, Any] = (await gateway.client.get("/health/detailed")).json()["providers"]["main"]
        return told

    async def until(self, gateway: Running, circuit: str) -> None:
        with anyio.fail_after(5):
            while (await self.state(gateway))["circuit"] != circuit:  # noqa: ASYNC110  nobody is told of it
                await anyio.sleep(0.01)


@pytest.fixture
def redis_service() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def two(redis_service: Server, tmp_path: Path) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        main, spare = [await stack.enter_async_context(Player(OpenAIWire())) for _ in range(2)]
        catalog = f"""
            providers:
              main: {{provider: openai, api_key: sk-upstream, api_base: "{main.base}"}}
              spare: {{provider: openai, api_key: sk-upstream, api_base: "{spare.base}"}}
            models:
              - name: chat
                strategy: priority
                deployments: [{{provider: main, model: gpt-4o}}, {{provider: spare, model: gpt-4o}}]
        """
        served = []
        for name in ("here", "there"):
            folder = tmp_path / name
            folder.mkdir()
            served.append(await stack.enter_async_context(running(folder, catalog, redis_url=redis_service.url)))
        yield Two(served[0], served[1], main, spare)


@pytest.mark.alone
async def test_a_rest_that_a_provider_asks_for_is_kept_by_both(two: Two) -> None:
    await two.ask(two.there)
    two.main.always(OpenAIWire().error(429, "Rate limit reached", retry_after="30"))
    asked = two.main.requests_total

    await two.ask(two.here)
    began = time.perf_counter()
    await two.until(two.there, "open")

    assert time.perf_counter() - began < 1.0
    await two.ask(two.there, 3)
    assert two.main.requests_total == asked + 1, "only the call that was told to wait"
    (rest,) = (await two.state(two.there))["resting"]
    assert (rest["model"], rest["cause"]) == ("gpt-4o", "rate_limit")
    assert 25.0 < rest["until_s"] <= 30.0
    assert [line["provider"] for line in two.here.logs() if line["event"] == "circuit_opened"] == ["main"]
    assert "circuit_opened" not in [line["event"] for line in two.there.logs()], "it is told by who found out"


async def test_a_provider_that_is_back_is_back_for_both(two: Two) -> None:
    two.main.always(OpenAIWire().error(500, "The server had an error"))
    await two.ask(two.here, 5)
    await two.until(two.there, "half_open")
    two.main.always(None)

    await two.ask(two.there)
    await two.until(two.here, "closed")

    assert (await two.state(two.there))["circuit"] == "closed"


async def test_without_redis_each_finds_out_by_itself_and_no_call_fails(two: Two, redis_service: Server) -> None:
    await two.ask(two.here)
    await two.ask(two.there)
    await anyio.to_thread.run_sync(redis_service.stop)
    two.main.always(OpenAIWire().error(429, "Rate limit reached", retry_after="30"))

    await two.ask(two.here)
    await two.ask(two.there)
    assert (await two.state(two.there))["circuit"] == "open"
    assert two.main.requests_total == 4
