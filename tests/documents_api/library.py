"""Services and their parts over a real database, asked as whoever a test says."""

import io
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jsonschema  # type: ignore[import-untyped]  # it carries no types
import msgspec
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.api.admin import deployments, providers
from llmgateway.api.openapi import openapi_document
from llmgateway.api.routes import together
from llmgateway.caller import ANYONE, Caller
from llmgateway.catalog.source import CatalogSource
from llmgateway.catalog_rows import CatalogRows
from llmgateway.documents_api import openapi_jobs
from llmgateway.documents_api.catalog import accounts, openapi_catalog, tokenizers
from llmgateway.documents_api.entities import openapi_entities
from llmgateway.documents_api.entities.routes import routes
from llmgateway.documents_api.shelves.keeping import Keeping
from llmgateway.exchange import Call, Complete, Exchange, Reply, Usage
from llmgateway.jobs.services import Services
from llmgateway.keys.modes import ADMIN
from llmgateway.middleware.body import Body
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.request_id import RequestID
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.sealing import Seal, new_encryption_key
from llmgateway.storage.storage import Storage
from llmgateway.telemetry.logs import LineSink, build_logger
from llmgateway.tokens import TokenCounter
from tests.tables import lay_out

FILE = """
providers: {main: {provider: openai, api_key: "${KEY}"}}
models:
  - {name: chat, deployments: [{provider: main, model: gpt-4o}]}
  - {name: private, deployments: [{provider: main, model: gpt-4o-mini}]}
"""
ENVIRON = {"KEY": "sk-canary-of-the-environment"}
ACME = Caller(kind="client", key_id="key_acme", organization="acme", models=("chat", "auto"))
BETA = Caller(kind="client", key_id="key_beta", organization="beta")
ALONE = Caller(kind="client", key_id="key_alone")
COUNTER = TokenCounter()


def _unheard(event: str, /, **fields: object) -> None:
    """Nobody listens."""


