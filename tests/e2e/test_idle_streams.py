"""Two thousand clients who wait for the next word (performance: 2,000 idle streams of a worker in 400 MB)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.e2e.test_start import TALK, catalog_of
from tests.served import Served, served
from tests.upstreams.anthropic_wire import AnthropicWire
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Step

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]

STREAMS = 2000
MOST_BYTES = 400 * 1024**2


def held_bytes(gateway: Served) -> int:
    return int(psutil.Process(gateway.process_id).memory_info().rss)


@asynccontextmanager
async def listening(gateway: Served) -> AsyncIterator[asyncio.StreamReader]:
    """Ask for a stream over a bare socket, and wait for its first words."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    body = json.dumps({"model": "chat", "messages": TALK, "stream": True}).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    try:
        assert b"200" in await reader.readline()
        await reader.readuntil(b"data: ")
        yield reader
    finally:
        writer.close()


async def test_two_thousand_idle_streams_are_held_in_400_mb_and_then_end_whole(tmp_path: Path) -> None:
    said: list[bool] = []

    def held(step: Step) -> Step:
        return step.held(lambda: bool(said), pieces=2)

    async with (
        Player(OpenAIWire()) as relayed,
        Player(AnthropicWire()) as translated,
        served(tmp_path, catalog_of(relayed, translated)) as gateway,
    ):
        # What a worker holds that translates, too: LiteLLM is most of it.
        call = {"model": "claude", "messages": TALK, "max_tokens": 100}
        assert (await gateway.client.post("/v1/chat/completions", json=call)).status_code == 200
        relayed.always(held)
        ends: list[bytes] = []
        begun = asyncio.Semaphore(0)
        over = asyncio.Event()

        async def listen() -> None:
            async with listening(gateway) as reader:
                begun.release()
                await over.wait()
                ends.append((await reader.read())[-100:])

        async with asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                group.create_task(listen())
            for _ in range(STREAMS):
                await begun.acquire()
            held_by_all = held_bytes(gateway)
            said.append(True)
            relayed.note()
            over.set()

        assert relayed.finished == STREAMS
        assert sum(b"data: [DONE]" in end for end in ends) == STREAMS
        assert held_by_all < MOST_BYTES
