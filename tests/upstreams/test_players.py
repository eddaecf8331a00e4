"""Every player is understood by LiteLLM's own client of that provider, so that its wire is the provider's."""

import importlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.upstreams.answers import PNG, PNG_URI
from tests.upstreams.anthropic_wire import THOUGHT, AnthropicWire
from tests.upstreams.azure_wire import AzureWire
from tests.upstreams.bedrock_wire import BedrockWire
from tests.upstreams.cohere_wire import CohereWire
from tests.upstreams.gemini_wire import GeminiWire
from tests.upstreams.ollama_wire import OllamaWire
from tests.upstreams.openai_wire import groq, mistral, openai, together, xai
from tests.upstreams.server import Player
from tests.upstreams.step import Wire

# LiteLLM warns about itself (pydantic's ReadOnly, sessions left open): nothing we could mend.
pytestmark = pytest.mark.filterwarnings("ignore")
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": PARAMETERS}}
    for name in ("weather", "traffic")
]
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PARAMETERS}}


@dataclass(frozen=True)
class Case:
    """How LiteLLM is told to reach one player; `path` is where it must have knocked."""

    model: str
    wire: Wire
    path: str
    api_base: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


AWS = {"aws_access_key_id": "AKIDUPSTREAM", "aws_secret_access_key": "secret", "aws_region_name": "us-east-1"}
CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
CASES = {
    "openai": Case("openai/gpt-4o", openai(), "/v1/chat/completions"),
    "groq": Case("groq/gemma2-9b-it", groq(), "/openai/v1/chat/completions"),
    "mistral": Case("mistral/mistral-large-latest", mistral(), "/v1/chat/completions"),
    "together": Case("together_ai/Qwen/Qwen2.5-7B-Instruct-Turbo", together(), "/v1/chat/completions"),
    "xai": Case("xai/grok-4", xai(), "/v1/chat/completions"),
    "azure": Case(
        "azure/gpt-4o",
        AzureWire(),
        "/openai/deployments/gpt-4o/chat/completions",
        options={"api_version": "2024-10-21"},
    ),
    "anthropic": Case("anthropic/claude-sonnet-4-5", AnthropicWire(), "/v1/messages"),
    "gemini": Case("gemini/gemini-2.5-flash", GeminiWire(), "/v1beta/models/gemini-2.5-flash:generateContent"),
    "cohere": Case("cohere_chat/command-r-plus", CohereWire(), "/v2/chat", api_base="/v2/chat"),
    "ollama_chat": Case("ollama_chat/llama3.1", OllamaWire(), "/api/chat"),
    "ollama": Case("ollama/llama3.1", OllamaWire(), "/api/generate"),
    "bedrock": Case(f"bedrock/{CLAUDE}", BedrockWire(), f"/model/{CLAUDE}/converse", options=AWS),
}
# LiteLLM reads no tool calls of Cohere's streams, Ollama's /api/generate has none, and Cohere's schema is not mapped.
WITH_TOOLS = sorted(CASES.keys() - {"cohere", "ollama"})
WITH_SCHEMA = sorted(CASES.keys() - {"cohere", "groq", "together"})


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        patch.setenv("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
        import litellm  # noqa: PLC0415  # seconds to import: only for these tests

        patch.setattr(litellm, "disable_hf_tokenizer_download", True)
        patch.setattr(litellm, "suppress_debug_info", True)
        yield litellm


@pytest.fixture
async def closed_after(litellm: Any) -> AsyncIterator[None]:
    """Close LiteLLM's clients with the loop they belong to."""
    yield
    cleanup = importlib.import_module("litellm.llms.custom_httpx.async_client_cleanup")
    await cleanup.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


async def _ask(litellm: Any, case: Case, player: Player, **fields: Any) -> Any:
    key = getattr(case.wire, "key", None)
    named = {**case.options} if case.options.get("aws_region_name") else {"api_key": key or "none", **case.options}
    return await litellm.acompletion(
        case.model,
        api_base=player.base + case.api_base,
        timeout=10,
        num_retries=0,
        _skip_mcp_handler=True,
        **named,
        **fields,
    )


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.usefixtures("closed_after")
@pytest.mark.parametrize("name", CASES)
async def test_litellm_reads_the_players_answer(litellm: Any, name: str) -> None:
    async with Player(CASES[name].wire) as player:
        answer = await _ask(litellm, CASES[name], player, messages=_user("wörld 😀 of echo"))

        assert "wörld 😀 of echo" in answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.prompt_tokens >= 7
        assert answer.usage.completion_tokens >= 4
        assert player.last.path == CASES[name].path


@pytest.mark.usefixtures("closed_after")
@pytest.mark.parametrize("name", CASES)
async def test_litellm_reads_the_players_stream(litellm: Any, name: str) -> None:
    async with Player(CASES[name].wire) as player:
        chunks = [
            chunk
            async for chunk in await _ask(litellm, CASES[name], player, messages=_user("wörld 😀 echo"), stream=True)
        ]

        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert "wörld 😀 echo" in text
        assert len(chunks) >= 3
        assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.usefixtures("closed_after")
@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_litellm_reads_two_parallel_tool_calls(litellm: Any, name: str) -> None:
    async with Player(CASES[name].wire) as player:
        answer = await _ask(litellm, CASES[name], player, messages=_user("x"), tools=TOOLS)

        calls = answer.choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["weather", "traffic"]
        assert [json.loads(call.function.arguments)["city"] for call in calls] == ["city é😀 0", "city é😀 1"]


@pytest.mark.usefixtures("closed_after")
@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_litellm_reads_two_parallel_tool_calls_of_a_stream(litellm: Any, name: str) -> None:
    async with Player(CASES[name].wire) as player:
        stream = await _ask(litellm, CASES[name], player, messages=_user("x"), tools=TOOLS, stream=True)
        pieces = [call async for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]

        joined = "".join(piece.function.arguments or "" for piece in pieces)
        assert joined.count('"city"') == 2
        assert [piece.function.name for piece in pieces if piece.function.name] == ["weather", "traffic"]


@pytest.mark.usefixtures("closed_after")
@pytest.mark.parametrize("name", WITH_SCHEMA)
async def test_litellm_reads_json_by_a_schema(litellm: Any, name: str) -> None:
    async with Player(CASES[name].wire) as player:
        answer = await _ask(litellm, CASES[name], player, messages=_user("x"), response_format=FORMAT)

        assert json.loads(answer.choices[0].message.content) == {"city": "city é😀 0", "days": 7}


@pytest.mark.usefixtures("closed_after")
@pytest.mark.parametrize("name", CASES)
async def test_the_player_sees_the_picture(litellm: Any, name: str) -> None:
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": PNG_URI}}]
    async with Player(CASES[name].wire) as player:
        answer = await _ask(litellm, CASES[name], player, messages=_user(content))

        assert f" {len(PNG)} bytes] " in answer.choices[0].message.content


@pytest.mark.usefixtures("closed_after")
async def test_a_thinking_model_thinks_before_it_answers(litellm: Any) -> None:
    case = CASES["anthropic"]
    async with Player(case.wire) as player:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        answer = await _ask(litellm, case, player, messages=_user("x"), thinking=thinking, max_tokens=2048)

        assert answer.choices[0].message.reasoning_content == THOUGHT


@pytest.fixture
async def module_client(litellm: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Give LiteLLM's one global client to this test's loop; Ollama's embeddings use it."""
    client = importlib.import_module("litellm.llms.custom_httpx.http_handler").AsyncHTTPHandler()
    monkeypatch.setattr(litellm, "module_level_aclient", client)
    yield
    await client.close()


@pytest.mark.usefixtures("closed_after", "module_client")
@pytest.mark.parametrize(
    ("model", "wire", "path"),
    [
        ("openai/text-embedding-3-small", openai(), ""),
        ("gemini/gemini-embedding-001", GeminiWire(), ""),
        ("cohere/embed-v4.0", CohereWire(), "/v2/embed"),
        ("ollama/nomic-embed-text", OllamaWire(), ""),
    ],
)
async def test_litellm_reads_the_players_embeddings(litellm: Any, model: str, wire: Any, path: str) -> None:
    async with Player(wire) as player:
        key = wire.key or "none"
        answer = await litellm.aembedding(model, ["one", "two"], api_base=player.base + path, api_key=key, timeout=10)

        assert [len(row["embedding"]) for row in answer.data] == [8, 8]
        assert answer.data[0]["embedding"] != answer.data[1]["embedding"]


@pytest.mark.usefixtures("closed_after")
@pytest.mark.parametrize("name", sorted(CASES.keys() - {"ollama", "ollama_chat"}))
async def test_a_wrong_key_is_refused(litellm: Any, name: str) -> None:
    case = CASES[name]
    wrong: dict[str, Any] = {"aws_access_key_id": "AKIDWRONG"} if name == "bedrock" else {"api_key": "wrong-key"}
    async with Player(case.wire) as player:
        with pytest.raises((litellm.AuthenticationError, litellm.BadRequestError, litellm.PermissionDeniedError)):
            await litellm.acompletion(
                case.model,
                api_base=player.base + case.api_base,
                messages=_user("x"),
                num_retries=0,
                max_retries=0,
                timeout=10,
                **{**case.options, **wrong},
            )

        assert player.requests_total == 1
