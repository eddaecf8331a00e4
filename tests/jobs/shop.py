"""A desk over a real database, with services that a test makes, and nobody who runs jobs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import anyio

from llmgateway.caller import Caller
from llmgateway.catalog.load import load
from llmgateway.catalog.snapshot import Catalog
from llmgateway.flavor import Flavor
from llmgateway.ids import new_uuid
from llmgateway.jobs.desk import Desk
from llmgateway.jobs.order import Order
from llmgateway.jobs.services import Part, Services
from llmgateway.storage.documents.rows import FlavorRow, PromptRow, ServiceRow
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import EventRow, JobFault, JobRow, PassRow, Status, Step, Totals
from llmgateway.storage.storage import Storage
from llmgateway.tokens.counter import TokenCounter
from tests.lines import Lines
from tests.tables import lay_out

FILE = """
providers: {main: {provider: openai, api_key: sk-canary}}
models:
  - name: small
    context_length: 2000
    max_output_tokens: 500
    prices_per_million: {input: 1, output: 2}
    deployments: [{provider: main, model: small-model}]
  - name: large
    context_length: 100000
    max_output_tokens: 4000
    prices_per_million: {input: 10, output: 20}
    deployments: [{provider: main, model: large-model}]
"""
AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
COUNTER = TokenCounter()
# About 3,600 tokens: too many for `small` at once.
LONG = "\n".join(f"Ada: On day {day} we decided to ship the release number {day}." for day in range(200))


@cache
def catalog(text: str | None = FILE) -> Catalog:
    """Load a catalog as a file has it."""
    return load(text, {})


class Shop:
    """What a test orders, and what becomes of it.

    Args:
        heard: Ids of jobs that were announced; `rung` names of bells; `told` what a teller heard.
    """

    def __init__(self, storage: Storage) -> None:
        self.rows: dict[Part, list[Any]] = {"service": [], "flavor": [], "prompt": []}
        self.catalog = catalog()
        self.services = Services(self)
        self.jobs = JobStorage(storage, self._nobody)
        self.heard: list[str] = []
        self.rung: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.refused_hooks: set[str] = set()
        self.desk = Desk(
            self.services,
            self.jobs,
            lambda: self.catalog,
            COUNTER,
            queue=self,
            bell=self,
            teller=self,
            check_hook=self._check_hook,
        )

    def service(self, route: str = "minutes", organization_id: str | None = None, **fields: Any) -> ServiceRow:
        """Offer a service."""
        row = ServiceRow(
            id=new_uuid(),
            name=fields.pop("name", route.title()),
            route=route,
            service_type="summary",
            unique_name=f"{organization_id or ''}/{route}",
            unique_route=f"{organization_id or ''}/{route}",
            created_at=AT,
            updated_at=AT,
            organization_id=organization_id,
            **fields,
        )
        self._add("service", row)
        return row

    def flavor(
        self,
        service: ServiceRow,
        name: str = "iterative",
        *,
        is_default: bool = True,
        is_active: bool = True,
        **settings: Any,
    ) -> FlavorRow:
        """Offer a flavor of a service."""
        row = FlavorRow(
            id=settings.pop("id", None) or new_uuid(),
            service_id=service.id,
            name=name,
            unique_name=f"{service.id}/{name}",
            settings=Flavor(**{"model": "large", **settings}),
            created_at=AT,
            updated_at=AT,
            is_default=is_default,
            is_active=is_active,
        )
        self._add("flavor", row)
        return row

    def prompt(self, content: str, organization_id: str | None = None) -> PromptRow:
        """Keep a prompt."""
        prompt_id = new_uuid()
        row = PromptRow(
            id=prompt_id,
            name=prompt_id,
            unique_name=prompt_id,
            content=content,
            created_at=AT,
            updated_at=AT,
            organization_id=organization_id,
        )
        self._add("prompt", row)
        return row

    def change(self, part: Part, old: Any, new: Any) -> None:
        """Put a row in another's place."""
        self.rows[part][self.rows[part].index(old)] = new
        self.services.everything_changed()

    async def submit(self, text: str = "Ada: hello.", service: str = "minutes", **fields: Any) -> JobRow:
        """Order a job that is new."""
        job, is_new = await self.desk.submit(Order(service=service, text=text, **fields))
        assert is_new
        return job

    async def end(
        self,
        job: JobRow,
        status: Status = "completed",
        *,
        passes: Sequence[PassRow] = (),
        code: str = "provider_unavailable",
        totals: Totals | None = None,
    ) -> None:
        """Run a job to its end, as a worker does."""
        claimed = await self.jobs.claim("worker", 15.0)
        assert claimed is not None
        assert claimed.job.id == job.id
        fault = JobFault(code, "The provider failed.") if status == "failed" else None
        step = Step(
            status=status,
            passes=tuple(passes),
            events=({"event_type": "complete" if status == "completed" else "error"},),
            totals=totals or Totals(passes=len(passes), prompt_tokens=100, completion_tokens=20, cost_nusd=1_500_000),
            result="# Minutes\n\nWe ship." if status == "completed" else None,
            fault=fault,
        )
        await self.jobs.commit(claimed.lease, step)

    async def every(self, kind: Part) -> Sequence[Any]:
        return list(self.rows[kind])

    async def announce(self, job_id: str) -> None:
        self.heard.append(job_id)

    async def check(self) -> str | bool:
        return True

    async def close(self) -> None:
        return

    def ring(self, name: str) -> None:
        self.rung.append(name)

    def submitted(self, job: JobRow) -> None:
        self.told.append(("submitted", job.id))

    def started(self, job: JobRow, waited_s: float | None) -> None:
        self.told.append(("started", job.id))

    def passed(self, job: JobRow, done: PassRow) -> None:
        self.told.append(("passed", done.step))

    def ended(self, job: JobRow) -> None:
        self.told.append(("ended", job.id))

    def _add(self, part: Part, row: Any) -> None:
        self.rows[part].append(row)
        self.services.everything_changed()

    def _nobody(self, job_id: str, events: Sequence[EventRow]) -> None:
        """Nobody watches."""

    async def _check_hook(self, url: str) -> None:
        if url in self.refused_hooks:
            raise ValueError(url)


@asynccontextmanager
async def opened(folder: Path, lines: Lines) -> AsyncIterator[Shop]:
    """Open a shop with a database of its own."""
    lay_out(folder / "own.db")
    storage = Storage(f"sqlite:///{folder}/own.db", folder, logger=lines.logger)
    try:
        with anyio.fail_after(20):
            await storage.open()
        yield Shop(storage)
    finally:
        await storage.close()


def key(organization: str | None = None, **fields: Any) -> Caller:
    """Make the caller of a client's key."""
    given: Mapping[str, Any] = {"kind": "client", "key_id": "key_1", **fields}
    return Caller(organization=organization, **given)


def done(step: str = "batch:0-11", number: int = 1) -> PassRow:
    """Make a committed pass."""
    return PassRow(
        step=step,
        number=number,
        type="initial",
        started_at=AT,
        completed_at=AT,
        duration_ms=12.5,
        prompt_tokens=100,
        completion_tokens=20,
        cost_nusd=1_500_000,
        model="large",
        provider="main",
        output="We ship.",
    )
