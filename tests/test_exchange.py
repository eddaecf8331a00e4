import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.exchange import Attempt, Call, Complete, Exchange, Header, Left, Sensitivity, Usage
from tests.deployments import deployment

NAMES = st.text(max_size=400) | st.text(alphabet="\r\n\x00\x7f\x85\u2028 ab:é😀", max_size=20)


def headers_of(exchange: Exchange) -> dict[str, str]:
    headers = exchange.headers()
    assert len({name for name, _ in headers}) == len(headers)
    return {name.decode(): value.decode("ascii") for name, value in headers}


def asked(**fields: object) -> Exchange:
    exchange = Exchange(operation="chat")
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def test_a_request_that_is_no_model_call_tells_nothing() -> None:
    assert Exchange().headers() == []


def test_every_exchange_has_an_id_of_its_own() -> None:
    first, second = Exchange(), Exchange()

    assert first.id != second.id
    assert first.id.startswith("req_")
    assert first.attempts is not second.attempts


def test_a_refused_call_has_no_provider() -> None:
    headers = headers_of(asked())

    assert headers["x-attempts"] == "0"
    assert headers["x-cache-status"] == "BYPASS"
    assert "x-provider" not in headers
    assert "x-model" not in headers


def test_the_times_are_milliseconds_of_the_whole_and_of_our_own() -> None:
    exchange = asked(provider="main", upstream_model="gpt-4o")
    exchange.started -= 1.0
    start = exchange.started
    exchange.attempts = [
        Attempt(deployment(), start + 0.1, start + 0.3),
        Attempt(deployment(), start + 0.4, start + 0.9),
    ]

    headers = headers_of(exchange)

    assert headers["x-attempts"] == "2"
    assert 1000 <= int(headers["openai-processing-ms"]) < 1100
    assert 300 <= float(headers["x-overhead-ms"]) < 400
    assert headers["server-timing"] == f"gateway;dur={headers['x-overhead-ms']}, upstream;dur=700.00"
    assert (headers["x-provider"], headers["x-model"]) == ("main", "gpt-4o")


def test_an_attempt_that_runs_counts_up_to_now() -> None:
    exchange = asked()
    exchange.started -= 1.0
    exchange.attempts = [Attempt(deployment(), exchange.started + 0.5)]

    assert 0.5 <= exchange.upstream_s < 0.6
    assert Exchange().upstream_s == 0


def test_our_own_time_is_never_negative() -> None:
    exchange = asked()
    exchange.attempts = [Attempt(deployment(), exchange.started - 1.0)]

    assert headers_of(exchange)["x-overhead-ms"] == "0.00"


def test_the_model_is_the_one_that_the_provider_reports() -> None:
    exchange = asked(provider="main", upstream_model="gpt-4o", reply=Complete(b"{}", model="gpt-4o-2024-11-20"))

    assert headers_of(exchange)["x-model"] == "gpt-4o-2024-11-20"


def test_a_reply_that_names_no_model_leaves_the_one_that_was_asked() -> None:
    exchange = asked(provider="main", upstream_model="gpt-4o", reply=Complete(b"{}"))

    assert headers_of(exchange)["x-model"] == "gpt-4o"


def test_the_upstreams_headers_are_added() -> None:
    upstream: list[Header] = [(b"x-upstream-request-id", b"req_1")]
    exchange = asked(provider="main", upstream_model="m", reply=Complete(b"{}", headers=upstream))

    assert exchange.headers()[-1:] == upstream


@given(NAMES)
def test_no_name_of_an_upstream_starts_a_header_of_its_own(model: str) -> None:
    exchange = asked(provider="main", upstream_model="m", reply=Complete(b"{}", model=model or "m"))

    value = dict(exchange.headers())[b"x-model"]

    assert re.fullmatch(rb"[ -~]{1,200}", value)


def test_an_accounts_name_outside_ascii_is_no_failure() -> None:
    assert headers_of(asked(provider="zürich", upstream_model="m"))["x-provider"] == "z?rich"


def test_a_call_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Call("chat", "m", b"{}").model = "other"  # type: ignore[misc]  # that it fails is what is shown


def test_usage_starts_at_nothing() -> None:
    assert Usage() == Usage(0, 0, 0, 0)


def test_a_whole_answer_says_what_it_cost() -> None:
    assert headers_of(asked(provider="main", upstream_model="m", cost_usd=0.00123))["x-cost-usd"] == "0.00123"
    assert "x-cost-usd" not in headers_of(asked(cost_usd=None))
    assert "x-cost-usd" not in headers_of(asked(cost_usd=0.5, stream=True)), "not known when its headers go out"


def test_an_attempt_names_its_deployment() -> None:
    attempt = Attempt(deployment("eu", "gpt-4o-mini"), 0.0)

    assert (attempt.provider, attempt.model) == ("eu", "gpt-4o-mini")


def test_limits_are_told_twice_and_the_tightest_is_the_plain_one() -> None:
    exchange = asked()
    exchange.requests_left, exchange.tokens_left = Left(60, 30, 12.5), Left(50_000, 500, 59.4)
    soon = datetime.now(UTC).timestamp()

    headers = headers_of(exchange)

    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("50000", "500")
    assert soon + 59.4 <= int(headers["x-ratelimit-reset"]) <= soon + 62
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("60", "30")
    assert headers["x-ratelimit-reset-requests"] == "12.500s"
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("50000", "500")
    assert headers["x-ratelimit-reset-tokens"] == "59.400s"


def test_without_limits_nothing_is_said_of_them() -> None:
    exchange = asked()
    assert not [name for name in headers_of(exchange) if "ratelimit" in name]

    exchange.requests_left = Left(60, 0, 1.0)

    assert headers_of(exchange)["x-ratelimit-limit"] == "60"
    assert "x-ratelimit-limit-tokens" not in headers_of(exchange)


def test_a_kept_answer_a_repeated_one_and_a_sensitive_question_say_so() -> None:
    exchange = asked()
    exchange.cache_type, exchange.cache_similarity, exchange.replayed = "semantic", 0.98765, True
    exchange.sensitivity = Sensitivity(0.95, ("secrets", "personal"), "redact")

    headers = headers_of(exchange)

    assert (headers["x-cache-type"], headers["x-cache-similarity"]) == ("semantic", "0.9877")
    assert headers["idempotent-replayed"] == "true"
    assert headers["x-sensitivity"] == "score=0.95; categories=secrets,personal; action=redact"
