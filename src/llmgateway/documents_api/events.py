"""A job's events as server-sent events (WHATWG HTML, section 9.2): whoever comes back gets exactly what he missed."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from llmgateway.documents_api.asked import known_only, whole_number
from llmgateway.documents_api.audience import Audience
from llmgateway.documents_api.jobs import job_of
from llmgateway.errors import ClientGoneError
from llmgateway.jobs.live import Live
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import ENDED, EventRow
from llmgateway.wire.sse import COMMENT

KEEP_ALIVE_S = 15.0
# Whoever takes nothing for so long is sent away: he comes back for what he missed.
STALLED_S = 60.0
_FAREWELL_S = 1.0
_LARGEST_ID = 999_999_999
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    # nginx and its kin buffer streams unless told.
    (b"x-accel-buffering", b"no"),
]


class _Body(Struct):
    event_type: str = "message"


_BODY = msgspec.json.Decoder(_Body)


def routes(
    live: Live,
    jobs: JobStorage,
    audience: Audience,
    *,
    keep_alive_s: float = KEEP_ALIVE_S,
    stalled_s: float = STALLED_S,
) -> list[Route]:
    """Serve `/api/v1/jobs/{id}/events`.

    Args:
        keep_alive_s: Seconds of silence after which a comment is sent.
        stalled_s: Seconds after which a client that does not read is sent away.
    """

    async def follow(request: Request) -> "Response | _Stream":
        after = place_asked(request)
        job, _ = await job_of(request, jobs)
        if job.status in ENDED and after == job.events:
            # Nothing comes any more; this status tells an EventSource not to ask again.
            return Response(status_code=204)
        return _Stream(live.follow(job.id, after, keep_alive_s), audience, stalled_s)

    return [Route("/api/v1/jobs/{job_id}/events", follow, methods=["GET"])]


def place_asked(request: Request) -> int:
    """Give the last event that a client knows: of the header, as a client comes back, else of the query.

    Raises:
        UnprocessableError: It is no such number, or another parameter was sent.
    """
    known_only(request, ("last_event_id",))
    header, query = request.headers.get("last-event-id"), request.query_params.get("last_event_id")
    if header:
        return whole_number(header, ("header", "Last-Event-ID"), _LARGEST_ID, 0)
    return whole_number(query, ("query", "last_event_id"), _LARGEST_ID, 0) if query else 0


class _Stream:
    """The answer: events until the last of the job."""

    def __init__(self, events: AsyncGenerator[EventRow | None], audience: Audience, stalled_s: float) -> None:
        self._events = events
        self._audience = audience
        self._stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        with self._audience.seated():
            async with aclosing(self._events) as events:
                async for row in events:
                    piece = COMMENT if row is None else _written(row)
                    message = {"type": "http.response.body", "body": piece, "more_body": True}
                    await _write(send, message, self._stalled_s)
        await _write(send, {"type": "http.response.body", "body": b""}, _FAREWELL_S)


async def _write(send: Send, message: Message, within_s: float) -> None:
    try:
        with anyio.fail_after(within_s):
            await send(message)
    except TimeoutError:
        raise ClientGoneError(f"The client did not read for {within_s:g} s.") from None


def _written(row: EventRow) -> bytes:
    """Write an event; JSON has no bare line breaks."""
    event_type = _BODY.decode(row.body).event_type
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (row.id, event_type.encode(), row.body)
