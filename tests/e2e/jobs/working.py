"""A gateway that serves and workers beside it, each a process that can be killed: the Given of tests of failures."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT
from typing import Any

import anyio
import httpx2
from anyio.abc import Process

from tests.e2e.jobs.model import PROMPTS, Model, document
from tests.running import NO_TLS
from tests.served import UNMEASURED, Served, served
from tests.upstreams.server import Player

CATALOG = """
providers:
  main: {{provider: openai, api_key: "${{MODEL_KEY:-sk-upstream}}", api_base: "{base}"}}
models:
  - name: chat
    context_length: 16000
    max_output_tokens: 2000
    prices_per_million: {{input: 1, output: 2}}
    deployments: [{{provider: main, model: gpt-4o}}]
"""
ENDED = ("completed", "failed", "cancelled")
# All tests but one wait less for a dead worker than a gateway does by itself.
HURRIED: Mapping[str, object] = {
    "jobs__lease_s": 2,
    "jobs__sweep_s": 0.3,
    "retry__jobs__min_delay_s": 0.05,
    "retry__jobs__max_delay_s": 0.2,
    "silence_s": 0,
}
_LOOK_S = 0.02
# Machines differ, and this one may be busy; whoever waits longer waits in vain.
WITHIN_S = 60.0


class Worker:
    """One `llmgateway worker`."""

    def __init__(self, name: str, child: Process, log_file: Path) -> None:
        self.name = name
        self._child = child
        self._log_file = log_file

    @property
    def process_id(self) -> int:
        return self._child.pid

    def log(self) -> str:
        return self._log_file.read_text("utf-8", "replace")

    async def kill(self) -> None:
        """End it at once."""
        self._child.kill()
        await self._child.wait()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._child.pid, number)

    async def ended(self, within_s: float = 20.0) -> int:
        with anyio.fail_after(within_s):
            return await self._child.wait()

    async def leave(self) -> None:
        if self._child.returncode is None:
            self._child.terminate()
            with anyio.move_on_after(20, shield=True):
                await self._child.wait()
        if self._child.returncode is None:
            self._child.kill()
        await self._child.aclose()


class Works:
    """What a test orders, and those who do it."""

    def __init__(self, folder: Path, model: Model, settings: Mapping[str, object], *, measured: bool) -> None:
        self.folder = folder
        self.measured = measured
        self.model = model
        self.player = Player(model)
        self.settings = {**HURRIED, **settings}
        self.front: Served | None = None
        self.workers: list[Worker] = []
        self._stack = AsyncExitStack()
        self._started = 0

    @property
    def client(self) -> httpx2.AsyncClient:
        assert self.front is not None
        return self.front.client

    @property
    def url(self) -> str:
        assert self.front is not None
        return self.front.url

    async def open_model(self) -> None:
        """Take connections, at the same port as before."""
        await self.player.__aenter__()

    async def close_model(self) -> None:
        """Refuse connections, and end those that there are."""
        port = self.player.port
        await self.player.__aexit__(None, None, None)
        self.player = Player(self.model, port=port)

    async def serve(self, **settings: object) -> Served:
        """Start the gateway, again after it was killed."""
        catalog = CATALOG.format(base=self.player.base)
        front = await self._stack.enter_async_context(
            served(self.folder, catalog, settings={**self.settings, **settings}, measured=self.measured)
        )
        self.front = front
        # It serves models before its database has its tables.
        await until_so(self.knows_services)
        return front

    async def knows_services(self) -> bool:
        """Tell whether the database can be asked."""
        return (await self.client.get("/api/v1/services")).status_code == 200

    async def work(self, count: int = 1, *, threads: int = 8, **settings: object) -> list[Worker]:
        """Start so many workers, side by side; gives them."""
        started: list[Worker] = []

        async def start() -> None:
            started.append(await self._start(threads, settings))

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(start)
        self.workers += started
        return started

    async def _start(self, threads: int, settings: Mapping[str, object]) -> Worker:
        self._started += 1
        name = f"sk-upstream-{self._started}"
        given = {f"LLMGATEWAY_{key.upper()}": value for key, value in {**self.settings, **settings}.items()}
        given["MODEL_KEY"] = name
        environment = [*(() if self.measured else UNMEASURED), *(f"{key}={value}" for key, value in given.items())]
        command = ["env", *environment, sys.executable, "-m", "llmgateway", "worker", "--port", "0"]
        log_file = self.folder / f"worker-{self._started}.log"
        with log_file.open("wb") as log:
            child = await anyio.open_process(
                [*command, "--threads", str(threads)], stdout=log, stderr=STDOUT, cwd=self.folder
            )
        worker = Worker(name, child, log_file)
        self._stack.push_async_callback(worker.leave)
        await until(lambda: '"working"' in worker.log() or child.returncode is not None)
        assert child.returncode is None, worker.log()
        return worker

    async def offer(self, route: str = "minutes", **settings: object) -> None:
        """Offer a service that takes a line of the document at a time."""
        flavor = {"name": "one", "model": "chat", "max_new_turns": 1, **PROMPTS, **settings}
        answer = await self.client.post("/api/v1/services", json={"name": route, "flavors": [flavor]})
        assert answer.status_code == 201, answer.text

    async def order(self, name: str, route: str = "minutes", *, lines: int = 15) -> str:
        """Order a job about a document of that name."""
        asked = {"input": document(name, lines)}
        answer = await self.client.post(f"/api/v1/services/{route}/execute", json=asked)
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["job_id"]
        return job_id

    async def job(self, job_id: str) -> dict[str, Any]:
        """Read a job with its passes."""
        answer = await self.client.get(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def kill_one(self, name: str) -> Worker:
        """Kill whoever asked last about a document."""
        victim = next(one for one in self.workers if one.name == self.model.of(name)[-1].worker)
        self.workers.remove(victim)
        await victim.kill()
        return victim

    async def ended(self, job_id: str, status: str = "completed", *, within_s: float = WITHIN_S) -> dict[str, Any]:
        """Wait for the end of a job, which must be this one."""
        job: dict[str, Any] = {"status": None}
        try:
            with anyio.fail_after(within_s):
                while (job := await self.job(job_id))["status"] not in ENDED:  # noqa: ASYNC110  it must be asked for
                    await anyio.sleep(_LOOK_S)
        except TimeoutError:
            raise AssertionError(f"{job['status']}: {job}\n{self.logs()}") from None
        assert job["status"] == status, f"{job}\n{self.logs()}"
        return job

    async def called(self, name: str, count: int = 1, *, within_s: float = WITHIN_S) -> None:
        """Wait until the model was asked so often about a document."""
        await self.player.until(lambda: len(self.model.of(name)) >= count, within_s)

    async def plain(self, route: str = "minutes", *, lines: int = 15) -> str:
        """Have a document done without any trouble; gives what comes out of it, without its name."""
        name = f"plain-{route}"
        job = await self.ended(await self.order(name, route, lines=lines))
        return without(name, job["result"])

    def logs(self) -> str:
        """Give the last of what all have written."""
        return "\n".join(f"{worker.name}: {worker.log()[-2000:]}" for worker in self.workers)

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()


@asynccontextmanager
async def works(
    folder: Path, model: Model | None = None, *, measured: bool = True, **settings: object
) -> AsyncIterator[Works]:
    """Play a model and serve what asks it.

    Args:
        measured: Whether coverage is, where it is asked for.
        settings: Of all processes, over those that hurry.
    """
    given = Works(folder, model or Model(), settings, measured=measured)
    await given.open_model()
    try:
        await given.serve()
        yield given
    finally:
        await given.close()
        await given.player.__aexit__(None, None, None)


def without(name: str, text: str) -> str:
    """Take a document's name out of what was made of it."""
    return text.replace(name, "")


