import time
from datetime import UTC, datetime, timedelta

import pytest

from llmgateway.exchange import Attempt, Exchange
from llmgateway.telemetry.provider_health import CLOSED, Circuit, ProviderHealth, Rest
from tests.deployments import deployment
from tests.timing import relative_cost


def exchange_of(
    *outcomes: str | None, took_s: float = 1.0, first_chunk_s: float | None = None, deadline_s: float | None = None
) -> Exchange:
    """An exchange that ended now, with an attempt at `main` for each outcome."""
    now = time.perf_counter()
    exchange = Exchange(started=now - took_s)
    exchange.deadline = None if deadline_s is None else exchange.started + deadline_s
    for outcome in outcomes:
        attempt = Attempt(deployment("main"), exchange.started, now, outcome=outcome)
        attempt.first_chunk = None if first_chunk_s is None else exchange.started + first_chunk_s
        exchange.attempts.append(attempt)
    return exchange


def test_nothing_is_known_before_the_first_attempt() -> None:
    state = ProviderHealth(590.0).states({"main": CLOSED})["main"]

    assert (state.available, state.status, state.last_checked, state.latency_ms) == (True, "unknown", None, None)


def test_the_last_attempt_decides_and_its_time_is_told() -> None:
    health = ProviderHealth(590.0)

    health.record(exchange_of("provider_unavailable"))
    failed = health.states({"main": CLOSED})["main"]
    health.record(exchange_of("provider_unavailable", "ok"))
    mended = health.states({"main": CLOSED})["main"]

    assert (failed.status, failed.error) == ("unhealthy", "provider_unavailable")
    assert (mended.status, mended.error) == ("healthy", None)
    age = datetime.now(UTC) - datetime.fromisoformat(mended.last_checked or "")
    assert timedelta(seconds=-0.1) < age < timedelta(seconds=5)


@pytest.mark.parametrize(
    "outcome", ["cancelled", "content_policy_violation", "invalid_value", "context_length_exceeded", None]
)
def test_what_the_client_did_does_not_make_a_provider_bad(outcome: str | None) -> None:
    health = ProviderHealth(590.0)

    health.record(exchange_of(outcome))
    before = health.states({"main": CLOSED})["main"]
    health.record(exchange_of("ok"))
    health.record(exchange_of(outcome))

    assert before.status == "unknown"
    assert health.states({"main": CLOSED})["main"].status == "healthy"


def test_a_client_in_a_hurry_makes_no_provider_bad_but_the_gateways_own_limit_does() -> None:
    hurried, patient, account = ProviderHealth(590.0), ProviderHealth(590.0), ProviderHealth(590.0)

    hurried.record(exchange_of("provider_timeout", took_s=0.2, deadline_s=0.1))
    patient.record(exchange_of("provider_timeout", took_s=591.0, deadline_s=590.0))
    account.record(exchange_of("provider_timeout", took_s=5.0, deadline_s=30.0))

    assert hurried.states({"main": CLOSED})["main"].status == "unknown"
    assert patient.states({"main": CLOSED})["main"].status == "unhealthy"
    assert account.states({"main": CLOSED})["main"].status == "unhealthy"


def test_latency_is_a_moving_average_to_the_answer_or_to_the_first_chunk() -> None:
    health = ProviderHealth(590.0)

    health.record(exchange_of("provider_unavailable", took_s=30.0))
    health.record(exchange_of("ok", took_s=1.0))
    first = health.states({"main": CLOSED})["main"].latency_ms
    health.record(exchange_of("ok", took_s=60.0, first_chunk_s=2.0))

    assert first == pytest.approx(1000.0, abs=1.0)
    assert health.states({"main": CLOSED})["main"].latency_ms == pytest.approx(1200.0, abs=1.0)


def test_only_the_accounts_asked_for_are_told() -> None:
    health = ProviderHealth(590.0)
    health.record(exchange_of("ok"))

    assert list(health.states({"spare": CLOSED})) == ["spare"]


@pytest.mark.parametrize("known", [True, False])
def test_circuits_say_whether_it_may_be_asked(known: bool) -> None:
    health = ProviderHealth(590.0)
    if known:
        health.record(exchange_of("provider_unavailable"))
    rest = Rest("gpt-4o", "failures", 0.8)

    resting = health.states({"main": Circuit("open", available=False, resting=(rest,))})["main"]
    usual = health.states({"main": CLOSED})["main"]

    assert (resting.available, resting.circuit, resting.resting) == (False, "open", (rest,))
    assert (usual.available, usual.circuit, usual.resting) == (True, "closed", ())


@pytest.mark.alone
def test_noting_a_request_costs_about_a_microsecond() -> None:
    health, exchange = ProviderHealth(590.0), exchange_of("ok")

    assert relative_cost(lambda: health.record(exchange), number=10_000) < 0.6, "0.15 on a quiet machine"
