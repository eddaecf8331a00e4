"""One request, seen from the application through the gateway to the provider and its retries, in a real collector."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.conftest import Serve
from tests.running import Running, running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.otlp import Collected, attributes, grpc_collector, http_collector
from tests.upstreams.server import Player

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
PLANTED = "the-violet-heron-4711"


def otel(collected: Collected, protocol: str = "http/protobuf", **more: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collected.endpoint + ("" if protocol == "grpc" else "/v1/traces"),
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        **more,
    }


async def ask(g: Running, headers: dict[str, str], **fields: Any) -> str:
    """Ask once, and give the gateway's id of it."""
    answer = await g.openai.chat.completions.with_raw_response.create(
        model="chat", messages=[{"role": "user", "content": PLANTED}], extra_headers=headers, **fields
    )
    return str(answer.headers["x-gateway-request-id"])


@pytest.fixture(params=["http/protobuf", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def collected(protocol: str) -> Iterator[Collected]:
    collector = grpc_collector if protocol == "grpc" else http_collector
    with collector() as running:
        yield running


async def test_a_request_is_one_trace_from_the_client_to_the_attempt(
    gateway: Serve, catalog: str, collected: Collected, protocol: str
) -> None:
    g = await gateway(catalog, environ=otel(collected, protocol))
    await ask(g, {"traceparent": TRACEPARENT, "tracestate": "a=1"})
    spans = [await collected.named(name) for name in ("POST /v1/chat/completions", "llm.generate", "chat gpt-4o")]
    server, generate, attempt = spans

    assert {(span.trace_id.hex(), span.trace_state) for span in spans} == {(TRACE, "a=1")}
    assert server.parent_span_id.hex() == PARENT
    assert (generate.parent_span_id, attempt.parent_span_id) == (server.span_id, generate.span_id)
    assert [span.kind for span in spans] == [Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_CLIENT]
    assert server.start_time_unix_nano <= attempt.start_time_unix_nano < attempt.end_time_unix_nano
    assert attempt.end_time_unix_nano <= generate.end_time_unix_nano <= server.end_time_unix_nano
    assert abs(server.end_time_unix_nano - time.time_ns()) < 20e9
    assert collected.resources[0]["service.name"] == "llmgateway"


async def test_spans_tell_what_was_asked_and_what_came_of_it_and_no_content(
    gateway: Serve, catalog: str, provider: Player, collected: Collected, protocol: str
) -> None:
    """Pitfall 99: what was asked is not in the bytes that leave."""
    g = await gateway(catalog, environ=otel(collected, protocol))
    request_id = await ask(g, {}, temperature=0.5, max_tokens=17, stop=["END"])
    server, generate = await collected.named("POST /v1/chat/completions"), await collected.named("llm.generate")
    told = attributes(generate.attributes)

    assert attributes(server.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "llmgateway.request_id": request_id,
    }
    assert (
        told.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "chat",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 17,
            "server.address": "127.0.0.1",
            "server.port": provider.port,
        }.items()
    )
    assert (told["gen_ai.request.stop_sequences"], told["gen_ai.response.finish_reasons"]) == (["END"], ["stop"])
    assert {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.response.id"} <= told.keys()
    assert attributes((await collected.named("chat gpt-4o")).attributes)["gen_ai.request.model"] == "gpt-4o"
    assert not any(PLANTED.encode() in raw for raw in collected.raw)


async def test_retries_hang_together_in_one_trace(
    gateway: Serve, catalog: str, provider: Player, collected: Collected, protocol: str
) -> None:
    g = await gateway(catalog, environ=otel(collected, protocol))
    provider.script(OpenAIWire().error(500, "no"))
    await ask(g, {})
    generate = await collected.named("llm.generate")
    failed, answered = sorted(
        (span for span in collected.spans if span.name == "chat gpt-4o"), key=lambda span: span.start_time_unix_nano
    )

    assert failed.trace_id == answered.trace_id == generate.trace_id
    assert failed.parent_span_id == answered.parent_span_id == generate.span_id
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert answered.status.code == generate.status.code == Status.STATUS_CODE_UNSET
    assert attributes(failed.attributes)["error.type"]
    assert attributes(failed.attributes)["http.response.status_code"] == 500
    assert [event.name for event in generate.events] == ["retry"]


async def test_a_stream_tells_when_its_first_chunk_came_and_why_it_ended(
    gateway: Serve, catalog: str, collected: Collected, protocol: str
) -> None:
    g = await gateway(catalog, environ=otel(collected, protocol))
    stream = await g.openai.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    async for _ in stream:
        pass
    told = attributes((await collected.named("llm.generate")).attributes)

    assert told["gen_ai.request.stream"] is True
    assert 0 < told["gen_ai.response.time_to_first_chunk"] < 10
    assert told["gen_ai.response.finish_reasons"] == ["stop"]


@pytest.mark.parametrize("protocol", ["http/protobuf"], indirect=True)
async def test_what_was_said_is_told_only_to_those_who_ask(gateway: Serve, catalog: str, collected: Collected) -> None:
    """Pitfall 99: what looks like a key stays out even then."""
    g = await gateway(catalog, environ=otel(collected, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true"))
    said = f"{PLANTED} sk-planted1234567890abcdef"
    await g.openai.chat.completions.create(model="chat", messages=[{"role": "user", "content": said}])
    told = attributes((await collected.named("llm.generate")).attributes)

    assert PLANTED in told["gen_ai.input.messages"]
    assert "assistant" in told["gen_ai.output.messages"]
    assert not any(b"sk-planted" in raw for raw in collected.raw)


@pytest.mark.parametrize("protocol", ["http/protobuf"], indirect=True)
@pytest.mark.parametrize("propagate", [True, False])
async def test_the_provider_learns_of_the_trace_only_when_a_setting_says_so(
    gateway: Serve, catalog: str, provider: Player, collected: Collected, *, propagate: bool
) -> None:
    g = await gateway(catalog, environ=otel(collected), propagate_trace=propagate)
    await g.openai.chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "hi"}],
        extra_headers={"traceparent": TRACEPARENT, "tracestate": "a=1", "baggage": "tenant=7"},
    )
    attempt = await collected.named("chat gpt-4o")
    headers = {name.lower(): value for name, value in provider.requests[-1].headers.items()}

    if propagate:
        assert headers["traceparent"] == f"00-{TRACE}-{attempt.span_id.hex()}-01"
        assert (headers["tracestate"], headers["baggage"]) == ("a=1", "tenant=7")
    else:
        assert not {"traceparent", "tracestate", "baggage"} & headers.keys()


@pytest.mark.parametrize("protocol", ["http/protobuf"], indirect=True)
async def test_a_client_that_does_not_sample_is_followed(gateway: Serve, catalog: str, collected: Collected) -> None:
    g = await gateway(catalog, environ=otel(collected))
    for flag in ("00", "01"):
        await g.openai.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={
                "traceparent": f"00-{flag * 16}-{PARENT}-{flag}" if flag == "01" else TRACEPARENT[:-1] + "0"
            },
        )
    await collected.named("llm.generate")

    assert {span.trace_id.hex() for span in collected.spans} == {"01" * 16}


