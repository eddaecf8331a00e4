"""A gateway on a real socket, in this process: what most tests ask."""

import asyncio
import io
import json
import socket
import ssl
import textwrap
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest
import uvicorn
from typing_extensions import override

from llmgateway import recording
from llmgateway.app import create_app
from llmgateway.exchange import Exchange
from llmgateway.lifespan import Application
from llmgateway.server import bind, configuration
from llmgateway.settings import Settings, load_settings
from llmgateway.telemetry.logs import LineSink, build_logger
from llmgateway.telemetry.traces.export import Traces
from llmgateway.telemetry.traces.spans import spans_of
from tests.planted import Planted
from tests.tables import lay_out

# Every address is http: to read the authorities that are trusted would take each client 40 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_MOST_SPANS_CHARS = 4_000_000


@dataclass
class Running:
    """A gateway that serves."""

    url: str
    app: Application
    server: uvicorn.Server
    client: httpx2.AsyncClient
    openai: openai.AsyncOpenAI
    catalog_file: Path
    _sink: LineSink
    _log: io.BytesIO

    def logs(self) -> list[dict[str, Any]]:
        """Every log line so far."""
        self._sink.flush()
        return [json.loads(line) for line in self._log.getvalue().splitlines()]

    async def logged(self, event: str, within_s: float = 5.0, **fields: object) -> dict[str, Any]:
        """Wait for a log line."""
        with anyio.fail_after(within_s):
            while True:
                for line in self.logs():
                    if line["event"] == event and fields.items() <= line.items():
                        return line
                await anyio.sleep(0.01)


@asynccontextmanager
async def running(
    folder: Path, catalog: str | None = None, *, environ: Mapping[str, str] | None = None, **settings: object
) -> AsyncIterator[Running]:
    """Serve a catalog (YAML; `None` is no file) with settings by their Python names (`retry__max_retries=0`)."""
    path = folder / "gateway.yaml"
    if catalog is not None:
        path.write_text(textwrap.dedent(catalog))
    given = {f"LLMGATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    given = {"LLMGATEWAY_DATA_DIR": str(folder / "data"), **given}
    given = {"LLMGATEWAY_CATALOG": str(path), "LLMGATEWAY_RETRY__MIN_DELAY_S": "0.01", **given, **(environ or {})}
    log = io.BytesIO()
    sink = LineSink(log)
    logger = build_logger(sink, level="debug", log_format="json")
    chosen, planted, spans = load_settings(given), Planted(), io.StringIO()
    laid_out = given["LLMGATEWAY_DATA_DIR"] == str(folder / "data")
    if laid_out:
        lay_out(folder / "data" / "llmgateway.db")
    app = _made(chosen, given, logger, spans)
    server = uvicorn.Server(configuration(app, chosen))
    listening = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with (
        _serving(server, listening),
        httpx2.AsyncClient(base_url=url, timeout=20, event_hooks=planted.hooks(), verify=NO_TLS) as client,
        openai.DefaultAsyncHttpxClient(event_hooks=planted.hooks(), verify=NO_TLS) as http_client,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="client-key", max_retries=0, http_client=http_client) as sdk,
    ):
        if laid_out and chosen.database_url is None and chosen.auth.mode in {"client", "hybrid"}:
            await opened(client)
        yield Running(url, app, server, client, sdk, path, sink, log)
        metrics = await _metrics(client, chosen)
    sink.close()
    planted.check(log=log.getvalue(), metrics=metrics, spans=spans.getvalue())


@asynccontextmanager
async def _serving(server: uvicorn.Server, listening: socket.socket) -> AsyncIterator[None]:
    """Serve until left, and end in order even when the test fails: a socket left open stops uvloop from closing."""
    ended = anyio.Event()

    async def serve() -> None:
        try:
            await server.serve([listening])
        finally:
            ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        try:
            while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
                await asyncio.sleep(0.005)
            yield
        finally:
            server.should_exit = True
            with anyio.move_on_after(10, shield=True):
                await ended.wait()


async def opened(client: httpx2.AsyncClient) -> None:
    """Wait for the database, without which no key is known; it opens a moment after the start."""
    with anyio.fail_after(10):
        while (await client.get("/health/ready")).json()["checks"].get("database") != "ok":  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def _made(settings: Settings, environ: Mapping[str, str], logger: Any, spans: io.StringIO) -> Application:
    """Make a gateway that writes the spans of each request down, also where none are exported."""

    class Written(Traces):
        @override
        def record(self, exchange: Exchange) -> None:
            if spans.tell() < _MOST_SPANS_CHARS:
                spans.writelines(f"{span.name} {span.attributes} {span.events}\n" for span in spans_of(exchange))
            super().record(exchange)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "Traces", Written)
        return create_app(settings, environ, logger=logger)


async def _metrics(client: httpx2.AsyncClient, settings: Settings) -> bytes:
    """Read what a scrape would see, unless the test has ended the gateway already."""
    key = settings.metrics_key or settings.admin_key
    headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
    with anyio.move_on_after(2):
        try:
            return (await client.get("/metrics", headers=headers)).content
        except httpx2.HTTPError:
            return b""
    return b""
