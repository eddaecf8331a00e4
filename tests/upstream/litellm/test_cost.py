"""What translating costs beside LiteLLM's own call: CPU time, both in one run, without the provider that is played."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.exchange import Call, Complete
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.litellm.library import library_arguments
from tests.upstream.translated import ANTHROPIC, TOOLS, streamed
from tests.upstreams.server import Player

pytestmark = [
    pytest.mark.alone,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_"),
]
WORDS = 200
QUESTION = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is new?"}]}
LONG = {"messages": [{"role": "user", "content": " ".join(f"word{number}" for number in range(WORDS))}]}


class Provider:
    """A player in a thread of its own, so that what it takes can be told from what is measured."""

    def __init__(self) -> None:
        self.address = ""
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._play(),))
        self._thread.start()
        assert self._ready.wait(10)
        self._clock = time.pthread_getcpuclockid(self._thread.ident or 0)

    def others_s(self) -> float:
        """CPU seconds of this process so far, without those of the player."""
        return time.process_time() - time.clock_gettime(self._clock)

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    async def _play(self) -> None:
        async with Player(ANTHROPIC.wire()) as player:
            self.address = player.base
            self._ready.set()
            await asyncio.to_thread(self._over.wait)


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture
async def deployment(provider: Provider, litellm: Any) -> AsyncIterator[Deployment]:
    account = Account(
        name="main", provider="anthropic", wire="litellm", api_key=ANTHROPIC.key, api_base=provider.address
    )
    yield Deployment(account=account, model=ANTHROPIC.model)
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


async def _times_less(
    provider: Provider, ours: Callable[[], Awaitable[None]], theirs: Callable[[], Awaitable[None]], number: int
) -> float:
    """How many times what LiteLLM's call costs is of ours, best of six each, by turns."""
    best = {ours: float("inf"), theirs: float("inf")}
    for _ in range(6):
        for ask in (ours, theirs):
            before = provider.others_s()
            for _ in range(number):
                await ask()
            best[ask] = min(best[ask], provider.others_s() - before)
    return best[theirs] / best[ours]


@pytest.mark.parametrize(("asked", "least"), [({}, 7.5), ({"tools": TOOLS}, 5.5)], ids=["plain", "tools"])
async def test_a_call_costs_a_fraction_of_litellms(
    upstream: LiteLLMUpstream,
    litellm: Any,
    provider: Provider,
    deployment: Deployment,
    asked: dict[str, Any],
    least: float,
) -> None:
    call = Call("chat", "m", json.dumps({"model": "m", **QUESTION, **asked}).encode(), stream=False)
    arguments = library_arguments(deployment)

    async def ours() -> None:
        assert isinstance(await upstream.send(deployment, call), Complete)

    async def theirs() -> None:
        assert (await litellm.acompletion(**arguments, **QUESTION, **asked)).choices

    # 10.8 and 8.3 when this was written; most of what is left is the transport.
    assert await _times_less(provider, ours, theirs, 20) > least


async def test_a_chunk_costs_a_fraction_of_litellms(
    upstream: LiteLLMUpstream, litellm: Any, provider: Provider, deployment: Deployment
) -> None:
    call = Call("chat", "m", json.dumps({"model": "m", "stream": True, **LONG}).encode(), stream=True)
    arguments = library_arguments(deployment)

    async def ours() -> None:
        stream = streamed(await upstream.send(deployment, call))
        assert [chunk async for chunk in stream.chunks]

    async def theirs() -> None:
        stream = await litellm.acompletion(**arguments, **LONG, stream=True)
        assert len([chunk async for chunk in stream]) >= WORDS

    # 16 on a quiet machine, where each piece wakes its reader; 44 on a busy one, where many come together.
    assert await _times_less(provider, ours, theirs, 2) > 10
