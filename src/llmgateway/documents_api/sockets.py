"""Jobs watched over WebSockets: `/ws/jobs/{id}` and `/ws/jobs`, a JSON text message for each event.

Who may not come in gets a plain HTTP answer to the handshake. Whatever is wrong after that is told in a message of
`event_type` `error`, and the socket is closed with 4000 and the HTTP status: 4404 for a job that is not there.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import anyio
import msgspec
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from llmgateway.documents_api.asked import known_only, text_in_query, wanted_of
from llmgateway.documents_api.audience import Audience
from llmgateway.documents_api.events import STALLED_S, place_asked
from llmgateway.documents_api.jobs import job_of
from llmgateway.errors import AuthenticationError, GatewayError, NotFoundError
from llmgateway.exchange import Exchange
from llmgateway.jobs.live import Live
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import EventRow
from llmgateway.wire.errors import document_envelope, retry_headers

# Says who is asking and whether that one may come in: gives the request as it would be over HTTP, and the subprotocol
# to agree on, if the key came as one. Raises GatewayError.
Admit = Callable[[Scope, Exchange], Awaitable[tuple[Scope, str | None]]]

_ALL = "/ws/jobs"
_ONE = f"{_ALL}/"
_ENDED, _GOING_AWAY, _REFUSED = 1000, 1001, 4000
_FAREWELL_S = 1.0
_LONGEST_REASON_BYTES = 120  # a close frame holds 125 bytes (RFC 6455, section 5.5), two of them the code


class Sockets:
    """The ASGI application for WebSockets.

    Args:
        stalled_s: Seconds after which a client that does not read is sent away.
    """

    def __init__(
        self,
        admit: Admit,
        live: Live,
        jobs: JobStorage,
        audience: Audience,
        logger: FilteringBoundLogger,
        *,
        stalled_s: float = STALLED_S,
    ) -> None:
        self._admit = admit
        self._live = live
        self._jobs = jobs
        self._audience = audience
        self._logger = logger
        self._stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        exchange = Exchange(method="GET", path=scope["path"])
        socket = _Socket(receive, send, self._stalled_s)
        try:
            if exchange.path != _ALL and not exchange.path.startswith(_ONE):
                raise NotFoundError(f"Unknown path: {exchange.path[:200]}. {_ALL} and {_ALL}/{{id}} are served here.")
            asked, subprotocol = await self._admit(scope, exchange)
        except GatewayError as error:
            await socket.refuse(error, exchange, scope)
            return
        try:
            events = await self._events(Request(asked))
        except GatewayError as error:
            await socket.accept(exchange, subprotocol)
            await socket.fail(error)
            return
        await socket.accept(exchange, subprotocol)
        code = await self._serve(socket, events)
        self._logger.info(
            "socket_closed",
            request_id=exchange.id,
            path=exchange.path,
            key_id=exchange.caller.key_id,
            organization_id=exchange.organization,
            code=code,
            sent=socket.sent,
            seconds=round(time.perf_counter() - exchange.started, 3),
        )

    async def _events(self, request: Request) -> AsyncGenerator[EventRow]:
        path: str = request.scope["path"]
        if path == _ALL:
            known_only(request, ("organization_id",))
            organization_id = text_in_query(request, "organization_id")
            return self._live.watch_all(wanted_of(request, organization_id=organization_id))
        after = place_asked(request)
        request.scope["path_params"] = {"job_id": path.removeprefix(_ONE)}
        job, _ = await job_of(request, self._jobs)
        return self._live.watch(job.id, after)

    async def _serve(self, socket: "_Socket", events: AsyncGenerator[EventRow]) -> int | None:
        """Send what there is; gives the code that the socket was closed with, `None` when it was already."""
        with self._audience.seated() as seat:
            await socket.relay(events)
        if socket.gone:
            return None
        code = _GOING_AWAY if seat.cancelled_caught else _ENDED
        await socket.close(code)
        return code


class _Socket:
    """One client's.

    `gone` says that it is closed, or as good as.
    """

    def __init__(self, receive: Receive, send: Send, stalled_s: float) -> None:
        self.gone = False
        self.sent = 0
        self._receive = receive
        self._send = send
        self._stalled_s = stalled_s

    async def refuse(self, error: GatewayError, exchange: Exchange, scope: Scope) -> None:
        """Answer the handshake with an error."""
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await self._send({"type": "websocket.close", "code": _REFUSED + error.status})
            return
        headers = [(b"content-type", b"application/json"), *retry_headers(error)]
        if isinstance(error, AuthenticationError):
            headers.append((b"www-authenticate", b"Bearer"))
        await self._send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
        body = document_envelope(error, exchange.id)
        await self._send({"type": "websocket.http.response.body", "body": body})

    async def accept(self, exchange: Exchange, subprotocol: str | None) -> None:
        """Open it."""
        headers = [(b"x-gateway-request-id", exchange.id.encode())]
        await self._write({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})

    async def fail(self, error: GatewayError) -> None:
        """Say what is wrong, and close."""
        told = {"event_type": "error", "error": {"code": error.code.upper(), "message": error.message}}
        await self._write({"type": "websocket.send", "text": msgspec.json.encode(told).decode()})
        await self.close(_REFUSED + error.status, error.message)

    async def relay(self, events: AsyncGenerator[EventRow]) -> None:
        """Send events until they end or the client leaves."""
        async with aclosing(events), anyio.create_task_group() as group:
            group.start_soon(self._until_gone, group.cancel_scope)
            async for row in events:
                await self._write({"type": "websocket.send", "text": row.body.decode()})
                if self.gone:
                    break
                self.sent += 1
            group.cancel_scope.cancel()

    async def close(self, code: int, reason: str = "") -> None:
        """Close it, unless that is done."""
        short = reason.encode()[:_LONGEST_REASON_BYTES].decode(errors="ignore")
        await self._write({"type": "websocket.close", "code": code, "reason": short}, _FAREWELL_S)

    async def _until_gone(self, scope: anyio.CancelScope) -> None:
        """See when the client leaves. What it says is not listened to."""
        while (await self._receive())["type"] != "websocket.disconnect":
            continue
        self.gone = True
        scope.cancel()

    async def _write(self, message: Message, within_s: float | None = None) -> None:
        if self.gone:
            return
        try:
            with anyio.fail_after(self._stalled_s if within_s is None else within_s):
                await self._send(message)
        except OSError:  # it has left, or does not read
            self.gone = True
