"""What LiteLLM raises, as our own errors: the one place of this package that catches everything.

LiteLLM guesses an error's class from words in its text, so the status is taken from the provider's own answer,
which hangs on the exception or on the one it was made from.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import msgspec
from multidict import CIMultiDict

from llmgateway.catalog.model import Account
from llmgateway.errors import GatewayError, InvalidRequestError, UnsupportedParameterError, UpstreamError
from llmgateway.upstream.errors import fault_error, upstream_error
from llmgateway.upstream.fault import Fault
from llmgateway.upstream.scrub import scrub
from llmgateway.upstream.transport import connection_failure

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_PREFIXES = re.compile(r"^(?:litellm\.\w+: |[\w ]*(?:Exception|Error)(?: - |: ))+")
# Advice for those who call LiteLLM in a program, and the prompt itself.
_ASIDES = re.compile(
    r"\s*(?:To drop these, set|If you want to use these params|Received Messages=|LiteLLM Retried|This looks like a bug"
    r").*",
    re.DOTALL,
)
_KINDS: Mapping[str, str] = {
    "AuthenticationError": "authentication_error",
    "ContentPolicyViolationError": "content_filter",
    "ContextWindowExceededError": "context_length_exceeded",
}
_UNSUPPORTED = frozenset({"UnsupportedParamsError"})
_CONNECTION = frozenset(
    {
        "APIConnectionError",
        "Timeout",
        "TimeoutException",
        "TransportError",
        "ConnectError",
        "ReadError",
        "ConnectTimeout",
    }
)
_UNREADABLE = "Error converting to valid response block"
_MAX_CAUSES = 10


@contextmanager
def translating(account: Account) -> Iterator[None]:
    """Turn what goes wrong while a request is put into a provider's form into a 400: the request is at fault."""
    try:
        yield
    except GatewayError:
        raise
    except Exception as error:
        # LiteLLM raises whatever comes up: KeyError, bare Exception, its own and pydantic's.
        raise _refused(error, account) from error


class Reading:
    """Turns what goes wrong while a provider's answer is read into a broken answer; its own errors are known by then.

    Entered for every event of a stream: a class, because a generator costs ten times as much.
    """

    __slots__ = ("_account",)

    def __init__(self, account: Account) -> None:
        self._account = account

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # Whatever it is: an answer of another shape ends in any kind of exception.
        if not isinstance(error, Exception) or isinstance(error, GatewayError):
            return
        if isinstance(error, OSError):
            raise connection_failure(error, self._account) from error
        provider = self._account.provider
        raise UpstreamError(f"{provider} sent an answer that is not in its own format.", may_retry=True) from error


@contextmanager
def calling(account: Account) -> Iterator[None]:
    """Turn what a call made by LiteLLM itself ends with into our own error."""
    try:
        yield
    except GatewayError:
        raise
    except Exception as error:
        # The same.
        raise library_error(error, account) from error


def library_error(error: Exception, account: Account) -> GatewayError:
    """Translate an exception of LiteLLM's, with the provider's own status, message and headers where they are there."""
    name = type(error).__name__
    if name in _UNSUPPORTED:
        return UnsupportedParameterError(scrub(_message(error), account))
    source = _source(error)
    status = None if source is None else _own_status(source)
    if source is None or status is None or type(source).__name__ in _CONNECTION:
        return UpstreamError(f"{account.provider}: {_lost(type(source or error).__name__)}.", may_retry=True)
    message = _message(error)
    if _UNREADABLE in message:
        # LiteLLM gives such an answer a status of its own.
        return UpstreamError(f"{account.provider} sent an answer that is not in its own format.", may_retry=True)
    headers = _headers(error)
    body = _json_in(message)
    if body is not None:
        return upstream_error(status, body, headers, account)
    kind = _KINDS.get(name)
    return fault_error(status, Fault(message=message, kinds=(kind,) if kind else ()), headers, account)


def _refused(error: Exception, account: Account) -> GatewayError:
    if type(error).__name__ in _UNSUPPORTED:
        return UnsupportedParameterError(scrub(_message(error), account))
    if type(error).__name__ == "AuthenticationError":
        return library_error(error, account)
    reason = scrub(_message(error), account) if _is_litellm(error) else f"{type(error).__name__} in its translation"
    return InvalidRequestError(f"This request cannot be put into the form that {account.provider} takes: {reason}")


def _lost(name: str) -> str:
    if name.startswith("Timeout") or name.endswith("Timeout"):
        return "no answer in time"
    return "the connection failed or the answer could not be read"


def _is_litellm(error: Exception) -> bool:
    return type(error).__module__.startswith("litellm")


def _message(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error)
    return _ASIDES.sub("", _PREFIXES.sub("", text)).strip()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those it was made from, the first one last."""
    found: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        # One of ours is how the attempt before ended, which was being dealt with when this one was made.
        if found is None or isinstance(found, GatewayError):
            return
        yield found
        found = found.__cause__ or found.__context__


def _source(error: BaseException) -> BaseException | None:
    """The innermost exception with a status: the one nearest to the provider's own answer."""
    sources = [cause for cause in _causes(error) if _own_status(cause) is not None]
    return sources[-1] if sources else None


def _own_status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    for value in (getattr(response, "status_code", None), getattr(error, "status_code", None)):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _headers(error: BaseException) -> Mapping[str, str]:
    for cause in reversed(list(_causes(error))):
        headers: Any = getattr(getattr(cause, "response", None), "headers", None) or getattr(cause, "headers", None)
        if headers:
            return CIMultiDict((str(name), str(value)) for name, value in headers.items())
    return _NO_HEADERS


def _json_in(message: str) -> bytes | None:
    """The provider's own error object, which LiteLLM puts into its message as text."""
    start = message.find("{")
    if start < 0:
        return None
    text = message[start : message.rfind("}") + 1].encode()
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return text if isinstance(found, dict) else None
