"""The admin's pages over a real database, and every answer held against what is described."""

import io
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jsonschema  # type: ignore[import-untyped]  # it carries no types
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.api.admin import audit, cache, catalog, deployments, keys, limits, organizations, providers
from llmgateway.api.admin.spending import Standings
from llmgateway.api.openapi import openapi_document
from llmgateway.api.routes import Paths
from llmgateway.caller import Caller
from llmgateway.catalog.source import CatalogSource
from llmgateway.catalog_rows import CatalogRows
from llmgateway.gateway.cache_admin import CacheAdmin, Tally
from llmgateway.gateway.rules import RuleBook
from llmgateway.keys.modes import ADMIN
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.request_id import RequestID
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.sealing import Seal, new_encryption_key
from llmgateway.storage.storage import Storage
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.telemetry.logs import LineSink, build_logger
from tests.tables import lay_out

DOCUMENT = openapi_document("1.2.3")
FILE = """
providers: {main: {provider: openai, api_key: "${KEY}", options: {organization: org-canary}}}
models:
  - {name: chat, deployments: [{provider: main, model: gpt-4o}]}
limits: {tiers: {house: {requests_per_minute: 7}}}
"""
ENVIRON = {"KEY": "sk-canary-of-the-environment"}


def _unheard(event: str, /, **fields: object) -> None:
    """Nobody listens."""


class Office:
    """What a test asks, and what lies behind it.

    Args:
        changes: How often somebody was told that something changed.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "gateway.yaml").write_text(FILE)
        self.folder = folder
        self.log = io.BytesIO()
        self.sink = LineSink(self.log)
        self.logger = build_logger(self.sink, level="debug", log_format="json")
        lay_out(folder / "llmgateway.db")
        self.database = Storage(None, folder, logger=self.logger)
        self.storage = AdminStorage(self.database)
        self.source = CatalogSource(folder / "gateway.yaml", ENVIRON, _unheard)
        self.seal = Seal([new_encryption_key()])
        self.rows = CatalogRows(self.storage, self.seal, self.source, self.logger)
        self.limiter, self.values, self.tally = MemoryLimiter(), MemoryValues(), Tally()
        self.rules = RuleBook(lambda: self.source.current, enabled=True)
        self.caller = ADMIN
        self.changes = 0
        self.client = self._client()

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Ask; the answer must be as described."""
        answer = await self.send(method, path, body, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, body: Any = None, status: int = 400, **more: Any) -> dict[str, Any]:
        """Ask for what is refused; gives the error."""
        answer = await self.send(method, path, body, **more)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()["error"]
        return error

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        if body is not None:
            more["json"] = body
        answer = await self.client.request(method, path, **more)
        described(method, path, answer)
        return answer

    async def reloaded(self) -> None:
        """Serve what was written."""
        await self.rows.load()
        await self.source.look()

    async def deeds(self) -> list[tuple[str, str]]:
        """What was written down, the newest first."""
        return [(row.action, row.subject) for row in (await self.storage.audit()).rows]

    async def changed(self) -> None:
        self.changes += 1

    def pages(self) -> Sequence[BaseRoute]:
        def current() -> Any:
            return self.source.current

        spending = Standings(self.limiter, self.storage)
        return [
            *keys.routes(self.storage, current, spending, self.changed),
            *organizations.routes(self.storage, spending, self.changed),
            *providers.routes(self.storage, self.seal, current, self.changed),
            *deployments.routes(self.storage, current, self.changed),
            *cache.routes(CacheAdmin(self.values, self.tally), self.storage),
            *limits.routes(self.storage, self.limiter, self.rules.of_caller),
            *audit.routes(self.storage),
            *catalog.routes(self.source),
        ]

    def _client(self) -> httpx2.AsyncClient:
        app = RequestID(_As(self, Errors(Paths({}, self.pages()), logger=self.logger)))
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


class _As:
    """Whoever asks is who the test says."""

    def __init__(self, office: Office, app: ASGIApp) -> None:
        self._office = office
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["exchange"].caller = self._office.caller
        await self._app(scope, receive, send)


SOMEBODY = Caller(kind="client", key_id="key_1")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Office]:
    office = Office(folder)
    try:
        with anyio.fail_after(20):
            await office.database.open()
        yield office
    finally:
        await office.client.aclose()
        await office.database.close()
        office.sink.close()


def described(method: str, path: str, answer: httpx2.Response) -> None:
    """Hold an answer against what OpenAPI's document says of it."""
    where = next((one for one in DOCUMENT["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path)), None)
    operation = DOCUMENT["paths"].get(where, {}).get(method.lower())
    assert operation is not None or answer.status_code in {404, 405}, path
    if operation is None:
        return
    written = operation["responses"].get(str(answer.status_code))
    assert written is not None, f"{method} {where} does not say that it may answer {answer.status_code}: {answer.text}"
    if "$ref" in written:
        written = DOCUMENT["components"]["responses"][written["$ref"].rpartition("/")[2]]
    schema = written["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(answer.json())
