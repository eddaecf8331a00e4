"""What a run is tested against: jobs in memory that keep `JobStorage`'s promises, and a model that follows a script.

`RunningJobs` is strict where a database is: a fence that has passed, a pass that is there already and an ended job are
refused.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from llmgateway.caller import ANYONE
from llmgateway.documents.recipe import Batch, Count, Extras, Plan, Recipe
from llmgateway.errors import GatewayError
from llmgateway.exchange import Attempt, Call, Complete, Exchange, Reply, Streamed, Usage
from llmgateway.flavor import Flavor
from llmgateway.ids import new_uuid
from llmgateway.jobs.work import Work
from llmgateway.storage.jobs.rows import (
    ENDED,
    Claimed,
    FencedError,
    JobRow,
    Lease,
    NewJob,
    Origin,
    PassRow,
    Step,
)
from llmgateway.storage.queries import StorageAwayError
from tests.deployments import deployment

INPUT_USD, OUTPUT_USD = 1e-6, 2e-6


@dataclass
class Kept:
    """A job and all that is its own."""

    row: JobRow
    text: str
    work: bytes
    passes: list[PassRow]
    fence: int = 0
    holder: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    commits: list[Step] = field(default_factory=list)

    def told(self, event_type: str) -> list[dict[str, Any]]:
        """The events of one type, in order."""
        return [event for event in self.events if event["event_type"] == event_type]

    @property
    def shown(self) -> str:
        """What those who watch have put together of the pieces."""
        text = ""
        for event in self.told("output"):
            assert event["output"]["offset"] == len(text)
            text += event["output"]["text"]
        return text


class RunningJobs:
    """Jobs in memory.

    `away` makes every question fail; `in_doubt` so many commits that are done all the same.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        self.away = False
        self.in_doubt = 0
        self.asked = 0
        self.renewals: list[set[str]] = []
        self._unsure: dict[str, tuple[Lease, Step]] = {}

    def submit(self, new: NewJob, passes: Sequence[PassRow] = ()) -> Kept:
        row = JobRow(
            id=new.id,
            service_id=new.service_id,
            service_name=new.service_name,
            service_route=new.service_route,
            flavor_id=new.flavor_id,
            flavor_name=new.flavor_name,
            organization_id=new.organization_id,
            status="queued",
            priority=new.priority,
            origin=new.origin,
            created_at=new.created_at,
            input_tokens=new.input_tokens,
        )
        kept = self.kept[new.id] = Kept(row, new.text, new.work, list(passes))
        return kept

    async def claim(self, worker: str, lease_s: float) -> Claimed | None:
        self._ask()
        queued = [kept for kept in self.kept.values() if kept.row.status == "queued"]
        if not queued:
            return None
        kept = min(queued, key=lambda one: (one.row.priority, one.row.created_at, one.row.id))
        kept.fence += 1
        kept.holder = worker
        kept.row = structs.replace(kept.row, status="started", started_at=kept.row.started_at or datetime.now(UTC))
        return Claimed(
            lease=Lease(kept.row.id, kept.fence),
            job=kept.row,
            text=kept.text,
            work=kept.work,
            passes=tuple(kept.passes),
        )

    async def renew(self, leases: Sequence[Lease], lease_s: float) -> set[str]:
        self._ask()
        gone = {lease.job_id for lease in leases if not self._holds(lease)}
        self.renewals.append({lease.job_id for lease in leases})
        return gone

    async def commit(self, lease: Lease, step: Step) -> None:
        self._ask()
        await asyncio.sleep(0)
        if self._unsure.pop(lease.job_id, None) == (lease, step):
            return
        if not self._holds(lease):
            raise FencedError
        kept = self.kept[lease.job_id]
        steps = {row.step for row in kept.passes}
        assert not steps.intersection(row.step for row in step.passes), "a pass is never made twice"
        kept.passes.extend(step.passes)
        kept.commits.append(step)
        self._change(kept, step)
        if self.in_doubt:
            self.in_doubt -= 1
            self._unsure[lease.job_id] = lease, step
            raise StorageAwayError("lost after the commit")

    async def hand_back(self, lease: Lease) -> None:
        self._ask()
        if self._holds(lease):
            self._queue(self.kept[lease.job_id])

    def cancel(self, job_id: str) -> None:
        """Do what `JobStorage.cancel` does."""
        kept = self.kept[job_id]
        kept.row = structs.replace(kept.row, status="cancelled", result=kept.row.partial)
        kept.holder = None

    def lose(self, job_id: str) -> None:
        """Let a lease run out: a sweep puts the job back."""
        kept = self.kept[job_id]
        if kept.row.status not in ENDED:
            kept.row = structs.replace(kept.row, kills=kept.row.kills + 1)
            self._queue(kept)

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise StorageAwayError("away")

    def _holds(self, lease: Lease) -> bool:
        kept = self.kept[lease.job_id]
        return kept.fence == lease.fence and kept.holder is not None

    def _queue(self, kept: Kept) -> None:
        kept.holder = None
        kept.row = structs.replace(kept.row, status="queued")

    def _change(self, kept: Kept, step: Step) -> None:
        given = ("status", "progress", "totals", "records", "warnings", "fault", "result")
        changes: dict[str, Any] = {name: getattr(step, name) for name in given if getattr(step, name) is not None}
        kept.work = step.work or kept.work
        partial, events = kept.row.partial + step.output, kept.row.events + len(step.events)
        before = kept.row.progress.percentage
        kept.row = structs.replace(kept.row, **changes, partial=partial, events=events)
        assert kept.row.progress.percentage >= before, "a percentage never goes back"
        for number, event in enumerate(step.events, len(kept.events) + 1):
            kept.events.append({**event, "id": number, "status": kept.row.status, "progress": kept.row.progress})
        if kept.row.status in ENDED:
            kept.holder = None


