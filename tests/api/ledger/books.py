"""The ledger's pages behind the middleware that they count on, over books that a test writes."""

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import anyio
from starlette.routing import BaseRoute
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from llmgateway.api.ledger.asking import Reach
from llmgateway.api.routes import Paths
from llmgateway.ids import new_id
from llmgateway.keys.modes import Identify
from llmgateway.middleware.auth import Auth
from llmgateway.middleware.errors import Errors
from llmgateway.middleware.request_id import RequestID
from llmgateway.storage.entry import AttemptEntry, LedgerEntry
from llmgateway.storage.queries import Costs, Group, Performance, Trend, UsageTotals
from llmgateway.telemetry.logs import LineSink, build_logger
from tests.running import Running

FOREVER = object()  # as an answer: it never comes


def asking(pages: Sequence[BaseRoute], identify: Identify | None = None) -> TestClient:
    """Ask pages as a client does, in auth mode none unless another is given; a bug in them is a 500."""
    logger = build_logger(LineSink(io.BytesIO()), level="debug", log_format="json")
    guarded = Auth(Paths({}, pages), identify=identify or Identify("none"), loopback=True)
    stack = RequestID(Errors(guarded, logger=logger))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await stack(scope, receive, send)  # which hands on and is no coroutine, as the client wants its application

    return TestClient(app)


def entry_of_a_call(**fields: Any) -> LedgerEntry:
    """Make the entry of a chat that went well."""
    entry = LedgerEntry(
        id=new_id("req"),
        at_us=1_795_253_400_123_456,
        operation="chat",
        requested_model="chat",
        status=200,
        duration_ms=812.5,
        overhead_ms=0.7,
        model="chat",
        upstream_model="gpt-4o",
        response_model="gpt-4o-2024-08-06",
        provider="main",
        deployment="main/gpt-4o",
        prompt_tokens=30,
        completion_tokens=12,
        cost_nusd=195_000,
        upstream_ms=811.8,
        attempts=[AttemptEntry("main", "gpt-4o", 0.4, 811.8, "ok", None, 210.2)],
    )
    for name, value in fields.items():
        setattr(entry, name, value)
    return entry


async def flushed(_: float) -> bool:
    """Have nothing to ship."""
    return True


class Books:
    """A database that knows nothing, until a test gives it what it is to answer. Keeps what it was asked."""

    def __init__(self, answer: Any = None, *, entries: Sequence[LedgerEntry] = (), from_question: int = 1) -> None:
        self._answer = answer
        self._entries = entries
        self._from_question = from_question
        self.asked: list[tuple[Any, ...]] = []

    async def find(self, request_id: str, reach: Reach) -> LedgerEntry | None:
        await self._given(request_id, reach)
        if len(self.asked) < self._from_question:
            return None
        for entry in self._entries:
            if request_id in {entry.id, entry.client_id} and reach.covers(entry):
                return entry
        return None

    async def usage(
        self, start: datetime, end: datetime, groups: Sequence[Group], reach: Reach
    ) -> Sequence[UsageTotals]:
        return cast("Sequence[UsageTotals]", await self._given(start, end, groups, reach))

    async def performance(self, hours: int) -> Performance:
        return cast("Performance", await self._given(hours))

    async def trends(self, hours: int) -> Sequence[Trend]:
        return cast("Sequence[Trend]", await self._given(hours))

    async def costs(self, hours: int) -> Costs:
        return cast("Costs", await self._given(hours))

    async def _given(self, *question: Any) -> Any:
        self.asked.append(question)
        if self._answer is FOREVER:
            await anyio.sleep_forever()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


async def ready(served: Running) -> None:
    """Wait until the database is open."""
    with anyio.fail_after(20):
        while (await served.client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110  nothing tells it from outside
            await anyio.sleep(0.02)