async def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Wait for what nobody tells of."""
    with anyio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110  files and processes have no event
            await anyio.sleep(_LOOK_S)


async def until_so(condition: Callable[[], Awaitable[bool]], within_s: float = WITHIN_S) -> None:
    """Wait for what must be asked for."""
    with anyio.fail_after(within_s):
        while not await condition():  # noqa: ASYNC110  likewise
            await anyio.sleep(_LOOK_S)


@dataclass
class Watcher:
    """Follows a job's events, and comes back when its connection is lost."""

    works: Works
    job_id: str

    async def all(self) -> list[dict[str, Any]]:
        """Give every event, to the last."""
        events: list[dict[str, Any]] = []
        while not events or events[-1]["status"] not in ENDED:
            try:
                async for event in self._connected(len(events)):
                    events.append(event)  # noqa: PERF401  those before a broken connection are kept
            except httpx2.TransportError:
                await anyio.sleep(_LOOK_S)
        return events

    async def _connected(self, after: int) -> AsyncIterator[dict[str, Any]]:
        path = f"{self.works.url}/api/v1/jobs/{self.job_id}/events"
        async with (
            httpx2.AsyncClient(timeout=30, verify=NO_TLS) as client,
            client.stream("GET", path, headers={"last-event-id": str(after)}) as answer,
        ):
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
