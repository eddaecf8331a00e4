"""Many clients of OpenAI's SDK at once, which never ask twice by themselves, and how each of their calls went."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import openai

from tests.running import NO_TLS


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: when it began (`time.perf_counter` seconds), how long its whole answer took, and who gave it.

    Args:
        fault: Why it failed; `None` when it did not.
    """

    began: float
    took_s: float
    attempts: int = 0
    provider: str = ""
    fault: str | None = None


class Crowd:
    """Asks the model `chat` over and over, as many calls at once as it has clients; every second one is a stream.

    Args:
        words: What is asked, and what an answer has to be.
    """

    def __init__(
        self, url: str, *, words: str = "yes", clients: int = 32, strategies: Iterable[str] = ("round_robin",)
    ) -> None:
        self.asked: list[Asked] = []
        self._under_way: set[int] = set()
        self._changed = asyncio.Event()
        self._words = words
        self._messages: list[Any] = [{"role": "user", "content": words}]
        self._clients = clients
        self._strategies = itertools.cycle(strategies)
        self._numbers = itertools.count()
        http_client = openai.DefaultAsyncHttpxClient(verify=NO_TLS)
        self._sdk = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="client-key", max_retries=0, timeout=60, http_client=http_client
        )

    async def close(self) -> None:
        await self._sdk.close()

    async def ask(self, times: int) -> list[Asked]:
        """Make so many calls; give how they went, in the order in which they began."""
        left = iter(range(times))
        return await self._together(lambda: next(left, None) is not None)

    async def ask_while(self, goes_on: Callable[[], bool], within_s: float = 20.0) -> list[Asked]:
        """Make calls for as long as this is so; `TimeoutError` when it is so for too long."""
        async with asyncio.timeout(within_s):
            return await self._together(goes_on)

    async def until(self, condition: Callable[[], bool], within_s: float = 20.0) -> None:
        """Wait for calls of others to bring this about; `TimeoutError` when they do not."""
        async with asyncio.timeout(within_s):
            while not condition():
                await self._changed.wait()

    async def until_ended(self) -> None:
        """Wait for all calls of others that are under way now."""
        now = set(self._under_way)
        await self.until(lambda: not now & self._under_way)

    async def one(self, *, stream: bool, headers: Mapping[str, str]) -> Asked:
        """Make one call."""
        began = time.perf_counter()
        try:
            answer = await self._sdk.chat.completions.with_raw_response.create(
                model="chat", messages=self._messages, stream=stream, extra_headers=headers
            )
            told = await _text(answer.parse())
        except openai.OpenAIError as error:
            return Asked(began, time.perf_counter() - began, fault=repr(error))
        fault = None if told == self._words else f"another answer: {told!r}"
        took_s = time.perf_counter() - began
        return Asked(began, took_s, int(answer.headers["x-attempts"]), answer.headers["x-provider"], fault)

    async def _together(self, goes_on: Callable[[], bool]) -> list[Asked]:
        asked: list[Asked] = []

        async def client() -> None:
            while goes_on():
                headers = {"X-Route-Strategy": next(self._strategies), "Cache-Control": "no-store"}
                number = next(self._numbers)
                self._under_way.add(number)
                asked.append(await self.one(stream=number % 2 == 0, headers=headers))
                self._under_way.discard(number)
                self.asked.append(asked[-1])
                self._changed.set()
                self._changed = asyncio.Event()

        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(client())
        return sorted(asked, key=lambda one: one.began)


async def _text(answer: Any) -> str:
    if not isinstance(answer, openai.AsyncStream):
        return str(answer.choices[0].message.content)
    return "".join([choice.delta.content or "" async for chunk in answer for choice in chunk.choices])


def faults(asked: Iterable[Asked]) -> list[str]:
    return [one.fault for one in asked if one.fault is not None]


def percentile_s(asked: Iterable[Asked], percent: int) -> float:
    """The seconds that so many of a hundred calls took at most."""
    took = sorted(one.took_s for one in asked)
    return took[min(len(took) - 1, len(took) * percent // 100)]
