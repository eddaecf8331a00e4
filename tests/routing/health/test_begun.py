import pytest

from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    ProviderTimeoutError,
    UnsupportedParameterError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Attempt
from llmgateway.routing.health.begun import Begun
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Health
from tests.routing.scripted import DEPLOYMENT


def begin() -> tuple[Begun, Health]:
    book = HealthBook()
    health = book.of(DEPLOYMENT)
    return Begun(Attempt(DEPLOYMENT, book.clock()), health), health


VERDICTS = [
    (UpstreamRateLimitedError("slow down"), "rate_limit"),
    (UpstreamAuthError("no"), "auth"),
    (UpstreamQuotaError("empty"), "quota"),
    (UpstreamError("busy", retry_after_s=9), "failures"),
    (UpstreamRejectedError("bad", upstream_status=400), None),
    (UpstreamRejectedError("no model", upstream_status=404), None),
    (ContextLengthError("long"), None),
    (UnsupportedParameterError("never sent"), None),
]


@pytest.mark.parametrize(("error", "cause"), VERDICTS)
def test_an_error_is_the_deployments_or_the_clients(error: GatewayError, cause: str | None) -> None:
    begun, health = begin()

    begun.refused(error)

    assert health.cause == cause
    assert health.inflight == 0
    assert begun.attempt.outcome == error.code


def test_its_end_is_written_down_once() -> None:
    begun, health = begin()

    begun.end("ok")
    begun.refused(UpstreamError("too late"))
    begun.left()
    begun.superseded()

    assert (begun.attempt.outcome, health.inflight, health.in_a_row) == ("ok", 0, 0)


def test_a_client_in_haste_says_nothing_of_the_deployment() -> None:
    begun, health = begin()
    begun.late(ProviderTimeoutError("late"), counts=False)
    assert (begun.attempt.outcome, health.in_a_row) == ("provider_timeout", 0)

    begun, health = begin()
    begun.late(ProviderTimeoutError("late"), counts=True)
    assert (begun.attempt.outcome, health.in_a_row) == ("provider_timeout", 1)


@pytest.mark.parametrize("ends", ["refused", "left", "superseded", "answered", "late"])
def test_the_probe_is_over_however_it_ends(ends: str) -> None:
    book = HealthBook()
    health = book.of(DEPLOYMENT)
    now = book.clock()
    health.rest_until(now - 2, now - 1, "failures")
    begun = Begun(Attempt(DEPLOYMENT, now), health)
    assert begun.is_probe
    assert not health.available(now)

    if ends == "refused":
        begun.refused(UpstreamError("down"))
    elif ends == "answered":
        begun.answered(stream=True)
        begun.end("ok")
    elif ends == "late":
        begun.late(ProviderTimeoutError("late"), counts=False)
    else:
        getattr(begun, ends)()

    assert health.available(book.clock() + 60)
    assert health.inflight == 0
