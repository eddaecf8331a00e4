import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from llmgateway import providers
from llmgateway.engine import build_gateway
from llmgateway.gateway.gateway import Gateway
from llmgateway.providers import (
    AuthError,
    Chunk,
    CompletionRequest,
    InvalidRequestError,
    LLMGatewayProvider,
    ProviderUnavailableError,
    RateLimitError,
)
from llmgateway.providers import TimeoutError as ProviderTimedOutError
from tests.upstreams.server import Player


@pytest.fixture
async def pipeline(tmp_path: Path, catalog: str) -> AsyncIterator[Gateway]:
    path = tmp_path / "gateway.yaml"
    path.write_text(textwrap.dedent(catalog))
    gateway = build_gateway({"LLMGATEWAY_CATALOG": str(path), "LLMGATEWAY_RETRY__MAX_RETRIES": "0"})
    yield gateway
    await gateway.close()


async def chunks_of(provider: LLMGatewayProvider, request: CompletionRequest) -> list[Chunk]:
    return await rest_of(provider.generate(request))


async def rest_of(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


async def test_a_stream_comes_in_chunks_with_reason_usage_and_model(pipeline: Gateway) -> None:
    whole = await chunks_of(LLMGatewayProvider(pipeline), CompletionRequest(model="chat", prompt="Hi", stream=False))

    chunks = await chunks_of(LLMGatewayProvider(pipeline), CompletionRequest(model="chat", prompt="Hi"))

    assert len(whole) == 1
    assert whole[0].finish_reason == "stop"
    assert whole[0].usage is not None
    assert len(chunks) > 2
    assert "".join(chunk.content for chunk in chunks) == whole[0].content != ""
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert [chunk.usage for chunk in chunks if chunk.usage] == [whole[0].usage]
    assert {chunk.model for chunk in chunks} == {whole[0].model}


async def test_pitfall_022_closing_the_generator_early_ends_the_call_at_the_provider(
    pipeline: Gateway, provider: Player
) -> None:
    provider.script(lambda step: step.endless(pieces=2, pause_s=0.01))

    async with aclosing(LLMGatewayProvider(pipeline).generate(CompletionRequest(model="chat", prompt="Hi"))) as chunks:
        while not (await anext(chunks)).content:
            continue
        left = time.perf_counter()

    await provider.until(lambda: len(provider.cancels) == 1)
    assert provider.cancels[0].noticed - left < 1


async def test_pitfall_002_a_stream_that_breaks_off_raises(pipeline: Gateway, provider: Player) -> None:
    provider.script(lambda step: step.cut(pieces=3))
    chunks = LLMGatewayProvider(pipeline).generate(CompletionRequest(model="chat", prompt="Hi"))

    assert (await anext(chunks)).model is not None
    with pytest.raises(ProviderUnavailableError) as failed:
        await rest_of(chunks)

    assert (failed.value.provider, failed.value.model) == ("main", "chat")


async def test_the_providers_limit_says_how_long_to_wait(pipeline: Gateway, provider: Player) -> None:
    provider.script(provider.wire.error(429, "Slow down", retry_after="7"))

    with pytest.raises(RateLimitError) as failed:
        await chunks_of(LLMGatewayProvider(pipeline), CompletionRequest(model="chat", prompt="Hi"))

    assert failed.value.retry_after == 7
    assert (failed.value.provider, failed.value.model) == ("main", "chat")
    assert "Slow down" in failed.value.message


async def test_a_refused_key_is_an_auth_error(pipeline: Gateway, provider: Player) -> None:
    provider.script(provider.wire.error(401, "Incorrect API key provided", code="invalid_api_key"))

    with pytest.raises(AuthError) as failed:
        await chunks_of(LLMGatewayProvider(pipeline), CompletionRequest(model="chat", prompt="Hi", stream=False))

    assert "sk-upstream" not in failed.value.message


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deadline_that_passes_is_a_timeout(pipeline: Gateway, provider: Player, stream: bool) -> None:
    provider.script(lambda step: step.delayed(20))
    request = CompletionRequest(model="chat", prompt="Hi", stream=stream, timeout_s=0.2)

    with pytest.raises(ProviderTimedOutError):
        await chunks_of(LLMGatewayProvider(pipeline), request)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (CompletionRequest(model="no/such", prompt="Hi"), "model"),
        (CompletionRequest(model="chat", messages=[{"role": "usr", "content": "Hi"}]), "messages[0].role"),
    ],
)
async def test_a_wrong_request_names_its_field_and_reaches_nobody(
    pipeline: Gateway, provider: Player, request_: CompletionRequest, param: str
) -> None:
    with pytest.raises(InvalidRequestError) as failed:
        await chunks_of(LLMGatewayProvider(pipeline), request_)

    assert (failed.value.param, failed.value.model, failed.value.provider) == (param, request_.model, None)
    assert provider.requests_total == 0


async def test_without_a_gateway_one_is_built_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async with LLMGatewayProvider() as provider:
        chunks = await chunks_of(provider, CompletionRequest(model="demo/echo", prompt="Hello there"))

    assert "".join(chunk.content for chunk in chunks) == "Hello there"


async def test_closing_leaves_a_gateway_that_was_passed_in_open(pipeline: Gateway) -> None:
    async with LLMGatewayProvider(pipeline) as provider:
        await chunks_of(provider, CompletionRequest(model="chat", prompt="Hi"))
    await provider.close()

    assert await chunks_of(LLMGatewayProvider(pipeline), CompletionRequest(model="chat", prompt="Hi"))


async def test_tokens_are_counted_without_a_gateway() -> None:
    assert await LLMGatewayProvider().count_tokens("hello world", "gpt-4o") == 2


def test_the_face_is_what_its_list_says() -> None:
    public = {name for name in vars(providers) if not name.startswith("_")}

    assert set(providers.__all__) <= public
    assert {name for name in public if name[0].isupper()} == set(providers.__all__)