@dataclass
class Says:
    """What a scripted model answers.

    Args:
        after: Waits for this first.
        breaks: With this, once the pieces are said.
    """

    text: str = "Noted."
    finish_reason: str = "stop"
    refusal: str | None = None
    after: Callable[[], Awaitable[object]] | None = None
    pieces: Sequence[str] | None = None
    pause: Callable[[int], Awaitable[object]] | None = None
    breaks: GatewayError | None = None


@dataclass
class Asked:
    """A call as the model sees it."""

    call: Call
    exchange: Exchange
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The text of the question's user message."""
        texts = [message["content"] for message in self.body["messages"] if message["role"] == "user"]
        return str(texts[0])

    @property
    def said(self) -> str | None:
        """What the model is shown of its own answer, to go on with."""
        texts = [message["content"] for message in self.body["messages"] if message["role"] == "assistant"]
        return texts[-1] if texts else None


Answered = Says | GatewayError
# The answer to every call, or what gives one.
Script = Answered | Callable[[Asked], Answered]


class ScriptedModel:
    """Answers by a script, and counts. Is the `ask` and the `record` of a runner."""

    def __init__(self, script: Script, *, provider: str = "scripted", wire: str = "openai") -> None:
        self.script = script
        self.calls: list[Asked] = []
        self.records: list[Exchange] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.ended_early = 0
        self._deployment = deployment(provider, "model-1", wire=wire)

    def prompts(self) -> list[str]:
        return [asked.prompt for asked in self.calls]

    async def __call__(self, exchange: Exchange, call: Call) -> Reply:
        asked = Asked(call, exchange, json.loads(call.body))
        self.calls.append(asked)
        exchange.operation, exchange.requested_model, exchange.call = call.operation, call.model, call
        exchange.attempts.append(Attempt(self._deployment, time.perf_counter()))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        over = False
        try:
            says = self.script(asked) if callable(self.script) else self.script
            if isinstance(says, GatewayError):
                raise says
            if says.after is not None:
                await says.after()
            over = True
        except asyncio.CancelledError:
            self.ended_early += 1
            raise
        finally:
            if not over or not call.stream:
                self.in_flight -= 1
        if not call.stream:
            self._charge(asked, says.text)
            return Complete(_whole(says), usage=exchange.usage, model="model-1")
        return Streamed(self._stream(asked, says), model="model-1")

    def record(self, exchange: Exchange) -> None:
        assert exchange not in self.records, "each exchange is written down once"
        self.records.append(exchange)

    def _charge(self, asked: Asked, text: str) -> None:
        exchange = asked.exchange
        prompt_tokens, answer_tokens = tokens_of(json.dumps(asked.body["messages"])), tokens_of(text)
        exchange.usage = Usage(prompt_tokens, answer_tokens)
        exchange.cost_usd = prompt_tokens * INPUT_USD + answer_tokens * OUTPUT_USD
        exchange.provider, exchange.upstream_model = exchange.attempts[-1].provider, "model-1"

    async def _stream(self, asked: Asked, says: Says) -> AsyncGenerator[bytes]:
        said, over = "", False
        try:
            for index, piece in enumerate(says.pieces if says.pieces is not None else _cut(says.text)):
                if says.pause is not None:
                    await says.pause(index)
                said += piece
                yield _event({"content": piece})
            if says.breaks is not None:
                raise says.breaks
            yield _event({"refusal": says.refusal} if says.refusal else {}, says.finish_reason) + b"data: [DONE]\n\n"
            over = True
        finally:
            self.in_flight -= 1
            self.ended_early += 0 if over or says.breaks else 1
            self._charge(asked, said)


