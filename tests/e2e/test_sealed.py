"""Reasoning that a provider sealed goes back to the deployment that made it, whatever the strategy and the gateway."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running, running
from tests.services import Server, redis_server
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Request, Step, json_step

QUESTION = {"role": "user", "content": "Think, and answer."}
NAMES = ("one", "two", "three")


def sealed_by(name: str, number: int) -> str:
    return base64.b64encode(hashlib.sha512(f"{name}-{number}".encode()).digest()).decode()


class Sealing:
    """Answers with reasoning that only it can read; what another sealed is a mistake in the request."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made: list[str] = []
        self.refused = 0

    base_path = OpenAIWire().base_path

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        return OpenAIWire().error(status, message, code=code, retry_after=retry_after)

    def too_long(self) -> Step:
        return OpenAIWire().too_long()

    def answer(self, request: Request) -> Step:
        body = request.json
        for message in body["messages"]:
            for item in message.get("reasoning_details", ()):
                if item["data"] not in self.made:
                    self.refused += 1
                    error = {"message": "The encrypted content could not be verified.", "code": "invalid_encrypted"}
                    return json_step({"error": {**error, "type": "invalid_request_error"}}, status=400)
        self.made.append(sealed_by(self.name, len(self.made)))
        details = [{"type": "reasoning.encrypted", "data": self.made[-1]}]
        message = {"role": "assistant", "content": "Done.", "reasoning_details": details}
        head = {"id": "x", "created": 1, "model": "gpt-4o"}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return json_step({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        chunks = [
            {
                **head,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
            }
            for delta in ({"role": "assistant", "content": ""}, {"reasoning_details": details}, {"content": "Done."})
        ]
        chunks.append({**chunks[-1], "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
        events = [Piece(f"data: {json.dumps(chunk)}\n\n".encode()) for chunk in chunks]
        return Step(
            headers={"content-type": "text/event-stream"},
            pieces=(*events, Piece(b"data: [DONE]\n\n")),
            framing="chunked",
        )


@pytest.fixture(scope="module")
def redis_service() -> Iterator[Server]:
    with redis_server() as server:
        yield server


class World:
    """Two gateways on one Redis before three accounts, each of which seals what it thought."""

    def __init__(self, here: Running, there: Running, upstreams: dict[str, Sealing]) -> None:
        self.here, self.there, self.upstreams = here, there, upstreams

    async def ask(
        self, gateway: Running, *messages: dict[str, Any], stream: bool = False
    ) -> tuple[str, dict[str, Any]]:
        """Ask; gives who answered, and the answer's message."""
        body = {"model": "chat", "messages": [QUESTION, *messages], "stream": stream}
        answer = await gateway.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        provider = answer.headers["x-provider"]
        if not stream:
            message: dict[str, Any] = answer.json()["choices"][0]["message"]
            return provider, message
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
        details = [detail for delta in deltas for detail in delta.get("reasoning_details", ())]
        return provider, {"role": "assistant", "content": "Done.", "reasoning_details": details}


@pytest.fixture
async def world(redis_service: Server, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        upstreams = {name: Sealing(name) for name in NAMES}
        players = {name: await stack.enter_async_context(Player(one)) for name, one in upstreams.items()}
        accounts = "\n".join(
            f'              {name}: {{provider: openai, api_key: sk-upstream, api_base: "{player.base}"}}'
            for name, player in players.items()
        )
        deployments = ", ".join(f"{{provider: {name}, model: gpt-4o}}" for name in NAMES)
        catalog = f"""
            providers:
{accounts}
            models:
              - {{name: chat, strategy: round_robin, deployments: [{deployments}]}}
        """
        served = []
        for name in ("here", "there"):
            folder = tmp_path / name
            folder.mkdir()
            served.append(await stack.enter_async_context(running(folder, catalog, redis_url=redis_service.url)))
        yield World(served[0], served[1], upstreams)


@pytest.mark.parametrize("stream", [False, True])
async def test_pitfall_048_what_follows_on_sealed_reasoning_goes_to_the_one_that_made_it(
    world: World, stream: bool
) -> None:
    for number in range(6):
        maker, message = await world.ask(world.here, stream=stream)
        gateway = world.there if number % 2 else world.here

        answered, _ = await world.ask(gateway, message, {"role": "user", "content": "Go on."}, stream=stream)

        assert answered == maker
    assert [one.refused for one in world.upstreams.values()] == [0, 0, 0]
    assert all(one.made for one in world.upstreams.values()), "the strategy went round"


async def test_the_dry_run_knows_it_too(world: World) -> None:
    maker, message = await world.ask(world.here)
    body = {"model": "chat", "messages": [QUESTION, message, {"role": "user", "content": "Go on."}]}

    plans = [(await world.there.client.post("/v1/route", json=body)).json() for _ in range(4)]

    assert {plan["decision"]["provider"] for plan in plans} == {maker}


async def test_what_nobody_here_made_is_anybodys(world: World) -> None:
    foreign = {"role": "assistant", "content": "Done.", "reasoning_details": [{"type": "x", "data": "A" * 64}]}
    body = {"model": "chat", "messages": [QUESTION, foreign]}

    answer = await world.here.client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_encrypted"
