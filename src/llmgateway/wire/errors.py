"""Errors as OpenAI's envelope, in a body or as the last event of a stream; and as document services tell them."""

import math

import msgspec

from llmgateway.errors import GatewayError

_JSON = msgspec.json.Encoder(enc_hook=str)
# A year: a provider may name any number, also one that has no milliseconds.
_LONGEST_WAIT_S = 31_536_000.0


def envelope(error: GatewayError, request_id: str) -> bytes:
    """Render `{"error": {message, type, param, code, details?, request_id}}`."""
    fields: dict[str, object] = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    if error.details:
        fields["details"] = error.details
    fields["request_id"] = request_id
    return _JSON.encode({"error": fields})


def document_envelope(error: GatewayError, request_id: str) -> bytes:
    """Render `{"detail", "error_code", ...details, "request_id"}`, as everything under /api/v1 answers."""
    fields: dict[str, object] = {"detail": error.message, "error_code": error.code.upper()}
    fields |= {name: value for name, value in (error.details or {}).items() if name not in fields}
    return _JSON.encode(fields | {"request_id": request_id})


def error_event(error: GatewayError, request_id: str) -> bytes:
    """Render the event that ends a broken stream: no `[DONE]` follows, so that nobody takes the answer for whole."""
    return b"data: " + envelope(error, request_id) + b"\n\n"


def retry_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """Say when, or that it is no use: `Retry-After` in whole seconds, rounded up, and the SDKs' finer headers."""
    headers = []
    if error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    wait_s = error.retry_after_s
    if wait_s is None and error.status in {429, 503}:
        wait_s = 1.0
    if wait_s is not None:
        wait_s = min(wait_s, _LONGEST_WAIT_S)
        headers.append((b"retry-after", b"%d" % math.ceil(wait_s)))
        headers.append((b"retry-after-ms", b"%d" % math.ceil(wait_s * 1000)))
    return headers