async def test_spans_arrive_once_the_collector_is_there(gateway: Serve, catalog: str, protocol: str) -> None:
    """Pitfall 73: one line says that it was away."""
    collect = grpc_collector if protocol == "grpc" else http_collector
    with collect() as gone:
        environ = otel(gone, protocol)
    g = await gateway(catalog, environ=environ)
    for _ in range(20):
        await ask(g, {})
    with collect(port=gone.port) as back:
        await back.named("llm.generate", within_s=20)

    assert len([line for line in g.logs() if line["event"] == "spans_dropped"]) <= 1
    assert not [line for line in g.logs() if str(line.get("logger", "")).startswith(("opentelemetry", "urllib3"))]


@pytest.mark.alone
async def test_a_collector_that_hangs_holds_up_nobody(tmp_path: Path, catalog: str, protocol: str) -> None:
    collect = grpc_collector if protocol == "grpc" else http_collector
    with collect(hangs=True) as hanging:
        environ = otel(hanging, protocol, OTEL_BSP_MAX_QUEUE_SIZE="64")
        async with running(tmp_path, catalog, environ=environ) as g:
            took = []
            for _ in range(100):
                begin = time.perf_counter()
                await ask(g, {})
                took.append(time.perf_counter() - begin)
            await hanging.until(lambda: bool(hanging.raw))
            begin = time.perf_counter()

        assert sorted(took)[98] < 0.5
        assert time.perf_counter() - begin < 5
