"""A provider in a process of its own, which can be killed, stopped and started again at the same place."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import uvloop
from anyio.abc import Process

from tests.upstreams.openai_wire import mistral
from tests.upstreams.server import Player

ROOT = Path(__file__).parents[2]
KEY = "mistral-upstream"
_PAUSE_S = 0.02


class Apart:
    """Plays Mistral, which goes on with what another has begun; its streams take some time."""

    def __init__(self) -> None:
        self.port = 0
        self._child: Process | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Play, at the same port as before."""
        command = [sys.executable, "-m", "tests.e2e.apart", str(self.port)]
        child = self._child = await anyio.open_process(command, cwd=ROOT, stderr=None)
        assert child.stdout is not None
        with anyio.fail_after(20):
            self.port = int(await child.stdout.receive())

    def signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        os.kill(self._child.pid, number)

    async def kill(self) -> None:
        """End it at once, as a machine ends that loses its power: nobody who waits is told why."""
        if self._child is not None:
            self._child.kill()
            await self._child.aclose()
            self._child = None


@asynccontextmanager
async def apart() -> AsyncIterator[Apart]:
    """Play in another process."""
    upstream = Apart()
    await upstream.start()
    try:
        yield upstream
    finally:
        with anyio.CancelScope(shield=True):
            await upstream.kill()


async def _play(port: int) -> None:
    async with Player(mistral(KEY), port=port) as player:
        player.always(lambda step: step.paced(_PAUSE_S))
        sys.stdout.write(f"{player.port}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(_play(int(sys.argv[1])))
