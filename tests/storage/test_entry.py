import msgspec
import pytest

from llmgateway.exchange import Attempt, Call, Complete, Exchange, Streamed, Trace, Usage
from llmgateway.storage.entry import AttemptEntry, LedgerEntry, columns, entry_of
from tests.deployments import deployment
from tests.routing.scripted import pieces


def ended(**fields: object) -> Exchange:
    """A model call that took a second."""
    exchange = Exchange(operation="chat", requested_model="fast", status=200)
    exchange.started -= 1.0
    exchange.ended = exchange.started + 1.0
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def test_a_call_is_written_down_with_all_that_was_learned() -> None:
    exchange = ended(
        client_id="mine",
        organization="acme",
        call=Call("chat", "fast", b"{}", user="u-1"),
        model_label="fast",
        provider="main",
        upstream_model="gpt-4o",
        reply=Complete(b"{}", model="gpt-4o-2024"),
        usage=Usage(10, 5, 4, 2, cache_write_tokens=3, cache_write_1h_tokens=1, audio_prompt_tokens=1),
        cost_usd=0.0012345678,
        trace=Trace(0xABC, 1),
        route_reason="only deployment",
    )
    exchange.attempts = [
        Attempt(deployment(), exchange.started + 0.1, exchange.started + 0.3, outcome="provider_unavailable"),
        Attempt(deployment(), exchange.started + 0.4, exchange.started + 0.9, outcome="ok", upstream_status=200),
    ]

    entry = entry_of(exchange)

    assert (entry.id, entry.client_id, entry.organization_id) == (exchange.id, "mine", "acme")
    assert (entry.user_label, entry.trace_id) == ("u-1", f"{0xABC:032x}")
    assert (entry.requested_model, entry.model, entry.upstream_model) == ("fast", "fast", "gpt-4o")
    assert (entry.response_model, entry.deployment) == ("gpt-4o-2024", "main/gpt-4o")
    assert (entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens) == (10, 5, 4)
    assert (entry.cache_write_tokens, entry.reasoning_tokens, entry.audio_tokens) == (4, 2, 1)
    assert entry.cost_nusd == 1_234_568
    assert (entry.duration_ms, entry.upstream_ms, entry.overhead_ms) == pytest.approx((1000, 700, 300), abs=0.01)
    assert entry.attempts[0].outcome == "provider_unavailable"
    assert entry.attempts[1] == AttemptEntry(
        "main",
        "gpt-4o",
        pytest.approx(400, abs=0.01),  # type: ignore[arg-type]
        pytest.approx(500, abs=0.01),  # type: ignore[arg-type]
        "ok",
        upstream_status=200,
    )


def test_what_is_unknown_is_null_and_never_nothing() -> None:
    entry = entry_of(ended(status=None, error_code="provider_unavailable"))

    assert (entry.prompt_tokens, entry.cost_nusd, entry.provider, entry.ttft_ms) == (None, None, None, None)
    assert (entry.status, entry.error_code) == (500, "provider_unavailable")


def test_a_stream_has_the_time_to_its_first_chunk() -> None:
    exchange = ended(stream=True, reply=Streamed(pieces()), provider="main", upstream_model="m")
    started = exchange.started
    exchange.attempts = [Attempt(deployment(), started + 0.1, started + 0.9, first_chunk=started + 0.25, outcome="ok")]

    entry = entry_of(exchange)

    assert entry.ttft_ms == pytest.approx(250, abs=0.01)
    assert entry.attempts[0].ttft_ms == pytest.approx(150, abs=0.01)


def test_pitfall_087_a_row_is_bounded_whatever_was_written() -> None:
    exchange = ended(requested_model="x" * 100_000, reply=Complete(b"y" * 100_000, model="z" * 100_000))
    exchange.call = Call("chat", "x" * 100_000, b"p" * 100_000, user="u" * 100_000)
    exchange.attempts = [Attempt(deployment(), exchange.started, exchange.started, outcome="ok")] * 1000

    assert len(msgspec.json.encode(entry_of(exchange))) < 8_000


def test_an_entry_reads_back_as_it_was_written() -> None:
    entry = entry_of(ended(usage=Usage(1, 2), cost_usd=0.5, stream=True))

    assert msgspec.json.decode(msgspec.json.encode(entry), type=LedgerEntry) == entry
    assert columns(entry)["cost_nusd"] == 500_000_000
