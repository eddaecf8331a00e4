"""Every error that a client can see or that routing tells apart, and nothing else.

The tree::

    GatewayError
    ├── InvalidRequestError            400  the client's fault: the same request fails again
    │   ├── InvalidJSONError           400  the body is not JSON
    │   ├── UnsupportedParameterError  400  this provider has no such parameter
    │   ├── ContextLengthError         400  prompt and answer do not fit the model's window
    │   ├── MaxCostError               402  it would cost more than the client lets it
    │   ├── ModelNotFoundError         404  no such model, or not yours
    │   ├── NotFoundError              404  no such path
    │   ├── MethodNotAllowedError      405
    │   ├── RequestTooLargeError       413
    │   ├── AuthenticationError        401  no key, or none that is known
    │   ├── PermissionDeniedError      403  this key may not do this
    │   ├── ConflictError              409  there is one of that name, or with that key, already
    │   ├── DocumentError              400  a document, its service or flavor: `code` says what is wrong
    │   └── UnprocessableError         422  fields of a document service's body; `details.errors` has each
    ├── RateLimitedError               429  a limit of this gateway
    ├── BudgetSpentError               429  the caller's money is spent: a repeat does not help
    ├── ClientGoneError                499  only in the log: nobody is left to read it
    ├── OverloadedError                503  this process has as much as it can take
    ├── ShuttingDownError              503  this process ends; another one answers
    ├── LedgerAwayError                503  what was written down cannot be read now
    ├── KeysAwayError                  503  whose key it is cannot be found out now
    ├── LimitsAwayError                503  the counters are away, and a setting says not to guess
    ├── ProviderTimeoutError           504  the deadline passed
    ├── JobFailedError                 502  the job behind a virtual model failed; `code` is its fault's
    ├── JobRunningError                504  the deadline passed, and the job goes on; `details.job_id` is its id
    └── UpstreamError                  502  the provider failed: a retry or another deployment may help
        ├── UpstreamRejectedError      4xx  the provider refuses the request itself
        ├── UpstreamRateLimitedError   429
        ├── UpstreamAuthError          502  the provider refuses our key
        ├── UpstreamQuotaError         502  our account there is out of money or quota
        └── NoHealthyDeploymentError   503  all deployments of the model rest

A class exists only where the client gets another status or code, or where routing acts differently.
"""

from collections.abc import Mapping
from typing import ClassVar

__all__ = [
    "AuthenticationError",
    "BudgetSpentError",
    "ClientGoneError",
    "ConflictError",
    "ContextLengthError",
    "DocumentError",
    "GatewayError",
    "InvalidJSONError",
    "InvalidRequestError",
    "JobFailedError",
    "JobRunningError",
    "KeysAwayError",
    "LedgerAwayError",
    "LimitsAwayError",
    "MaxCostError",
    "MethodNotAllowedError",
    "ModelNotFoundError",
    "NoHealthyDeploymentError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProviderTimeoutError",
    "RateLimitedError",
    "RequestTooLargeError",
    "ShuttingDownError",
    "UnprocessableError",
    "UnsupportedParameterError",
    "UpstreamAuthError",
    "UpstreamError",
    "UpstreamQuotaError",
    "UpstreamRateLimitedError",
    "UpstreamRejectedError",
]


class GatewayError(Exception):
    """The root: knows its HTTP status, OpenAI's `type` and `code`, and whether the client should try again.

    Args:
        message: For the reader who must act; never a secret, a prompt or an internal address.
        param: The field at fault, as a path such as `messages[2].content`.
        code: Replaces the class's own code, for a provider's code that is passed on.
        details: More for programs, for example `available_models`.
        retry_after_s: Seconds after which a repeat may succeed; `None` when unknown.
    """

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    # None: the SDK's own rule holds. True or False is sent as `x-should-retry`.
    should_retry: bool | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code


class InvalidRequestError(GatewayError):
    """The request is wrong; the message says what would be right."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class InvalidJSONError(InvalidRequestError):
    """The body is not JSON, or not an object."""

    code = "invalid_json"


class UnsupportedParameterError(InvalidRequestError):
    """The provider behind this model has no such parameter, and the catalog does not drop it."""

    code = "unsupported_parameter"


class ContextLengthError(InvalidRequestError):
    """Prompt and answer together are longer than the model's context window."""

    code = "context_length_exceeded"


class MaxCostError(InvalidRequestError):
    """No deployment answers this call for so little; `details` says what it would cost."""

    status = 402
    code = "max_cost_exceeded"
    should_retry = False


class ModelNotFoundError(InvalidRequestError):
    """No such model, or not one for this caller: the same text for both."""

    status = 404
    code = "model_not_found"


class NotFoundError(InvalidRequestError):
    """No such path or object."""

    status = 404
    code = "not_found"


