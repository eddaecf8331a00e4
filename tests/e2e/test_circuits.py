"""What opens a circuit and what does not, what outlives a reload, and two deployments that are asked side by side."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import pytest

from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

BODY: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "one two three"}]}
DOWN = OpenAIWire().error(500, "The server had an error")


@pytest.fixture
async def second() -> AsyncIterator[Player]:
    async with Player(OpenAIWire()) as player:
        yield player


def offered(*players: Player, **model: Any) -> str:
    """One model at several accounts, the first always asked first; YAML, of which JSON is a part."""
    names = ("one", "two", "three")[: len(players)]
    providers = {
        name: {"provider": "openai", "api_key": "sk-upstream", "api_base": player.base}
        for name, player in zip(names, players, strict=True)
    }
    deployments = [{"provider": name, "model": "large"} for name in names]
    chat = {"name": "chat", "strategy": "priority", "deployments": deployments, **model}
    return json.dumps({"providers": providers, "models": [chat]})


async def ask(served: Running, times: int = 1, **fields: Any) -> httpx2.Response:
    """Ask over and over; give the last answer."""
    headers = {"Cache-Control": "no-store"}
    answers = [
        await served.client.post("/v1/chat/completions", json=BODY | fields, headers=headers) for _ in range(times)
    ]
    return answers[-1]


async def circuits(served: Running) -> dict[str, str]:
    told = (await served.client.get("/health/detailed")).json()["providers"]
    return {name: one["circuit"] for name, one in told.items() if name != "demo"}


async def test_an_open_circuit_is_told_and_its_deployment_left_alone(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    provider.always(DOWN)

    assert (await ask(served, 5)).headers["x-attempts"] == "2"
    answer = await ask(served)

    assert (answer.headers["x-attempts"], answer.headers["x-provider"]) == ("1", "two")
    assert provider.requests_total == 5
    assert await circuits(served) == {"one": "open", "two": "closed"}
    told = (await served.client.get("/health/detailed")).json()["providers"]["one"]
    assert (told["available"], told["resting"][0]["model"], told["resting"][0]["cause"]) == (False, "large", "failures")
    line = await served.logged("circuit_opened")
    assert (line["provider"], line["cause"]) == ("one", "failures")


async def test_a_reload_of_the_catalog_forgets_no_open_circuit(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    provider.script(OpenAIWire().error(429, "slow down", retry_after="600"))
    await ask(served)

    served.catalog_file.write_text(offered(provider, second, defaults={"temperature": 0.5}))
    await served.logged("catalog_reloaded")

    assert (await ask(served, 3)).headers["x-provider"] == "two"
    assert second.last.json["temperature"] == 0.5
    assert provider.requests_total == 1
    assert await circuits(served) == {"one": "open", "two": "closed"}


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_what_clients_ask_wrongly_opens_no_circuit(
    gateway: Serve, provider: Player, second: Player, status: int
) -> None:
    served = await gateway(offered(provider, second))
    provider.always(OpenAIWire().error(status, "This is not how to ask"))

    await ask(served, 40)

    assert await circuits(served) == {"one": "closed", "two": "closed"}
    assert provider.requests_total == 40, "the next call is as welcome as the first"
    assert second.requests_total == (40 if status == 404 else 0)


async def calling(served: Running, **fields: Any) -> asyncio.StreamWriter:
    """A client that has asked and waits."""
    body = json.dumps(BODY | fields).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return writer


async def test_two_hundred_clients_that_hang_up_open_no_circuit(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    provider.always(lambda step: step.silent(pieces=3) if len(step.pieces) > 1 else step.delayed(60))

    for _ in range(10):
        callers = [await calling(served, stream=number % 2 == 0) for number in range(20)]
        await provider.until(lambda: provider.in_flight == 20)
        for caller in callers:
            caller.close()
        await provider.until(lambda: provider.in_flight == 0)

    provider.always(None)
    answer = await ask(served)
    assert (answer.headers["x-provider"], answer.headers["x-attempts"]) == ("one", "1")
    assert second.requests_total == 0
    assert await circuits(served) == {"one": "closed", "two": "closed"}


def hedged(percentile: float, max_share: float) -> dict[str, Any]:
    return {"hedge": {"percentile": percentile, "max_share": max_share}}


async def test_a_hedged_call_whose_first_token_is_late_is_answered_by_the_second(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second, **hedged(99, 0.5)))
    await ask(served, 32, stream=True)
    hedged_before = second.requests_total  # whichever were later than all before them
    provider.script(lambda step: step.delayed(30))

    answer = await ask(served, stream=True)

    assert (answer.headers["x-attempts"], answer.headers["x-provider"]) == ("2", "two")
    assert answer.text.count('"role":"assistant"') == 1
    await provider.until(lambda: provider.in_flight == 0)  # the loser's connection is closed
    assert (provider.requests_total, second.requests_total) == (33, hedged_before + 1)
    assert await circuits(served) == {"one": "closed", "two": "closed"}, "to be late once is no failure"
    kept = await last_record(served, answer)
    assert [(one["provider"], one["outcome"]) for one in kept["attempts"]] == [("one", "superseded"), ("two", "ok")]


async def last_record(served: Running, answer: httpx2.Response) -> dict[str, Any]:
    """What the ledger keeps of a call, once it is there."""
    path = f"/v1/requests/{answer.headers['x-gateway-request-id']}"
    with anyio.fail_after(5):
        while (found := await served.client.get(path)).status_code != 200:  # noqa: ASYNC110  nobody is told of it
            await anyio.sleep(0.02)
    kept: dict[str, Any] = found.json()
    return kept


async def test_no_more_calls_are_hedged_than_their_share(gateway: Serve, provider: Player, second: Player) -> None:
    """Half of the calls are late, and without a bound each of them would be asked twice."""
    served = await gateway(offered(provider, second, **hedged(40, 0.1)))
    provider.always(lambda step: step.delayed(0.05 * (provider.requests_total % 2)))

    await ask(served, 70, stream=True)

    assert 1 <= second.requests_total <= 1 + 70 * 0.1
