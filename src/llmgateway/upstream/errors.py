"""What providers say when they fail, as our own errors: for the relay, the translated providers and streams alike.

What an error becomes depends on the HTTP status and on the error's own type or code, never on digits in its text:
a text may quote anything, a prompt included.
"""

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from llmgateway.catalog.model import Account
from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.upstream.fault import Fault, as_number, decoded, fault_of, read_fault
from llmgateway.upstream.scrub import scrub

__all__ = ["error_in_body", "fault_error", "retry_after_s", "scrub", "upstream_error"]

NO_HEADERS: Mapping[str, str] = {}
_MAX_CODE_CHARS = 100
_OVERLOADED = 529  # Anthropic's own

# The status that a provider means by an error's type, code or status name: for errors that come without an HTTP status
# of their own (in a stream, or in a 200), and for throttling that providers hide in a 400 or 500.
_STATUS_OF: Mapping[str, int] = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "validationexception": 400,
    "failed_precondition": 400,
    "authentication_error": 401,
    "unauthenticated": 401,
    "invalid_api_key": 401,
    "unrecognizedclientexception": 401,
    "invalidsignatureexception": 401,
    "expiredtokenexception": 401,
    "billing_error": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "accessdeniedexception": 403,
    "not_found_error": 404,
    "not_found": 404,
    "resourcenotfoundexception": 404,
    "model_not_found": 404,
    "timeout_error": 408,
    "modeltimeoutexception": 408,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "throttlingexception": 429,
    "toomanyrequestsexception": 429,
    "insufficient_quota": 429,
    "overloaded_error": _OVERLOADED,
    "unavailable": 503,
    "serviceunavailableexception": 503,
    "modelnotreadyexception": 503,
}
_AUTH_KINDS = frozenset(
    {
        "api_key_invalid",
        "api_key_service_blocked",
        "invalid_api_key",
        "unrecognizedclientexception",
        "invalidsignatureexception",
        "expiredtokenexception",
        "accessdeniedexception",
    }
)
_QUOTA_KINDS = frozenset(
    {
        "insufficient_quota",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_credits",
        "credits_exhausted",
    }
)
_FILTER_KINDS = frozenset({"content_filter", "content_policy_violation", "moderation", "moderation_blocked"})
_CONTEXT_KINDS = frozenset(
    {"context_length_exceeded", "context_window_exceeded", "exceed_context_size_error", "prompt_too_long"}
)
_CONTEXT_STATUSES = frozenset({400, 413, 422})
_TRANSIENT_STATUSES = frozenset({408, 429})
# Providers that have no code for it say it in these words (in lower case).
_CONTEXT_WORDS = (
    "maximum context length",  # OpenAI, vLLM, Mistral, Ollama
    "maximum context limit",
    "model's context length",
    "exceed context limit",  # Anthropic
    "prompt is too long",  # Anthropic, AI21
    "exceeds the maximum number of tokens allowed",  # Gemini
    "input is too long for requested model",  # Bedrock
    "input tokens exceed the configured limit",
    "exceeds the available context size",  # llama.cpp
    "exceeds the context window",
    "exceeds the context length",  # Ollama
    "maximum prompt length is",  # xAI
    "`inputs` tokens + `max_new_tokens` must be",  # text-generation-inference
    "too many tokens:",  # Cohere
)
# Providers that report our own account's faults as the request's.
_AUTH_WORDS = ("incorrect api key provided", "api key not valid", "api key expired")
_QUOTA_WORDS = ("your credit balance is too low",)


def upstream_error(status: int, body: bytes, headers: Mapping[str, str], account: Account) -> GatewayError:
    """Turn a failed answer, or an error in the body or stream of a 200, into our own error.

    The `headers` ignore case.
    """
    fault = read_fault(body, headers)
    return fault_error(_meant_status(status, fault), fault, headers, account)


