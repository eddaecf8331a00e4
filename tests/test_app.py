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
