"""Deployments that are asked whether they live, while no client calls."""

from typing import Any

import anyio

from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import json_step

LISTED = json_step({"object": "list", "data": []})


def catalog_of(main: Player) -> str:
    return f"""
        providers:
          main: {{provider: openai, api_key: sk-upstream, api_base: "{main.base}"}}
        models:
          - name: chat
            deployments: [{{provider: main, model: gpt-4o, probe: {{interval_s: 0.05}}}}]
    """


async def until(g: Running, circuit: str) -> None:
    with anyio.fail_after(5):
        while (await g.client.get("/health/detailed")).json()["providers"]["main"]["circuit"] != circuit:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_dead_provider_is_found_dead_and_alive_again_before_any_client_waits_for_it(
    gateway: Serve, provider: Player
) -> None:
    provider.always(OpenAIWire().error(503, "The server is overloaded"))
    g = await gateway(catalog_of(provider))

    await until(g, "open")
    provider.always(LISTED)
    await until(g, "half_open")
    assert {(asked.method, asked.path) for asked in provider.requests} == {("GET", "/v1/models")}
    provider.always(None)
    answer: Any = await g.openai.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "one two"}]
    )

    assert answer.choices
    await until(g, "closed")


async def test_a_refused_key_is_told_before_any_client_finds_out(gateway: Serve, provider: Player) -> None:
    provider.always(OpenAIWire().error(401, "Incorrect API key provided"))

    g = await gateway(catalog_of(provider))

    line = await g.logged("circuit_opened")
    assert (line["provider"], line["cause"], line["rest_s"]) == ("main", "auth", 600.0)
    provider.always(LISTED)
    await until(g, "half_open")
