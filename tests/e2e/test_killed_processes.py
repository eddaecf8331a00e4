"""What becomes of a gateway whose processes are killed, one after the other (pitfalls, group K)."""

import os
import signal
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.served import Served, served

pytestmark = pytest.mark.timeout(120)

CHAT = {"model": "demo/echo", "messages": [{"role": "user", "content": "hi"}]}


def children_of(process_id: int) -> set[int]:
    """Name the living children of a process: the workers, and what Python starts beside them."""
    return {int(child) for child in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()}


def is_a_worker(process_id: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{process_id}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


async def answered(gateway: Served) -> httpx2.Response | None:
    """Ask on a connection of its own; `None` when the one that accepted it was killed."""
    try:
        return await gateway.client.post("/v1/chat/completions", json=CHAT, headers={"connection": "close"})
    except httpx2.TransportError:
        return None


async def workers(gateway: Served, count: int, *, without: int = 0) -> set[int]:
    """Wait until so many workers live, none of them the one that was killed."""
    alive: set[int] = set()
    with anyio.fail_after(20):
        while len(alive) != count or without in alive:
            alive = {child for child in children_of(gateway.process_id) if is_a_worker(child)}
            await anyio.sleep(0.02)
    return alive


async def test_pitfall_086_a_killed_child_is_replaced_and_the_gateway_goes_on_serving(tmp_path: Path) -> None:
    async with served(tmp_path, settings={"workers": 2}) as gateway:
        for victim in sorted(await workers(gateway, 2)):
            os.kill(victim, signal.SIGKILL)

            now = await workers(gateway, 2, without=victim)
            with anyio.fail_after(20):
                while (await gateway.client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110  the probe is the event
                    await anyio.sleep(0.02)
            assert victim not in now
            answers = [await answered(gateway) for _ in range(10)]
            assert {None if answer is None else answer.status_code for answer in answers} == {200}

        # Python starts a process of its own beside the workers: without it, all goes on.
        for other in children_of(gateway.process_id) - await workers(gateway, 2):
            os.kill(other, signal.SIGKILL)
        answer = await answered(gateway)
        assert answer is not None
        assert answer.status_code == 200

        gateway.signal(signal.SIGTERM)
        assert await gateway.ended(within_s=20) == 0


async def test_pitfall_086_a_gateway_of_one_process_that_is_killed_ends_and_answers_nobody(tmp_path: Path) -> None:
    async with served(tmp_path) as gateway:
        assert (await answered(gateway)) is not None
        gateway.signal(signal.SIGKILL)

        assert await gateway.ended(within_s=5) != 0
        assert await answered(gateway) is None
