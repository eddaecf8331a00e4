"""The providers that are translated, each with a player of its wire, and what tests ask of them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmgateway.catalog.model import Account, Deployment
from llmgateway.exchange import Call, Complete, Operation, Reply, Streamed
from llmgateway.upstream.litellm import LiteLLMUpstream
from tests.upstreams.anthropic_wire import AnthropicWire
from tests.upstreams.bedrock_wire import BedrockWire, frame
from tests.upstreams.cohere_wire import CohereWire
from tests.upstreams.gemini_wire import GeminiWire
from tests.upstreams.ollama_wire import OllamaWire
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step, Wire

HELLO: list[dict[str, Any]] = [
    {"role": "system", "content": "Repeat what you are told."},
    {"role": "user", "content": "hello big wörld 🎉"},
]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
AS_JSON = {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True}}


def tool(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": f"Tell the {name}.", "parameters": schema}}


TOOLS = [tool("weather"), tool("time")]


@dataclass(frozen=True)
class Provider:
    """How one provider is set up, and what the tests need to know of it."""

    name: str
    wire: Callable[[], Wire]
    model: str
    key: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def deployment(self, player: Player, **changes: Any) -> Deployment:
        account = Account(
            name=f"{self.name}-main",
            provider=self.name,
            wire="litellm",
            api_key=self.key,
            api_base=player.base,
            options=self.options,
        )
        return Deployment(account=account, model=self.model, **changes)


_AWS = {"aws_access_key_id": "AKIDUPSTREAM", "aws_secret_access_key": "s3cr3t" * 6, "aws_region_name": "us-east-1"}
ANTHROPIC = Provider("anthropic", AnthropicWire, "claude-sonnet-4-5", "sk-ant-upstream")
GEMINI = Provider("gemini", GeminiWire, "gemini-2.5-flash", "AIza-upstream")
COHERE = Provider("cohere", CohereWire, "command-r-plus", "co-upstream")
OLLAMA = Provider("ollama", OllamaWire, "llama3.1")
BEDROCK = Provider("bedrock", BedrockWire, "anthropic.claude-3-5-sonnet-20240620-v1:0", options=_AWS)
DIRECT = [ANTHROPIC, GEMINI, COHERE, OLLAMA]
ALL = [*DIRECT, BEDROCK]


def call(operation: Operation = "chat", *, stream: bool = False, include_usage: bool = False, **body: Any) -> Call:
    fields = body if operation != "chat" or "messages" in body else {"messages": HELLO, **body}
    return Call(operation, "m", json.dumps({"model": "m", **fields}).encode(), stream, include_usage)


async def whole(upstream: LiteLLMUpstream, deployment: Deployment, asked: Call) -> dict[str, Any]:
    reply = await upstream.send(deployment, asked)
    assert isinstance(reply, Complete)
    parsed: dict[str, Any] = json.loads(reply.body)
    return parsed


def streamed(reply: Reply) -> Streamed:
    assert isinstance(reply, Streamed)
    return reply


async def raw(upstream: LiteLLMUpstream, deployment: Deployment, asked: Call) -> bytes:
    stream = streamed(await upstream.send(deployment, asked))
    try:
        return b"".join([chunk async for chunk in stream.chunks])
    finally:
        await stream.chunks.aclose()


async def chunks(upstream: LiteLLMUpstream, deployment: Deployment, asked: Call) -> list[dict[str, Any]]:
    return parse(await raw(upstream, deployment, asked))


def parse(events: bytes) -> list[dict[str, Any]]:
    """Read a whole stream, which must end with `[DONE]`."""
    *found, done, rest = events.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in found]


def deltas(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in found if chunk["choices"]]


def text_of(found: list[dict[str, Any]]) -> str:
    return "".join(delta.get("content") or "" for delta in deltas(found))


def calls_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put streamed tool calls together, as a client does."""
    calls: list[dict[str, Any]] = []
    for part in (part for delta in deltas(found) for part in delta.get("tool_calls", [])):
        if part["index"] == len(calls):
            assert part["id"]
            assert part["type"] == "function"
            assert part["function"]["name"]
            calls.append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
        else:
            assert "id" not in part
        calls[part["index"]]["arguments"] += part["function"]["arguments"]
    return calls


CREATED = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10}
MODALITIES = [{"modality": name, "tokenCount": count} for name, count in (("TEXT", 4), ("AUDIO", 2), ("IMAGE", 1))]
TWISTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "anthropic": (
        b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0,',
        {
            "cache_creation_input_tokens": 30,
            "cache_read_input_tokens": 40,
            "cache_creation": CREATED,
            "service_tier": "priority",
        },
    ),
    "gemini": (
        b'"totalTokenCount":11,',
        {
            "totalTokenCount": 16,
            "cachedContentTokenCount": 2,
            "thoughtsTokenCount": 5,
            "promptTokensDetails": MODALITIES,
        },
    ),
    "cohere": (b'"billed_units"', {"cached_tokens": 2}),
}
WRITTEN = {"cacheReadInputTokens": 40, "cacheWriteInputTokens": 30}


def twisted(old: bytes, new: bytes) -> Callable[[Step], Step]:
    def twist(step: Step) -> Step:
        assert old in step.body, "the player says it in another way now"
        return replace(step, pieces=tuple(Piece(piece.content.replace(old, new)) for piece in step.pieces))

    return twist


def bedrock(step: Step) -> Step:
    """Its events carry checksums, so the last is made anew."""
    counts = {"inputTokens": 7, "outputTokens": 4, "totalTokens": 81, **WRITTEN}
    if len(step.pieces) == 1:
        whole: dict[str, Any] = {**json.loads(step.body), "usage": counts}
        return replace(step, pieces=(Piece(json.dumps(whole).encode()),))
    return replace(step, pieces=(*step.pieces[:-1], Piece(frame("metadata", {"usage": counts, "metrics": {}}))))


def counted(provider: Provider) -> Callable[[Step], Step] | None:
    """Have an answer tell more of its usage than the player does by itself; `None` where a provider tells no more."""
    name = provider.name.removesuffix("_chat")
    if name == "bedrock":
        return bedrock
    if name not in TWISTS:
        return None
    old, more = TWISTS[name]
    new = json.dumps(more, separators=(",", ":")).encode()[1:-1] + b","
    return twisted(old, new + (b"" if old.endswith(b",") else old))
