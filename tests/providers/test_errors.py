import pytest

from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    ModelNotFoundError,
    OverloadedError,
    ProviderTimeoutError,
    ShuttingDownError,
    UnsupportedParameterError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.providers import (
    AuthError,
    InvalidRequestError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
)
from llmgateway.providers import TimeoutError as ProviderTimedOutError
from llmgateway.providers.errors import translate


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamAuthError("bad key"), AuthError),
        (UpstreamRejectedError("forbidden", upstream_status=403), AuthError),
        (UpstreamRateLimitedError("slow down", retry_after_s=1.5), RateLimitError),
        (ProviderTimeoutError("late"), ProviderTimedOutError),
        (ModelNotFoundError("no such model", param="model"), InvalidRequestError),
        (ContextLengthError("too long"), InvalidRequestError),
        (UnsupportedParameterError("no tools", param="tools"), InvalidRequestError),
        (UpstreamRejectedError("unprocessable", upstream_status=422), InvalidRequestError),
        (UpstreamError("down"), ProviderUnavailableError),
        (UpstreamQuotaError("no money"), ProviderUnavailableError),
        (OverloadedError("full"), ProviderUnavailableError),
        (ShuttingDownError("ending"), ProviderUnavailableError),
        (GatewayError("a bug"), ProviderUnavailableError),
    ],
)
def test_every_error_of_the_gateway_has_its_class(error: GatewayError, kind: type[ProviderError]) -> None:
    translated = translate(error, provider="openai", model="gpt-4o")

    assert type(translated) is kind
    assert isinstance(translated, ProviderError)
    assert (translated.provider, translated.model, translated.message) == ("openai", "gpt-4o", error.message)
    assert (translated.code, translated.param) == (error.code, error.param)
    assert translated.retry_after == error.retry_after_s
    assert str(translated) == error.message
