"""A gateway in a process of its own, as `make run` starts it: for signals, workers and start-up."""

import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import anyio
import httpx2
from anyio.abc import Process

from tests.planted import Planted
from tests.running import NO_TLS
from tests.tables import lay_out

# Without coverage: a process that is killed keeps nothing of what it saw, and all that it does takes twice the time.
UNMEASURED = ("-u", "COVERAGE_PROCESS_CONFIG")


@dataclass
class Served:
    """A gateway process that serves."""

    url: str
    process_id: int
    child: Process
    log_file: Path
    client: httpx2.AsyncClient

    def logs(self) -> list[dict[str, Any]]:
        # What comes after the last newline is still being written.
        lines = self.log_file.read_bytes().rpartition(b"\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def signal(self, number: signal.Signals) -> float:
        os.kill(self.process_id, number)
        return time.perf_counter()

    async def ended(self, within_s: float) -> int:
        with anyio.fail_after(within_s):
            return await self.child.wait()


@asynccontextmanager
async def served(
    folder: Path,
    catalog: str | None = None,
    *,
    settings: Mapping[str, object] | None = None,
    arguments: Sequence[str] = (),
    first: bool = False,
    measured: bool = True,
) -> AsyncIterator[Served]:
    """Start `llmgateway serve` on a free port and wait for its first healthy answer.

    Args:
        first: It makes the tables of its own database, as at its first start, which takes a second.
        measured: Coverage is, where it is asked for: not needed of what is killed, or of what others measure.
    """
    if catalog is not None:
        (folder / "gateway.yaml").write_text(catalog)
    if not first and "database_url" not in (settings or {}):
        lay_out(folder / str((settings or {}).get("data_dir", "data")) / "llmgateway.db")
    log_file, planted = folder / "serve.log", Planted()
    given = [f"LLMGATEWAY_{name.upper()}={value}" for name, value in (settings or {}).items()]
    environment = ["env", *(() if measured else UNMEASURED), *given]
    command = [*environment, sys.executable, "-m", "llmgateway", "serve", "--port", "0", *arguments]
    with log_file.open("wb") as log:
        async with await anyio.open_process(command, stdin=PIPE, stdout=log, stderr=STDOUT, cwd=folder) as child:
            try:
                url = await _url(log_file, child)
                async with httpx2.AsyncClient(
                    base_url=url, timeout=20, event_hooks=planted.hooks(), verify=NO_TLS
                ) as client:
                    await _healthy(client)
                    yield Served(url, child.pid, child, log_file, client)
            finally:
                if child.returncode is None:
                    child.terminate()
                    with anyio.move_on_after(10, shield=True):
                        await child.wait()
    planted.check(log=log_file.read_bytes())


async def _url(log_file: Path, child: Process) -> str:
    with anyio.fail_after(20):
        while True:
            for line in log_file.read_text().splitlines():  # noqa: ASYNC240  a few lines, in a test
                if '"serving"' in line:
                    url: str = json.loads(line)["url"]
                    return url
            if child.returncode is not None:
                raise RuntimeError(log_file.read_text())  # noqa: ASYNC240  likewise
            await anyio.sleep(0.02)


async def _healthy(client: httpx2.AsyncClient) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                if (await client.get("/health")).status_code == 200:
                    return
            except httpx2.TransportError:
                await anyio.sleep(0.02)
