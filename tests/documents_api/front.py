"""The endpoints of jobs over a real database, and every answer held against what is described."""

import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped]  # it carries no types
from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.api.openapi import openapi_document
from llmgateway.api.routes import Paths
from llmgateway.caller import ANYONE, Caller
from llmgateway.documents_api import execute, jobs, stats, versions
from llmgateway.documents_api.openapi_jobs import described
from llmgateway.middleware.body import Body
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.request_id import RequestID
from llmgateway.storage.admin.rows import Deed
from llmgateway.storage.jobs.rows import Wanted
from llmgateway.telemetry.logs import LineSink, build_logger
from tests.jobs import shop
from tests.jobs.shop import Shop
from tests.lines import Lines

JOBS = described()
_BASE = openapi_document("1.2.3")["components"]
COMPONENTS = {
    kind: {**_BASE.get(kind, {}), **JOBS["components"].get(kind, {})}
    for kind in _BASE.keys() | JOBS["components"].keys()
}


class Front:
    """Asks as whoever a test says.

    Args:
        caller, organization: Who asks, and for whom.
        noted: What administrators did.
    """

    def __init__(self, behind: Shop) -> None:
        self.shop = behind
        self.caller: Caller = ANYONE
        self.organization: str | None = None
        self.may_administer = False
        self.noted: list[Deed] = []
        self.now = datetime.now(UTC)
        self._sink = LineSink(io.BytesIO())
        pages = [
            *execute.routes(behind.desk, behind.jobs),
            *jobs.routes(behind.desk, behind.jobs, self.noted.append),
            *versions.routes(behind.jobs),
            *stats.routes(behind.services, behind.jobs, now=lambda: self.now),
        ]
        logger = build_logger(self._sink, level="debug", log_format="json")
        limited = Body(Paths({}, pages), max_bytes=30_000_000, max_total_bytes=60_000_000)
        app = RequestID(_As(self, Errors(limited, logger=logger)))
        self.client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")

    @property
    def everything(self) -> Wanted:
        return Wanted(everyone=True)

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        """Ask; the answer must be as described."""
        answer = await self.send(method, path, body, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, body: Any = None, *, status: int, **more: Any) -> dict[str, Any]:
        """Ask for what is refused; gives the error."""
        error: dict[str, Any] = await self.ask(method, path, body, status, **more)
        assert error["detail"]
        return error

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        if body is not None:
            more["json"] = body
        answer = await self.client.request(method, f"/api/v1{path}", **more)
        hold_against_description(method, f"/api/v1{path}".partition("?")[0], answer)
        return answer

    async def close(self) -> None:
        await self.client.aclose()
        self._sink.close()


class _As:
    def __init__(self, front: Front, app: ASGIApp) -> None:
        self._front = front
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = scope["exchange"]
        exchange.caller = self._front.caller
        named = scope["named_headers"].get(b"x-organization-id")
        exchange.organization = named.decode() if named else self._front.organization or self._front.caller.organization
        exchange.may_administer = self._front.may_administer
        await self._app(scope, receive, send)


@asynccontextmanager
async def opened(folder: Path, lines: Lines) -> AsyncIterator[Front]:
    async with shop.opened(folder, lines) as behind:
        front = Front(behind)
        try:
            yield front
        finally:
            await front.close()


def hold_against_description(method: str, path: str, answer: httpx2.Response) -> None:
    """Hold an answer against what OpenAPI's document says of it."""
    places = sorted(JOBS["paths"], key=lambda one: one.count("{"))
    where = next(one for one in places if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path))
    operation = JOBS["paths"][where].get(method.lower())
    if operation is None:
        assert answer.status_code == 405
        return
    written = operation["responses"].get(str(answer.status_code))
    assert written is not None, f"{method} {where} does not say that it may answer {answer.status_code}: {answer.text}"
    if "$ref" in written:
        written = COMPONENTS["responses"][written["$ref"].rpartition("/")[2]]
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = written["content"][media_type]["schema"]
    value = answer.json() if media_type == "application/json" else answer.text
    jsonschema.Draft202012Validator({**schema, "components": COMPONENTS}).validate(value)
