"""Renders every error that escapes: in OpenAI's envelope, under /api/v1 as document services tell theirs."""

import asyncio
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from llmgateway.errors import (
    ClientGoneError,
    GatewayError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    RequestTooLargeError,
)
from llmgateway.exchange import Exchange
from llmgateway.outgoing import Outgoing
from llmgateway.wire.errors import document_envelope, envelope, retry_headers

# How long the rest of a refused body is read past, so that the client sees the answer before the connection ends.
_LINGER_S = 1.0
_DOCUMENTS = "/api/v1/"


class Errors:
    """Turns the error tree into answers. A bug becomes a 500 without its inside, and a log line with it."""

    def __init__(self, app: ASGIApp, *, logger: FilteringBoundLogger) -> None:
        self._app = app
        self._logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange: Exchange = scope["exchange"]
        outgoing = send if isinstance(send, Outgoing) else Outgoing(send)
        error: GatewayError
        try:
            await self._app(scope, receive, outgoing)
        except asyncio.CancelledError:
            error = _cause(exchange)
        except GatewayError as raised:
            error = raised
        except HTTPException as raised:
            error = _of_status(raised, scope)
        except Exception:  # the last one: whatever it is, the client gets an answer and the log the cause
            self._logger.exception("unexpected_error", request_id=exchange.id, path=scope["path"][:256])
            error = GatewayError("The gateway failed. The log has the cause under this request id.")
        else:
            return
        try:
            _note(error, exchange)
            if not outgoing.begun and not isinstance(error, ClientGoneError):
                await _answer(error, exchange, scope, receive, outgoing)
        finally:
            # It holds this frame: in a circle, all that belongs to the request would wait for the collector.
            del error


def _note(error: GatewayError, exchange: Exchange) -> None:
    if not exchange.recorded:  # else its client has all of a good answer, whatever went wrong after it
        exchange.error_code = error.code


def _cause(exchange: Exchange) -> GatewayError:
    """Why this request was cancelled; a cancellation from elsewhere goes on as it is."""
    task = asyncio.current_task()
    if exchange.cancelled_by is None or task is None:
        raise asyncio.CancelledError
    task.uncancel()
    return exchange.cancelled_by


def _of_status(raised: HTTPException, scope: Scope) -> GatewayError:
    method, path = scope["method"], scope["path"][:200]
    match raised.status_code:
        case 404:
            return NotFoundError(f"Unknown path: {method} {path}. /docs shows what is served.")
        case 405:
            allowed = (raised.headers or {}).get("Allow", "another method")
            return MethodNotAllowedError(f"{path} takes {allowed}, not {method}.", details={"allow": allowed})
        case _:
            return InvalidRequestError(raised.detail)


async def _answer(error: GatewayError, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
    render = document_envelope if scope["path"].startswith(_DOCUMENTS) else envelope
    body = render(error, exchange.id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *retry_headers(error),
        *exchange.headers(),
    ]
    if isinstance(error, MethodNotAllowedError) and error.details:
        headers.append((b"allow", str(error.details["allow"]).encode("latin-1")))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))  # RFC 9110, 15.5.2
    lingers = isinstance(error, RequestTooLargeError)
    if lingers:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    if lingers:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await _linger(scope, receive)
        body = b""
    await send({"type": "http.response.body", "body": body})


async def _linger(scope: Scope, receive: Receive) -> None:
    if any(name == b"expect" for name, _ in scope["headers"]):
        return
    try:
        async with asyncio.timeout(_LINGER_S):
            while (await receive()).get("more_body", False):
                continue
    except TimeoutError:
        return