def tokens_of(text: str) -> int:
    return (len(text) + 3) // 4


def counter(_recipe: Recipe) -> Count:
    def count(texts: Sequence[str]) -> list[int]:
        return [tokens_of(text) for text in texts]

    return count


def recipe_of(name: str = "fast", **settings: Any) -> Recipe:
    """Make a recipe; the prompt of a batch is the batch alone."""
    given: dict[str, Any] = {
        "model": "m",
        "system_prompt": "Work.",
        "user_prompt": "{{document}}",
        "reduce_prompt": "REDUCE {{document}}",
        "output_type": "text",
        "summary_turns": 0,
    }
    return Recipe(
        flavor_id=f"id-{name}",
        flavor_name=name,
        settings=Flavor(**{**given, **settings}),
        model=f"model-of-{name}",
        context_length=100_000,
        max_generation=1_000,
        input_usd=INPUT_USD,
        output_usd=OUTPUT_USD,
    )


def plan_of(text: str, recipe: Recipe) -> Plan:
    """Plan a batch for each line, or one for all."""
    mode = recipe.settings.processing_mode
    lines = [text] if mode == "single_pass" else text.splitlines(keepends=True)
    batches, start = [], 0
    for line in lines:
        batches.append(Batch(start, start + len(line), tokens_of(line), 1))
        start += len(line)
    tokens = sum(batch.tokens for batch in batches)
    return Plan(mode=mode, batches=tuple(batches), input_tokens=tokens, prompt_tokens=10, available=90_000)


def job_of(
    text: str,
    *recipes: Recipe,
    origin: Origin | None = None,
    priority: int = 5,
    extras: Extras | None = None,
    organization: str | None = None,
) -> NewJob:
    """Order a document; the first recipe runs, the others go on after failures."""
    recipes = recipes or (recipe_of(),)
    work = Work(recipes=recipes, plan=plan_of(text, recipes[0]), extras=extras or Extras())
    return NewJob(
        id=new_uuid(),
        service_id="service-1",
        service_name="Minutes",
        service_route="minutes",
        flavor_id=recipes[0].flavor_id,
        flavor_name=recipes[0].flavor_name,
        priority=priority,
        text=text,
        work=work.encoded(),
        origin=origin or Origin(caller=ANYONE),
        created_at=datetime.now(UTC),
        organization_id=organization,
    )


def lines_of(count: int) -> str:
    """A document of so many lines: each becomes a batch."""
    return "".join(f"line {number}\n" for number in range(1, count + 1))


def _whole(says: Says) -> bytes:
    message: Mapping[str, Any] = {"role": "assistant", "content": says.text, "refusal": says.refusal}
    choice = {"index": 0, "message": message, "finish_reason": says.finish_reason}
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


def _event(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def _cut(text: str, size: int = 8) -> Iterable[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
