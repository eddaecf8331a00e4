"""Nobody waits behind somebody's huge request on the same worker (pitfall 70).

Small calls come at random moments, whether the earlier ones are answered or not, so that each wait is seen. Rounds
beside something huge take turns with quiet ones.
"""

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest
from anyio.abc import Process

from bench.load import Load, Requests
from tests.e2e.test_large_ledger import filled
from tests.e2e.test_ledger import ready
from tests.e2e.test_many_cores import BODY, PATH, port_of, quick_provider
from tests.served import Served, served
from tests.storage.databases import END, START

pytestmark = [pytest.mark.alone, pytest.mark.long]

RATE, ROUND_S, ROUNDS = 150, 2.5, 3
MOVES_S = 0.010

Huge = Callable[[aiohttp.ClientSession], Awaitable[None]]


def catalog_of(provider: str) -> str:
    place = 'provider: openai, api_key: sk-upstream, api_base: "' + provider + '"'
    return f"""
providers: {{main: {{{place}}}}}
models:
  - {{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}
"""


@asynccontextmanager
async def gateway_in(folder: Path) -> AsyncIterator[Served]:
    async with quick_provider(delay_ms=5) as provider, served(folder, catalog_of(provider)) as gateway:
        await ready(gateway)
        yield gateway


@pytest.fixture(autouse=True)
def _brief_collections() -> Iterator[None]:
    """This process holds all that the suite has imported: to walk over it takes longer than what is measured."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def wait_s(gateway: Served) -> float:
    """The 99th percentile of the time that small calls took."""
    measured = await Load(port_of(gateway), Requests(PATH, [BODY])).open_loop(RATE, ROUND_S)
    assert not measured.faults
    taken_s = sorted(measured.latencies_s)
    return taken_s[int(len(taken_s) * 0.99)]


async def moved_s(gateway: Served, huge: Huge) -> list[float]:
    """By how much that percentile moves while something huge is always under way, in each of some rounds."""
    moved = []
    async with aiohttp.ClientSession(gateway.url, timeout=aiohttp.ClientTimeout(120)) as session:
        await huge(session)  # what only the first needs is loaded
        await wait_s(gateway)
        for _ in range(ROUNDS):
            quiet_s = await wait_s(gateway)
            times, over = 0, asyncio.Event()

            async def repeat(over: asyncio.Event) -> int:
                done = 0
                while not over.is_set():
                    await huge(session)
                    done += 1
                return done

            async with asyncio.TaskGroup() as group:
                repeating = group.create_task(repeat(over))
                beside_s = await wait_s(gateway)
                over.set()
            times = repeating.result()
            assert times > 0
            moved.append(beside_s - quiet_s)
    return moved


# Sends a file again and again, and tells each answer: another process, for this one's loop times the small calls.
_SENDER = """
import sys, urllib.request
body = open(sys.argv[2], "rb").read()
while True:
    request = urllib.request.Request(sys.argv[1], body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        print(answer.status, len(answer.read()), flush=True)
"""


@asynccontextmanager
async def sending(url: str, file: Path) -> AsyncIterator[Process]:
    command = [sys.executable, "-c", _SENDER, url, str(file)]
    async with await anyio.open_process(command, stderr=None) as sender:
        try:
            yield sender
        finally:
            sender.kill()


def sentences(size_chars: int) -> str:
    """Give a document as people write them: sentences in paragraphs."""
    one = "The committee met again on day {0} and heard report {0} of the working group, without a decision. "
    paragraphs = ("".join(one.format(10 * number + line) for line in range(10)) for number in range(size_chars // 900))
    return "\n\n".join(paragraphs)[:size_chars]


@pytest.mark.timeout(300)
async def test_a_document_of_a_million_tokens_that_is_split_moves_no_small_call(tmp_path: Path) -> None:
    file = tmp_path / "document.json"
    await anyio.Path(file).write_text(json.dumps({"input": sentences(4_990_000)}))
    moved = []
    async with gateway_in(tmp_path) as gateway:
        url = f"{gateway.url}/api/v1/services/summarize/validate-execution"
        async with sending(url, file) as sender:
            assert await told(sender)  # what only the first needs is loaded
        await wait_s(gateway)
        for _ in range(ROUNDS):
            quiet_s = await wait_s(gateway)
            async with sending(url, file) as sender:
                moved.append(await wait_s(gateway) - quiet_s)
                assert (await told(sender)).startswith(b"200 ")
                assert sender.returncode is None  # it went on until now

    assert min(moved) < MOVES_S, moved


async def told(sender: Process) -> bytes:
    assert sender.stdout is not None
    with anyio.fail_after(30):
        return await sender.stdout.receive()


@pytest.mark.timeout(300)
async def test_pitfall_070_a_question_over_a_million_rows_moves_no_small_call(tmp_path: Path) -> None:
    await anyio.Path(tmp_path / "data").mkdir()
    assert await filled(tmp_path / "data", 9) > 1_000_000
    span = {"from": START.isoformat(), "to": END.isoformat(), "group_by": "model,key,organization,provider,day"}

    async def huge(session: aiohttp.ClientSession) -> None:
        async with session.get("/v1/usage", params=span) as answer:
            assert answer.status in {200, 503}, await answer.text()

    async with gateway_in(tmp_path) as gateway:
        moved = await moved_s(gateway, huge)

    assert min(moved) < MOVES_S, moved
