"""The spans of a request that is over."""

import time
from dataclasses import replace

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import ClientGoneError
from llmgateway.exchange import Call, Complete, Event, Exchange, Trace, Usage
from llmgateway.telemetry.traces.span import CLIENT, INTERNAL, SERVER
from llmgateway.telemetry.traces.spans import spans_of
from tests.telemetry.exchanges import SPARE, Tried, ended

MAIN = Deployment(Account("eu", "azure", "azure", api_base="https://eu.azure.test/v1"), "gpt-4o")


def traced(*tried: Tried, **fields: object) -> Exchange:
    given = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "trace": Trace(7, 8, 9, sampled=True),
        "call": Call("chat", "chat", b"{}"),
        **fields,
    }
    return ended(*tried, **given)  # type: ignore[arg-type]  # by their names


def test_a_failover_is_two_attempts_at_two_providers() -> None:
    exchange = traced((MAIN, 0.5, "upstream_error"), (SPARE, 1.0, "ok"), reply=Complete(b"{}", model="claude-5"))
    exchange.attempts[0].upstream_status = 503
    exchange.attempts[1].span_id = 77
    exchange.events.append(Event("failover", exchange.started + 1.0, {"to": "spare"}))
    server, generate, failed, answered = spans_of(exchange)

    assert [span.kind for span in (server, generate, failed, answered)] == [SERVER, INTERNAL, CLIENT, CLIENT]
    assert (server.id, server.parent_id, server.remote_parent) == (8, 9, True)
    assert (generate.parent_id, failed.parent_id, answered.parent_id) == (8, generate.id, generate.id)
    assert [failed.name, answered.name, answered.id] == ["chat gpt-4o", "chat claude", 77]
    assert failed.failed
    assert not any(span.failed for span in (server, generate, answered))
    assert failed.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt-4o",
        "llmgateway.account": "eu",
        "server.address": "eu.azure.test",
        "server.port": 443,
        "http.response.status_code": 503,
        "error.type": "upstream_error",
    }
    assert generate.attributes["gen_ai.response.model"] == "claude-5"
    assert [(event.name, event.attributes) for event in generate.events] == [("failover", {"to": "spare"})]
    assert generate.started_ns <= generate.events[0].at_ns <= generate.ended_ns
    assert abs((server.ended_ns - server.started_ns) - 2e9) < 1e6
    assert abs(server.ended_ns - time.time_ns()) < 10e9


def test_usage_cost_and_cache_are_told() -> None:
    usage = Usage(100, 20, cached_tokens=60, cache_write_tokens=5, cache_write_1h_tokens=7, estimated=True)
    generate = spans_of(traced((MAIN, 1.0, "ok"), usage=usage, cost_usd=0.25, cache_status="MISS"))[1]

    assert (
        generate.attributes.items()
        >= {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_creation.input_tokens": 12,
            "llmgateway.usage_estimated": True,
            "llmgateway.cost_usd": 0.25,
            "llmgateway.cache_status": "MISS",
        }.items()
    )
    overhead_ms = generate.attributes["llmgateway.overhead_ms"]
    assert isinstance(overhead_ms, float)
    assert 999 < overhead_ms < 1001


def test_an_unknown_price_is_not_told_as_nothing() -> None:
    assert "llmgateway.cost_usd" not in spans_of(traced((MAIN, 1.0, "ok")))[1].attributes


@pytest.mark.parametrize(
    ("status", "code", "server_failed", "generate_failed"),
    [
        (502, "upstream_error", True, True),
        (400, "context_length_exceeded", False, True),
        (200, "upstream_error", True, True),
        (499, ClientGoneError.code, False, False),
        (None, None, True, False),
    ],
)
def test_an_error_is_whose_it_is(
    status: int | None, code: str | None, *, server_failed: bool, generate_failed: bool
) -> None:
    server, generate, _ = spans_of(traced((MAIN, 1.0, "cancelled"), status=status, error_code=code))

    assert (server.failed, generate.failed) == (server_failed, generate_failed)
    assert generate.attributes.get("error.type") == code
    assert ("error.type" in server.attributes) is server_failed


def test_a_refused_body_is_the_servers_span_alone() -> None:
    (server,) = spans_of(traced(call=None, status=400, error_code="invalid_json"))

    assert (server.name, server.failed) == ("POST /v1/chat/completions", False)


def test_an_attempt_that_still_runs_ends_with_its_request() -> None:
    exchange = traced((MAIN, 1.0, None))
    exchange.attempts[0].ended = None
    server, _, attempt = spans_of(exchange)

    assert (attempt.ended_ns, attempt.failed) == (server.ended_ns, False)


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/docs", "/openapi.json", "/health/live", "/v1/health/ready", "/livez"]
)
def test_probes_and_pages_have_no_spans(path: str) -> None:
    assert spans_of(Exchange(method="GET", path=path, trace=Trace(1, 2, sampled=True))) == []


def test_other_requests_have_the_servers_span_by_a_name_of_which_there_are_few() -> None:
    """Pitfall 99: nor does a path tell a key."""
    path = "/v1/models/sk-planted1234567890"
    (server,) = spans_of(Exchange(method="GET", path=path, status=404, trace=Trace(1, 2, sampled=True)))
    (odd,) = spans_of(Exchange(method="BREW", path="/pot", status=405, trace=Trace(1, 2, sampled=True)))

    assert (server.name, server.attributes["http.response.status_code"]) == ("GET", 404)
    assert "sk-planted" not in str(server.attributes)
    assert (odd.name, odd.attributes["http.request.method"]) == ("HTTP", "_OTHER")


def test_a_model_name_that_nobody_knows_may_be_a_key() -> None:
    exchange = traced(call=Call("chat", "sk-planted1234567890", b"{}"), status=404, error_code="model_not_found")

    assert "sk-planted" not in str([span.attributes for span in spans_of(exchange)])


def test_nor_is_it_told_by_an_attempt_with_such_a_name_or_by_the_providers_echo_of_it() -> None:
    made_up = replace(MAIN, model="sk-planted1234567890" * 100)
    reply = Complete(b"{}", model=made_up.model)
    exchange = traced((made_up, 1.0, "ok"), model_label="other", upstream_model=made_up.model, reply=reply)

    spans = spans_of(exchange)

    assert "sk-planted" not in str([(span.name, span.attributes) for span in spans])
    assert all(len(span.name) < 300 for span in spans)


def test_content_is_told_only_when_asked_for() -> None:
    exchange = traced(
        (MAIN, 1.0, "ok"), call=Call("chat", "chat", b'{"messages": [{"role": "user", "content": "x1"}]}')
    )

    assert "x1" not in str(spans_of(exchange))
    assert "x1" in str(spans_of(exchange, capture=True))