class Library:
    """What a test asks, and what lies behind it.

    Args:
        may_administer: Whether the caller administers without being `admin`: a person at the machine.
        asked: The calls of models, and what is answered to the next.
        changes: How often somebody was told that something changed.
    """

    def __init__(self, folder: Path, file: str = FILE) -> None:
        (folder / "gateway.yaml").write_text(file)
        self.log = io.BytesIO()
        self.sink = LineSink(self.log)
        self.logger = build_logger(self.sink, level="debug", log_format="json")
        lay_out(folder / "llmgateway.db")
        self.database = Storage(None, folder, logger=self.logger)
        self.storage = AdminStorage(self.database)
        self.source = CatalogSource(folder / "gateway.yaml", ENVIRON, _unheard)
        self.seal = Seal([new_encryption_key()])
        self.rows = CatalogRows(self.storage, self.seal, self.source, self.logger)
        self.services = Services(self.storage)
        self.keeping = Keeping(self.storage, self.services, lambda: self.source.current, self.changed)
        self.caller: Caller = ADMIN
        self.organization: str | None = None
        self.may_administer = False
        self.changes = 0
        self.asked: list[tuple[Exchange, dict[str, Any]]] = []
        self.recorded: list[Exchange] = []
        self.failure: Exception | None = None
        self.more: list[Route] = []
        self.client = self._client()

    def renew(self) -> None:
        """Serve what was added."""
        self.client = self._client()

    def become(self, caller: Caller, organization: str | None = None, *, may_administer: bool = False) -> None:
        """Ask as somebody from here on."""
        self.caller, self.organization = caller, organization or caller.organization
        self.may_administer = may_administer

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Ask for what is given."""
        answer = await self.send(method, path, body, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, body: Any = None, status: int = 400, **more: Any) -> dict[str, Any]:
        """Ask for what is refused; gives the error."""
        answer = await self.send(method, path, body, **more)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()
        return error

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        if body is not None:
            more["json"] = body
        answer = await self.client.request(method, f"/api/v1{path}", **more)
        described(method, f"/api/v1{path}", answer)
        return answer

    async def made(self, **fields: Any) -> Any:
        """Make a service."""
        body = {"name": "Notes", "flavors": [{"name": "one", "model": "chat"}], **fields}
        return await self.ask("POST", "/services", body)

    async def added(self, service: Any, name: str, **fields: Any) -> Any:
        """Give a service another flavor."""
        body = {"name": name, "model": "chat", **fields}
        return await self.ask("POST", f"/services/{service['id']}/flavors", body)

    async def reloaded(self) -> None:
        """Serve the providers and models that were written."""
        await self.rows.load()
        await self.source.look()

    async def deeds(self) -> list[tuple[str, str, str | None]]:
        """What was written down, the newest first."""
        return [(row.actor, row.action, row.organization_id) for row in (await self.storage.audit()).rows]

    async def changed(self) -> None:
        self.changes += 1

    async def answer(self, exchange: Exchange, call: Call) -> Reply:
        self.asked.append((exchange, msgspec.json.decode(call.body)))
        if self.failure is not None:
            raise self.failure
        exchange.provider, exchange.upstream_model, exchange.cost_usd = "main", "gpt-4o", 0.002
        exchange.usage = Usage(prompt_tokens=3, completion_tokens=2)
        message = {"role": "assistant", "content": "Well."}
        return Complete(msgspec.json.encode({"choices": [{"message": message, "finish_reason": "stop"}]}))

    def record(self, exchange: Exchange) -> None:
        self.recorded.append(exchange)

    def entity_pages(self) -> list[Route]:
        return routes(self.keeping, self.answer, self.record)

    def pages(self) -> Sequence[BaseRoute]:
        def current() -> Any:
            return self.source.current

        admin = [
            *providers.routes(self.storage, self.seal, current, self.changed),
            *deployments.routes(self.storage, current, self.changed),
        ]
        return [
            *self.entity_pages(),
            *tokenizers.routes(COUNTER, current),
            *accounts.routes(self.storage, current, admin),
            *self.more,
        ]

    def _client(self) -> httpx2.AsyncClient:
        router = Router(routes=together(self.pages()), redirect_slashes=False)
        body = Body(router, max_bytes=10_000_000, max_total_bytes=100_000_000)
        app = RequestID(_As(self, Errors(body, logger=self.logger)))
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


class _As:
    """Whoever asks is who the test says."""

    def __init__(self, library: Library, app: ASGIApp) -> None:
        self._library = library
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, library = scope["exchange"], self._library
        exchange.caller, exchange.organization = library.caller, library.organization
        exchange.may_administer = library.may_administer or library.caller.kind == "admin"
        scope["app"] = self
        await self._app(scope, receive, send)


ANYBODY = ANYONE


def _document() -> dict[str, Any]:
    """Put together what is said of all that is asked here."""
    parts = [openapi_document("1.2.3"), openapi_jobs.described(), openapi_entities.described()]
    parts.append(openapi_catalog.described())
    whole: dict[str, Any] = {"paths": {}, "components": {}, "tags": []}
    for part in parts:
        whole["tags"] += part["tags"]
        for path, methods in part["paths"].items():
            whole["paths"].setdefault(path, {}).update(methods)
        for kind, components in part["components"].items():
            whole["components"].setdefault(kind, {}).update(components)
    return whole


DOCUMENT = _document()


def described(method: str, path: str, answer: httpx2.Response) -> None:
    """Hold an answer against what OpenAPI's document says of it."""
    fitting = [one for one in DOCUMENT["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path)]
    where = min(fitting, key=lambda one: one.count("{"), default="")
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


@asynccontextmanager
async def opened(folder: Path, file: str = FILE) -> AsyncIterator[Library]:
    library = Library(folder, file)
    try:
        with anyio.fail_after(20):
            await library.database.open()
        yield library
    finally:
        await library.client.aclose()
        await library.database.close()
        library.sink.close()
