from typing import Any

import pytest

from llmgateway.catalog.model import Prices
from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    InvalidRequestError,
    MaxCostError,
    NoHealthyDeploymentError,
    PermissionDeniedError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
)
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.filters import FILTERS, FilterName, Wanted
from llmgateway.routing.choosing.refusals import refusal
from llmgateway.routing.health.health import Cause
from llmgateway.wire.needs import NEEDED_BY
from tests.deployments import candidate

NOW = 1000.0


def refused(by: FilterName, *among: Candidate, **wanted: Any) -> GatewayError:
    return refusal(by, "chat", among or (candidate(),), Wanted(NOW, **wanted))


def resting(cause: Cause, rest_s: float, *, probing: bool = False) -> Candidate:
    one = candidate(account=cause)
    one.health.until, one.health.cause = NOW + rest_s, cause
    if probing:
        one.health.begin(NOW)
    return one


@pytest.mark.parametrize("by", FILTERS)
def test_every_refusal_names_its_filter_and_little_of_a_long_name(by: FilterName) -> None:
    wanted = Wanted(NOW, needs=frozenset({"vision"}), max_cost_usd=0.1, min_security="high", own_provider="openai")
    error = refusal(by, "m" * 10_000, [candidate()], wanted)

    assert error.details is not None
    assert error.details["filter"] == by
    assert len(error.message) < 600


@pytest.mark.parametrize("by", FILTERS)
def test_a_model_without_deployments_is_not_well(by: FilterName) -> None:
    assert isinstance(refusal(by, "chat", [], Wanted(NOW)), NoHealthyDeploymentError)


def test_a_sensitive_call_that_nobody_may_see() -> None:
    error = refused("security", min_security="high")

    assert isinstance(error, PermissionDeniedError)
    assert (error.status, error.code, error.param) == (403, "sensitive_content", "model")


def test_a_key_that_opens_nothing_here() -> None:
    error = refused("provider_key", own_provider="anthropic")

    assert isinstance(error, PermissionDeniedError)
    assert (error.status, error.code, error.param) == (403, "model_not_allowed", "model")
    assert error.message == "A key of anthropic was sent, and `chat` is not answered with such keys here."


@pytest.mark.parametrize(("need", "param"), NEEDED_BY.items())
def test_a_missing_capability_names_the_field_that_needs_it(need: str, param: str) -> None:
    needs = frozenset({need})
    asked: dict[str, Any] = {"stream": True} if need == "streaming" else {"needs": needs}

    error = refused("capability", candidate(lacks=needs), **asked)

    assert isinstance(error, InvalidRequestError)
    assert (error.status, error.code, error.param) == (400, "unsupported_capability", param)
    assert error.details == {"filter": "capability", "capabilities": [need]}
    assert "No deployment of `chat` can" in error.message
    assert "GET /v1/models" in error.message


def test_only_what_all_lack_is_named_or_everything_where_nobody_has_all_of_it() -> None:
    vision, tools = frozenset({"vision"}), frozenset({"tools"})
    blind, clumsy = candidate(lacks=vision), candidate(lacks=vision | tools)

    error = refused("capability", blind, clumsy, needs=vision | tools)
    assert (error.param, error.details) == ("messages", {"filter": "capability", "capabilities": ["vision"]})

    error = refused("capability", blind, candidate(lacks=tools), needs=vision | tools)
    assert "can take images and use tools" in error.message


def test_a_prompt_that_is_too_long_for_all() -> None:
    small, large = candidate(context_length=8192), candidate(context_length=16_384)

    error = refused("context_window", small, large, fewest_prompt_tokens=20_000, most_prompt_tokens=20_000)
    rough = refused("context_window", small, large, fewest_prompt_tokens=20_000, most_prompt_tokens=90_000)

    assert isinstance(error, ContextLengthError)
    assert "The prompt has 20000 tokens, and the longest context window of `chat` has 16384." in error.message
    assert error.details == {"filter": "context_window", "prompt_tokens": 20_000, "context_length": 16_384}
    assert "at least 20000 tokens" in rough.message


def test_a_call_that_would_cost_too_much() -> None:
    dear, dearer = candidate(prices=Prices(1e-5, 0.0)), candidate(prices=Prices(1e-4, 0.0))

    error = refused("max_cost", dearer, candidate(), dear, prompt_tokens=1000, max_cost_usd=0.001)

    assert isinstance(error, MaxCostError)
    assert (error.status, error.code, error.should_retry) == (402, "max_cost_exceeded", False)
    assert error.details == {"filter": "max_cost", "estimated_cost_usd": pytest.approx(0.01), "cheapest": None}
    assert "would cost about 0.01 USD with `chat`, and X-Max-Cost-USD allows 0.001" in error.message


def test_a_call_whose_cost_nobody_knows() -> None:
    error = refused("max_cost", candidate(), prompt_tokens=1000, max_cost_usd=0.001)

    assert isinstance(error, MaxCostError)
    assert error.details == {"filter": "max_cost", "estimated_cost_usd": None, "cheapest": None}


@pytest.mark.parametrize(
    ("causes", "kind", "status", "may_retry"),
    [
        (("rate_limit", "rate_limit"), UpstreamRateLimitedError, 429, True),
        (("auth", "auth"), UpstreamAuthError, 502, False),
        (("quota", "quota"), UpstreamQuotaError, 502, False),
        (("failures", "failures"), NoHealthyDeploymentError, 503, False),
        (("rate_limit", "failures"), NoHealthyDeploymentError, 503, False),
        (("auth", "quota"), NoHealthyDeploymentError, 503, False),
    ],
)
def test_why_all_of_them_rest(
    causes: tuple[Cause, Cause], kind: type[UpstreamError], status: int, *, may_retry: bool
) -> None:
    first, second = causes

    error = refused("circuit", resting(first, 8.0), resting(second, 2.5))

    assert type(error) is kind
    assert (error.status, error.retry_after_s, error.may_retry) == (status, 2.5, may_retry)


def test_a_call_may_wait_for_the_one_that_is_trying() -> None:
    error = refused("circuit", resting("failures", 8.0), resting("failures", -1.0, probing=True))

    assert isinstance(error, NoHealthyDeploymentError)
    assert error.may_retry
    assert error.retry_after_s is not None
    assert 0.0 < error.retry_after_s <= 1.0
