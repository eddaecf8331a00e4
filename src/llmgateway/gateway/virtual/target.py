"""The target of every virtual model: orders a job, or joins the one that lives, and tells of it as it goes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from anyio import to_thread

from llmgateway.caller import Caller
from llmgateway.catalog.model import ListedModel
from llmgateway.catalog.nearest import Nearest
from llmgateway.errors import ClientGoneError, JobFailedError, JobRunningError, ModelNotFoundError, NotFoundError
from llmgateway.exchange import Call, Complete, Exchange, Header, Reply, Streamed
from llmgateway.gateway.virtual.asking import Asked, read_order
from llmgateway.gateway.virtual.telling import Frame, progress_comment, usage_of
from llmgateway.headers import usd
from llmgateway.jobs.order import Order
from llmgateway.storage.jobs.rows import EventRow, JobRow, Wanted

# A stream whose time is over is ended within it.
_SILENCE_S = 5.0
_SHORTEST_BEAT_S = 0.05
# So that the answer goes out before the request's own time limit cuts it off.
_EARLY_S = 0.5
_MOST_NEAR = 10

# Gives the services that whoever asks may name as models.
Listed = Callable[[Exchange], Awaitable[Sequence[ListedModel]]]


async def _nothing(_: Exchange) -> Sequence[ListedModel]:
    return ()


class Desk(Protocol):
    """Takes orders."""

    async def submit(self, order: Order) -> tuple[JobRow, bool]: ...

    async def cancel(self, job_id: str, wanted: Wanted) -> JobRow | None: ...

    async def explained(self, order: Order) -> dict[str, Any]: ...


class Live(Protocol):
    """Tells of jobs as they go."""

    def watch(self, job_id: str, after: int = 0) -> AsyncGenerator[EventRow]: ...

    def follow(self, job_id: str, after: int = 0, beat_s: float = ...) -> AsyncGenerator[EventRow | None]:
        """Give `None` after each silence of `beat_s`."""
        ...


class VirtualModels:
    """Answers `service/<route>[:<flavor>]`. Its calls of models are the job's own: they pass the layers, not this one.

    Args:
        listed: What there is, for those who name something else.
        silence_s: Seconds after which a stream without news tells its progress again.
    """

    def __init__(self, desk: Desk, live: Live, *, listed: Listed = _nothing, silence_s: float = _SILENCE_S) -> None:
        self._desk = desk
        self._live = live
        self._listed = listed
        self._silence_s = silence_s
        self._waiting: Counter[str] = Counter()

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        """Run a service. Raises: GatewayError; JobRunningError when the job takes longer than the request may."""
        asked = await to_thread.run_sync(read_order, exchange, call)
        try:
            job, is_new = await self._desk.submit(asked.order)
        except NotFoundError as error:
            raise await self._no_such(exchange, call, error) from None
        exchange.model_label = f"service/{job.service_route}"
        exchange.route_reason = f"job {job.id}" if is_new else f"joined job {job.id}"
        if call.stream:
            chunks = self._chunks(exchange, call, asked, job)
            return Streamed(chunks, headers=[_job_header(job)], model=call.model)
        return await self._whole(exchange, call, asked, job)

    async def explain(self, exchange: Exchange, call: Call) -> Reply:
        """Answer with the plan of the run, asking nobody. Raises: GatewayError."""
        asked = await to_thread.run_sync(read_order, exchange, call)
        try:
            return Complete(msgspec.json.encode(await self._desk.explained(asked.order)))
        except NotFoundError as error:
            raise await self._no_such(exchange, call, error) from None

    async def _no_such(self, exchange: Exchange, call: Call, error: NotFoundError) -> ModelNotFoundError:
        """Say it as for any other model that is not there."""
        names = [model.id for model in await self._listed(exchange) if _may_use(exchange.caller, model.id)]
        near = Nearest(names).find(call.model, _MOST_NEAR)
        return ModelNotFoundError(error.message, param="model", details={"available_models": near})

    async def _whole(self, exchange: Exchange, call: Call, asked: Asked, job: JobRow) -> Complete:
        last: dict[str, Any] = {}
        started = time.perf_counter()
        self._waiting[job.id] += 1
        try:
            async with asyncio.timeout(_left_s(exchange)), aclosing(self._live.watch(job.id)) as events:
                async for event in events:
                    last = msgspec.json.decode(event.body)
        except TimeoutError:
            raise _still_running(job) from None
        except asyncio.CancelledError:
            await self._left(exchange, asked, job)
            raise
        finally:
            self._done(exchange, job, started)
        text, usage = _result(job, last), usage_of(last.get("cumulative_metrics"))
        headers = [_job_header(job)]
        if usage is not None and "cost_usd" in usage:
            headers.append((b"x-cost-usd", usd(usage["cost_usd"]).encode()))
        body = Frame(job.id, call.model, job.created_at, demo=_is_demo(last)).whole(text, usage)
        return Complete(body, headers=headers, model=call.model)

    async def _chunks(self, exchange: Exchange, call: Call, asked: Asked, job: JobRow) -> AsyncGenerator[bytes]:
        frame, said = Frame(job.id, call.model, job.created_at), 0
        last: dict[str, Any] = {}
        started = told = time.perf_counter()
        self._waiting[job.id] += 1
        try:
            yield frame.role()
            async with aclosing(self._live.follow(job.id, 0, self._beat_s(exchange))) as events:
                async for event in events:
                    if _is_over(exchange):
                        raise _still_running(job)
                    last = last if event is None else msgspec.json.decode(event.body)
                    piece = "" if event is None else _piece(last, said)
                    said += len(piece)
                    if piece:
                        yield frame.piece(piece)
                    if not piece or time.perf_counter() - told >= self._silence_s:
                        told = time.perf_counter()
                        yield progress_comment(last.get("progress"))
            if rest := _result(job, last)[said:]:
                yield frame.piece(rest)
            frame = Frame(job.id, call.model, job.created_at, demo=_is_demo(last))
            # Whoever writes the call down does so at its last chunk.
            exchange.job_s = time.perf_counter() - started
            yield frame.end(usage_of(last.get("cumulative_metrics")), apart=call.include_usage)
        except (asyncio.CancelledError, GeneratorExit):
            await self._left(exchange, asked, job)
            raise
        finally:
            self._done(exchange, job, started)

    def _beat_s(self, exchange: Exchange) -> float:
        left_s = _left_s(exchange)
        return self._silence_s if left_s is None else max(_SHORTEST_BEAT_S, min(self._silence_s, left_s))

    async def _left(self, exchange: Exchange, asked: Asked, job: JobRow) -> None:
        """Whoever ordered it has left: the job goes on, unless the order says otherwise and nobody else waits here."""
        has_gone = exchange.cancelled_by is None or isinstance(exchange.cancelled_by, ClientGoneError)
        if asked.cancel_on_disconnect and has_gone and self._waiting[job.id] == 1:
            wanted = Wanted(organization_id=asked.order.organization, everyone=asked.order.everyone)
            await asyncio.shield(self._desk.cancel(job.id, wanted))

    def _done(self, exchange: Exchange, job: JobRow, started: float) -> None:
        exchange.job_s = time.perf_counter() - started
        self._waiting[job.id] -= 1
        if not self._waiting[job.id]:
            del self._waiting[job.id]


def _may_use(caller: Caller, name: str) -> bool:
    return caller.models is None or caller.may_use(name)


def _left_s(exchange: Exchange) -> float | None:
    return None if exchange.deadline is None else exchange.deadline - _EARLY_S - time.perf_counter()


def _is_over(exchange: Exchange) -> bool:
    left_s = _left_s(exchange)
    return left_s is not None and left_s <= 0


def _piece(event: dict[str, Any], said: int) -> str:
    """Give what is new of the text that an event holds."""
    output = event.get("output")
    if not output:
        return ""
    text: str = output["text"]
    return text[max(0, said - output["offset"]) :]


def _result(job: JobRow, last: dict[str, Any]) -> str:
    """Read the result of the job's last event. Raises: JobFailedError."""
    if last.get("status") == "completed":
        return last.get("result") or ""
    fault = last.get("error") or {"code": f"job_{last.get('status', 'failed')}", "message": "The job was cancelled."}
    raise JobFailedError(
        f"The job {job.id} has ended without a result: {fault['message']}",
        code=fault["code"],
        details={"job_id": job.id, "status": last.get("status")},
    )


def _still_running(job: JobRow) -> JobRunningError:
    return JobRunningError(
        f"The time for this request is over; the job goes on: GET /api/v1/jobs/{job.id}, or send the same request "
        "again to wait for it.",
        details={"job_id": job.id},
    )


def _is_demo(last: dict[str, Any]) -> bool:
    return any("demo" in warning for warning in last.get("warnings") or ())


def _job_header(job: JobRow) -> Header:
    return (b"x-job-id", job.id.encode())
