"""Each request knows its trace before anything else happens to it."""

from starlette.types import Receive, Scope, Send

from llmgateway.exchange import Trace
from llmgateway.middleware.tracing import Tracing
from llmgateway.telemetry.traces.context import begin
from llmgateway.telemetry.traces.sampling import SAMPLERS
from tests.asgi import Client, scope_of


async def trace_of(headers: dict[str, str]) -> Trace:
    seen: list[Trace] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["exchange"].trace)

    client = Client()
    tracing = Tracing(app, begin=lambda given: begin(given, SAMPLERS["parentbased_always_on"]))
    await tracing(scope_of(headers=headers), client.receive, client.send)
    return seen[0]


async def test_the_clients_trace_is_continued() -> None:
    trace = await trace_of({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"})

    assert (trace.trace_id, trace.parent_id, trace.sampled) == (int("ab" * 16, 16), int("cd" * 8, 16), True)


async def test_without_one_a_trace_begins() -> None:
    trace, other = await trace_of({}), await trace_of({})

    assert trace.parent_id == 0
    assert trace.trace_id != other.trace_id


async def test_what_is_no_request_passes_through() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    client = Client()
    await Tracing(app, begin=lambda _: Trace(1, 2))({"type": "websocket"}, client.receive, client.send)

    assert seen == [{"type": "websocket"}]
