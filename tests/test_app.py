from llmgateway.api.openapi import openapi_document
from llmgateway.engine import build_gateway
from llmgateway.exchange import Call, Complete, Exchange
from tests.conftest import Serve
from tests.upstreams.server import Player


async def test_a_client_of_openai_talks_to_the_provider(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)

    answer = await served.openai.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "Hello there"}]
    )

    assert answer.choices[0].message.content
    assert provider.last.json["model"] == "gpt-4o"
    assert provider.last.headers["authorization"] == "Bearer sk-upstream"


async def test_a_stream_is_answered_piece_by_piece(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog)

    stream = await served.openai.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "Hello there"}], stream=True
    )
    chunks = [chunk async for chunk in stream]

    assert "Hello there" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert all(chunk.choices for chunk in chunks), "nobody asked for the usage chunk"
    line = await served.logged("llm_request_complete")
    assert line["completion_tokens"] > 0


async def test_a_web_page_may_call_when_its_origin_is_named_and_read_errors_too(gateway: Serve) -> None:
    served = await gateway(cors_origins="https://app.example.com")
    asks = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}

    preflight = await served.client.options("/v1/chat/completions", headers=asks)
    error = await served.client.get("/nothing", headers={"Origin": "https://app.example.com"})
    foreign = await served.client.get("/health", headers={"Origin": "https://other.example.com"})

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
    assert error.headers["access-control-allow-origin"] == "https://app.example.com"
    document = openapi_document("1")
    named = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["headers"]
    assert named.keys() - set(error.headers["access-control-expose-headers"].split(", ")) == set()
    assert "access-control-allow-origin" not in foreign.headers


async def test_no_origin_is_allowed_unless_named(gateway: Serve) -> None:
    served = await gateway()

    answer = await served.client.get("/health", headers={"Origin": "https://app.example.com"})

    assert "access-control-allow-origin" not in answer.headers


async def test_keys_of_the_catalog_whose_part_comes_later_are_named_at_start(gateway: Serve, catalog: str) -> None:
    served = await gateway(catalog + "    integrations: {doc_store: {base_url: 'https://x.example'}}\n")

    line = await served.logged("catalog_keys_without_effect_yet")

    assert any("integrations" in key for key in line["keys"])


async def test_a_program_without_a_server_asks_the_same_pipeline() -> None:
    gateway = build_gateway({})
    exchange = Exchange()

    reply = await gateway.send(exchange, Call("chat", "demo/echo", b'{"messages":[{"role":"user","content":"hi"}]}'))
    await gateway.close()

    assert isinstance(reply, Complete)
    assert b"hi" in reply.body
    assert exchange.deadline == exchange.started + 590
