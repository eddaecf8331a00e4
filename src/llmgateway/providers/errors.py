"""What a Python program can catch. The gateway's own error is the `__cause__` of each.

The tree::

    ProviderError
    ├── AuthError                 the provider, or this gateway, refuses the key
    ├── RateLimitError            too many requests; `retry_after` says how long to wait
    ├── TimeoutError              the deadline passed
    ├── InvalidRequestError       the request is wrong, or names no model there is
    └── ProviderUnavailableError  the provider failed, or the gateway is full or ending
"""

from llmgateway.errors import GatewayError, UpstreamAuthError


class ProviderError(Exception):
    """The root.

    Args:
        message: What was wrong, for the reader who must act.
        provider: Who was asked last; `None` when it did not come to that.
        model: The name the request asked for.
        code: Stable, for programs, as in the HTTP API's errors.
        param: The field at fault, by its path.
        retry_after: Seconds after which a repeat may succeed; `None` when unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.model = model
        self.code = code
        self.param = param
        self.retry_after = retry_after


class AuthError(ProviderError):
    """The key is missing, wrong, or may not do this."""


class RateLimitError(ProviderError):
    """Too many requests or tokens; `retry_after` says for how long."""


class TimeoutError(ProviderError):  # noqa: A001  the name its users import
    """The answer did not come in time."""


class InvalidRequestError(ProviderError):
    """The same request fails again; `param` names the field where one is at fault."""


class ProviderUnavailableError(ProviderError):
    """The provider failed, or this gateway cannot take the request now; a repeat may succeed."""


_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthError,
    403: AuthError,
    408: TimeoutError,
    429: RateLimitError,
    504: TimeoutError,
}


def translate(error: GatewayError, *, provider: str | None, model: str) -> ProviderError:
    """Turn the gateway's error into the one that its users catch."""
    kind = _BY_STATUS.get(error.status)
    if isinstance(error, UpstreamAuthError):
        kind = AuthError  # To an HTTP client a 502, whose own key is fine; here the keys are the program's own.
    elif kind is None:
        kind = InvalidRequestError if 400 <= error.status < 500 else ProviderUnavailableError  # noqa: PLR2004  HTTP's classes
    return kind(
        error.message,
        provider=provider,
        model=model,
        code=error.code,
        param=error.param,
        retry_after=error.retry_after_s,
    )
