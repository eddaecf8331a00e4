"""The providers that tests play, and how a catalog reaches each: one table for all front-door tests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.upstreams.anthropic_wire import AnthropicWire
from tests.upstreams.azure_wire import AzureWire
from tests.upstreams.bedrock_wire import BedrockWire
from tests.upstreams.cohere_wire import CohereWire
from tests.upstreams.gemini_wire import GeminiWire
from tests.upstreams.ollama_wire import OllamaWire
from tests.upstreams.openai_wire import groq, mistral, openai, together, xai
from tests.upstreams.server import Player
from tests.upstreams.step import Request, Wire

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Played:
    """One provider.

    Args:
        model: The name the provider knows.
        path, stream_path: Where it must be asked for a chat.
        header: The header that proves who we are, and its value.
        entry: What else its entry in the catalog says.
    """

    provider: str
    wire: Wire
    model: str
    path: str
    header: tuple[str, str] | None
    key: str | None
    stream_path: str | None = None
    embedding_model: str = "no-embeddings-here"
    entry: Mapping[str, Any] = field(default_factory=dict)

    def catalog(self, player: Player, *, key: str | None = None, apart: int = 0, **model: Any) -> str:
        """Offer its models as `chat` and `embed`; YAML, of which JSON is a part.

        Args:
            apart: So many times more its chat model, `chat-0` and on: each at an account of its own, so that after
                the failures of one the others are asked as if nothing had happened.
        """
        entry = {"provider": self.provider, "api_key": key or self.key, "api_base": player.base, **self.entry}
        given = {name: value for name, value in entry.items() if value is not None}
        offered = [("chat", self.provider, self.model), ("embed", self.provider, self.embedding_model)]
        offered += [(f"chat-{number}", f"account-{number}", self.model) for number in range(apart)]
        models = [
            {"name": name, "deployments": [{"provider": account, "model": upstream}], **model}
            for name, account, upstream in offered
        ]
        return json.dumps({"providers": {account: given for _, account, _ in offered}, "models": models})

    def is_proven(self, request: Request) -> bool:
        if self.header is None:
            return True
        name, value = self.header
        return request.headers.get(name, "").startswith(value)


CLAUDE_ON_BEDROCK = "anthropic.claude-3-haiku-20240307-v1:0"
AWS = {
    "aws_access_key_id": "AKIDUPSTREAM",
    "aws_secret_access_key": "bedrock-secret-upstream",
    "aws_region_name": "us-east-1",
}


def _bearer(provider: str, wire: Wire, model: str, path: str, key: str, **more: Any) -> Played:
    return Played(provider, wire, model, path, ("authorization", f"Bearer {key}"), key, **more)


PLAYED = {
    played.provider: played
    for played in (
        _bearer(
            "openai",
            openai("sk-openai-upstream"),
            "gpt-4o",
            "/v1/chat/completions",
            "sk-openai-upstream",
            embedding_model="text-embedding-3-small",
        ),
        Played(
            "anthropic",
            AnthropicWire("sk-ant-upstream"),
            "claude-sonnet-4-5",
            "/v1/messages",
            ("x-api-key", "sk-ant-upstream"),
            "sk-ant-upstream",
        ),
        Played(
            "gemini",
            GeminiWire("AIza-upstream"),
            "gemini-2.5-flash",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            ("x-goog-api-key", "AIza-upstream"),
            "AIza-upstream",
            stream_path="/v1beta/models/gemini-2.5-flash:streamGenerateContent",
            embedding_model="gemini-embedding-001",
        ),
        _bearer("groq", groq("gsk-upstream"), "gemma2-9b-it", "/openai/v1/chat/completions", "gsk-upstream"),
        _bearer("mistral", mistral("mi-upstream"), "mistral-large-latest", "/v1/chat/completions", "mi-upstream"),
        _bearer(
            "together_ai",
            together("tgp-upstream"),
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            "/v1/chat/completions",
            "tgp-upstream",
        ),
        _bearer(
            "cohere",
            CohereWire("co-upstream"),
            "command-a-03-2025",
            "/v2/chat",
            "co-upstream",
            embedding_model="embed-v4.0",
        ),
        Played(
            "azure",
            AzureWire("azure-upstream", deployment="my-deployment"),
            "my-deployment",
            "/openai/deployments/my-deployment/chat/completions",
            ("api-key", "azure-upstream"),
            "azure-upstream",
            entry={"api_version": "2024-10-21"},
        ),
        Played(
            "bedrock",
            BedrockWire("AKIDUPSTREAM"),
            CLAUDE_ON_BEDROCK,
            f"/model/{CLAUDE_ON_BEDROCK}/converse",
            ("authorization", "AWS4-HMAC-SHA256 Credential=AKIDUPSTREAM/"),
            None,
            stream_path=f"/model/{CLAUDE_ON_BEDROCK}/converse-stream",
            entry={"options": AWS},
        ),
        _bearer("xai", xai("xai-upstream"), "grok-4", "/v1/chat/completions", "xai-upstream"),
        Played("ollama", OllamaWire(), "llama3.1", "/api/chat", None, None, embedding_model="nomic-embed-text"),
    )
}
EVERY = sorted(PLAYED)
IN_DEPTH = ["anthropic", "gemini", "ollama", "openai"]
EMBEDDING = ["cohere", "gemini", "ollama", "openai"]


def user(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


def tools(*names: str) -> list[Any]:
    return [
        {"type": "function", "function": {"name": name, "description": f"Asks {name}.", "parameters": PARAMETERS}}
        for name in names
    ]
