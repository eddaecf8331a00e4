"""A desk and live events that say what a test wants."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec

from llmgateway.exchange import Call, Exchange
from llmgateway.jobs.order import Order
from llmgateway.storage.jobs.rows import EventRow, JobRow, Origin, Wanted

METRICS = {"total_prompt_tokens": 30, "total_completion_tokens": 12, "total_tokens": 42, "total_cost": 0.0125}


def job_row(order: Order, job_id: str = "job-1") -> JobRow:
    return JobRow(
        id=job_id,
        service_id="s",
        service_name="Minutes",
        service_route=order.service,
        flavor_id="f",
        flavor_name=order.flavor or "iterative",
        organization_id=order.organization,
        status="queued",
        priority=5,
        origin=Origin(caller=order.caller),
        created_at=datetime.now(UTC),
    )


def event(number: int, status: str, **fields: Any) -> EventRow:
    body = {"id": number, "event_type": "output", "status": status, "progress": {"percentage": 50.0}, **fields}
    return EventRow(number, msgspec.json.encode({"cumulative_metrics": METRICS, **body}))


def piece(number: int, text: str, offset: int) -> EventRow:
    return event(number, "processing", output={"text": text, "offset": offset})


def complete(number: int, result: str, **fields: Any) -> EventRow:
    return event(number, "completed", event_type="complete", result=result, **fields)


class Staged:
    """Both seams of a virtual model.

    Args:
        events: What the job tells; where they stop without an end, it goes on for ever.
    """

    def __init__(self, *events: EventRow) -> None:
        self.events = events
        self.orders: list[Order] = []
        self.cancelled: list[str] = []
        self.left = 0
        self.watched = asyncio.Event()

    @property
    def _is_over(self) -> bool:
        return bool(self.events) and any(word in self.events[-1].body for word in (b'"completed"', b'"failed"'))

    async def submit(self, order: Order) -> tuple[JobRow, bool]:
        self.orders.append(order)
        return job_row(order), len(self.orders) == 1

    async def cancel(self, job_id: str, wanted: Wanted) -> JobRow | None:
        self.cancelled.append(job_id)
        return None

    async def explained(self, order: Order) -> dict[str, Any]:
        self.orders.append(order)
        return {"valid": True, "calls": 3}

    async def follow(self, job_id: str, after: int = 0, beat_s: float = 60.0) -> AsyncGenerator[EventRow | None]:
        async with aclosing(self.watch(job_id, after)) as events:
            for _ in self.events:
                yield await anext(events)
            while not self._is_over:
                await asyncio.sleep(beat_s)
                yield None

    async def watch(self, job_id: str, after: int = 0) -> AsyncGenerator[EventRow]:
        self.watched.set()
        try:
            for one in self.events:
                yield one
            if not self._is_over:
                await asyncio.get_running_loop().create_future()
        finally:
            self.left += 1


def call(body: Mapping[str, Any], *, model: str = "service/meeting-minutes", **fields: Any) -> Call:
    return Call("chat", model, msgspec.json.encode({"model": model, **body}), **fields)


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def exchange(**fields: Any) -> Exchange:
    return Exchange(path="/v1/chat/completions", **fields)