def error_in_body(body: bytes, headers: Mapping[str, str], account: Account) -> GatewayError | None:
    """Find the error in a 200's body or in one event of a stream; `None` when it is an answer.

    Costs one search for a key where there is no error.
    """
    if b'"error"' not in body:
        return None
    root = decoded(body)
    if isinstance(root, list) and root:
        root = root[0]
    if not isinstance(root, dict) or not root.get("error") or "choices" in root:
        return None
    fault = fault_of(root)
    return fault_error(_meant_status(HTTPStatus.OK, fault), fault, headers, account)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read `retry-after-ms` or `Retry-After` (seconds, or an HTTP date); `None` when there is none or it is no time."""
    milliseconds = as_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("Retry-After")
    seconds = as_number(text)
    if text is None or seconds is not None:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def fault_error(status: int, fault: Fault, headers: Mapping[str, str], account: Account) -> GatewayError:
    """Choose the error by status and kind (the contract's table), with the provider's message cleaned."""
    message = scrub(fault.message, account) or f"{account.provider} answered {status} without a message."
    if status == HTTPStatus.PAYMENT_REQUIRED or fault.is_one_of(_QUOTA_KINDS) or fault.says(_QUOTA_WORDS):
        return UpstreamQuotaError(message, upstream_status=status)
    if _is_auth(status, fault):
        text = f"{account.provider} refuses the key of account '{account.name}': {message}"
        return UpstreamAuthError(text, upstream_status=status)
    if status in _TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _transient(status, message, fault, headers)
    if status < HTTPStatus.BAD_REQUEST:
        text = f"{account.provider} answered with status {status}, which no call can use."
        return UpstreamError(text, upstream_status=status)
    return _rejected(status, message, fault, headers, account)


def _is_auth(status: int, fault: Fault) -> bool:
    if status == HTTPStatus.FORBIDDEN:
        return not fault.is_one_of(_FILTER_KINDS)  # a moderated prompt is the client's matter, all else is our key's
    refused = status == HTTPStatus.BAD_REQUEST and (fault.is_one_of(_AUTH_KINDS) or fault.says(_AUTH_WORDS))
    return refused or status == HTTPStatus.UNAUTHORIZED


def _transient(status: int, message: str, fault: Fault, headers: Mapping[str, str]) -> UpstreamError:
    kind = UpstreamRateLimitedError if status == HTTPStatus.TOO_MANY_REQUESTS else UpstreamError
    wait_s = retry_after_s(headers, datetime.now(UTC))
    return kind(
        message,
        may_retry=headers.get("x-should-retry") != "false",
        retry_after_s=fault.retry_after_s if wait_s is None else wait_s,
        upstream_status=status,
    )


def _rejected(status: int, message: str, fault: Fault, headers: Mapping[str, str], account: Account) -> GatewayError:
    param = _clean(fault.param, account)
    if fault.is_one_of(_CONTEXT_KINDS) or (status in _CONTEXT_STATUSES and fault.says(_CONTEXT_WORDS)):
        return ContextLengthError(message, param=param)
    error = UpstreamRejectedError(message, upstream_status=status, param=param, code=_clean(fault.code, account))
    if status == HTTPStatus.CONFLICT:
        error.may_retry = headers.get("x-should-retry") == "true"
        error.retry_after_s = retry_after_s(headers, datetime.now(UTC))
    return error


def _clean(name: str | None, account: Account) -> str | None:
    return scrub(name, account)[:_MAX_CODE_CHARS] if name else None


def _meant_status(status: int, fault: Fault) -> int:
    by_kind = _status_by_kind(fault)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:  # an error in a good answer's place
        return by_kind or fault.status or HTTPStatus.BAD_GATEWAY
    # Throttling by its own name is a 429 whatever the status; nothing else overrules the provider's status.
    return by_kind if by_kind == HTTPStatus.TOO_MANY_REQUESTS else status


def _status_by_kind(fault: Fault) -> int | None:
    return next((status for kind in fault.kinds if (status := _STATUS_OF.get(kind.lower()))), None)