class MethodNotAllowedError(InvalidRequestError):
    """The path is served, but not for this method."""

    status = 405
    code = "method_not_allowed"


class RequestTooLargeError(InvalidRequestError):
    """The body is longer than the limit; it was not read to its end."""

    status = 413
    code = "request_too_large"


class AuthenticationError(InvalidRequestError):
    """No key came, or one that nobody has: the same answer for both."""

    status = 401
    code = "invalid_api_key"
    should_retry = False


class PermissionDeniedError(InvalidRequestError):
    """The key is known and may not do this; `code` says what: `model_not_allowed`, `admin_required`."""

    status = 403
    code = "permission_denied"
    should_retry = False


class ConflictError(InvalidRequestError):
    """It cannot be made, or not now, because of what is there already; `code` says what."""

    status = 409
    code = "conflict"
    should_retry = False


class DocumentError(InvalidRequestError):
    """A document that cannot be read, or a service or flavor that cannot be run with it; `code` says what.

    `flavor_inactive`, `no_default_flavor`, `context_exceeded`, `fallback_flavor_not_found`, `fallback_flavor_inactive`,
    `fallback_context_exceeded`, `empty_input`, `unsupported_file`, `prompt_invalid`.
    """

    code = "document_invalid"


class UnprocessableError(InvalidRequestError):
    """A body whose fields are wrong, under /api/v1; `details.errors` has `loc` and `msg` of each."""

    status = 422
    code = "validation_error"
    should_retry = False


class RateLimitedError(GatewayError):
    """A limit of this gateway, never of a provider; `details.rule` names it."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class BudgetSpentError(GatewayError):
    """The caller's budget has no room for this call: a repeat helps only when its period is over."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    should_retry = False


class ClientGoneError(GatewayError):
    """The client closed the connection before its answer was complete."""

    status = 499
    type = "client_closed_request"
    code = "client_closed_request"


class OverloadedError(GatewayError):
    """Requests in flight, or their bodies, are at this process's limit."""

    status = 503
    code = "overloaded"
    should_retry = True


class ShuttingDownError(GatewayError):
    """This process was told to end and the grace for running requests is over."""

    status = 503
    code = "shutting_down"
    should_retry = True


class LedgerAwayError(GatewayError):
    """The database does not answer, or not in time: model calls go on, what they cost is told later."""

    status = 503
    code = "ledger_unavailable"
    should_retry = True


class KeysAwayError(GatewayError):
    """The database does not answer and this key was not seen before: it may well be right, so this is no 401."""

    status = 503
    code = "keys_unavailable"
    should_retry = True


class LimitsAwayError(GatewayError):
    """The shared counters do not answer, and the settings say that no call passes uncounted."""

    status = 503
    code = "limits_unavailable"
    should_retry = True


class ProviderTimeoutError(GatewayError):
    """The deadline of the request, of the first token or of a silent stream passed."""

    status = 504
    type = "timeout_error"
    code = "provider_timeout"


class JobFailedError(GatewayError):
    """The job behind a virtual model has ended without a result; `details.job_id` can be resumed, not repeated."""

    status = 502
    type = "job_error"
    code = "job_failed"
    should_retry = False


class JobRunningError(GatewayError):
    """The time for the request is over before its job is: the job goes on, and `details.job_id` says where to look."""

    status = 504
    type = "timeout_error"
    code = "job_running"
    should_retry = False


class UpstreamError(GatewayError):
    """The provider failed: 5xx, a broken answer, a lost connection.

    Args:
        message: The provider's message with secrets and addresses taken out.
        may_retry: Whether the same deployment may be asked again (408, 409 where it says so, 429, 5xx, connection).
        upstream_status: The HTTP status the provider sent; `None` when it sent none.
    """

    status = 502
    type = "provider_error"
    code = "provider_unavailable"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
        may_retry: bool = False,
        upstream_status: int | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, details=details, retry_after_s=retry_after_s)
        self.may_retry = may_retry
        self.upstream_status = upstream_status


class UpstreamRejectedError(UpstreamError):
    """The provider says that the request itself is wrong; its status and code are the client's."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"

    def __init__(
        self, message: str, *, upstream_status: int, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, param=param, code=code, upstream_status=upstream_status)
        self.status = upstream_status


class UpstreamRateLimitedError(UpstreamError):
    """The provider limits our account; no other deployment was left."""

    status = 429
    type = "rate_limit_error"
    code = "provider_rate_limited"


class UpstreamAuthError(UpstreamError):
    """The provider refuses our key: never the client's 401, whose own key is fine."""

    code = "provider_auth_failed"


class UpstreamQuotaError(UpstreamError):
    """Our account at the provider is out of money or quota."""

    code = "provider_quota_exhausted"


class NoHealthyDeploymentError(UpstreamError):
    """Every deployment of the model rests after failures; nobody was asked."""

    status = 503
    code = "no_healthy_deployment"
