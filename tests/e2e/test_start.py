"""What the start imports, and what waits for it (pitfall 71): a budget as a ratio, for machines differ."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.served import served
from tests.upstreams.anthropic_wire import AnthropicWire
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

pytestmark = pytest.mark.alone

GATEWAY = "import llmgateway.server"
# What the gateway stands on, and nothing else.
FLOOR = (
    "import starlette.applications, starlette.routing, uvicorn, uvicorn.protocols.http.httptools_impl, "
    "uvloop, aiohttp, msgspec"
)
# Never before somebody asks for what they do.
LATER = {"litellm", "sqlalchemy", "alembic", "asyncpg", "aiosqlite", "redis", "dramatiq", "pika", "grpc", "icu4py"}
LATER |= {"opentelemetry", "prometheus_client", "tokenizers", "websockets", "openai", "httpx", "numpy", "docx", "pypdf"}
TALK = [{"role": "user", "content": "hello"}]


def imported(program: str) -> dict[str, int]:
    """Microseconds of each module that a program imports, what it imports itself not counted."""
    command = [sys.executable, "-X", "importtime", "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()  # noqa: S603
    rows = (line.removeprefix("import time:").split("|") for line in said if line.startswith("import time:"))
    return {name.strip(): int(own) for own, _, name in rows if own.strip().isdigit()}


def test_pitfall_071_the_import_costs_no_more_than_some_times_what_it_stands_on() -> None:
    pairs = [(sum(imported(GATEWAY).values()), sum(imported(FLOOR).values())) for _ in range(5)]

    # 2.7 when this was written; LiteLLM alone would be another 8.
    assert min(gateway_us / floor_us for gateway_us, floor_us in pairs) < 3.2, pairs


def test_pitfall_071_what_is_heavy_is_imported_by_who_needs_it() -> None:
    found = imported(GATEWAY)

    assert len(found) > 300
    assert not LATER & {name.partition(".")[0] for name in found}


def catalog_of(relayed: Player, translated: Player) -> str:
    return f"""
providers:
  main: {{provider: openai, api_key: {OpenAIWire().key}, api_base: "{relayed.base}"}}
  other: {{provider: anthropic, api_key: {AnthropicWire().key}, api_base: "{translated.base}"}}
models:
  - {{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}
  - {{name: claude, deployments: [{{provider: other, model: claude-sonnet-4-5}}]}}
"""


@pytest.mark.timeout(120)
async def test_pitfall_071_relayed_calls_go_on_while_litellm_is_imported(provider: Player, tmp_path: Path) -> None:
    """The first translated call waits for its import, which takes seconds; nobody else does."""
    async with Player(AnthropicWire()) as translated, served(tmp_path, catalog_of(provider, translated)) as gateway:

        async def ask(model: str) -> float:
            began = time.perf_counter()
            body = json.dumps({"model": model, "messages": TALK, "max_tokens": 50}).encode()
            answer = await gateway.client.post("/v1/chat/completions", content=body)
            assert answer.status_code == 200, answer.text
            return time.perf_counter() - began

        for _ in range(20):
            await ask("chat")
        waits_s: list[float] = []
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask("claude"))
            while not first.done():
                waits_s.append(await ask("chat"))
                await asyncio.sleep(0.005)

        assert first.result() > 0.5, "it was imported"
        waits_s.sort()
        assert len(waits_s) > 20
        assert waits_s[len(waits_s) // 2] < 0.05
        # The import's longest steps hold the interpreter: single calls wait for one of them, never for all.
        assert waits_s[-1] < first.result() / 4, waits_s[-5:]
