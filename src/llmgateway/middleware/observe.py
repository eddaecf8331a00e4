"""Writes down every finished request: one log line, never its content, never a key."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from llmgateway.errors import ClientGoneError
from llmgateway.exchange import Exchange, Streamed

_SERVER_ERROR = 500


class Observe:
    """Sees the status that goes out and the moment the answer ends, however it ends."""

    def __init__(self, app: ASGIApp, *, logger: FilteringBoundLogger) -> None:
        self._app = app
        self._logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange: Exchange = scope["exchange"]

        async def send_and_look(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            self._record(scope, exchange)

    def _record(self, scope: Scope, exchange: Exchange) -> None:
        if exchange.error_code == ClientGoneError.code:
            exchange.status = ClientGoneError.status
        failed = exchange.error_code is not None or (exchange.status or _SERVER_ERROR) >= _SERVER_ERROR
        duration_ms = round((time.perf_counter() - exchange.started) * 1e3, 2)
        fields: dict[str, object] = {
            "request_id": exchange.id,
            "method": scope["method"],
            "path": scope["path"][:256],
            "status": exchange.status,
            "duration_ms": duration_ms,
        }
        if exchange.client_id is not None:
            fields["client_request_id"] = exchange.client_id
        if exchange.error_code is not None:
            fields["error_code"] = exchange.error_code
        if exchange.operation is None:
            write = self._logger.warning if failed else self._logger.debug
            write("http_request", **fields)
            return
        fields |= _of_model_call(exchange, duration_ms)
        if failed:
            self._logger.warning("llm_request_error", **fields)
        else:
            self._logger.info("llm_request_complete", **fields)


def _of_model_call(exchange: Exchange, duration_ms: float) -> dict[str, object]:
    reply = exchange.reply
    fields: dict[str, object] = {
        "operation": exchange.operation,
        "model": (exchange.requested_model or "")[:256],
        "provider": exchange.provider,
        "upstream_model": exchange.upstream_model,
        "stream": exchange.stream,
        "attempts": len(exchange.attempts),
        "overhead_ms": round(max(0.0, duration_ms - exchange.upstream_s * 1e3), 2),
    }
    if reply is not None and reply.usage is not None:
        fields["prompt_tokens"] = reply.usage.prompt_tokens
        fields["completion_tokens"] = reply.usage.completion_tokens
    if isinstance(reply, Streamed) and exchange.attempts and (first := exchange.attempts[-1].first_chunk) is not None:
        fields["ttft_ms"] = round((first - exchange.started) * 1e3, 2)
    return fields
