"""Providers by the names that tools for traces look for."""

import pytest

from llmgateway.telemetry.traces.names import provider_name


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("openai", "openai"),
        ("anthropic", "anthropic"),
        ("bedrock", "aws.bedrock"),
        ("azure", "azure.ai.openai"),
        ("vertex_ai", "gcp.vertex_ai"),
        ("gemini", "gcp.gemini"),
        ("mistral", "mistral_ai"),
        ("cohere", "cohere"),
        ("xai", "x_ai"),
        ("watsonx", "ibm.watsonx.ai"),
        ("ollama", "ollama"),
    ],
)
def test_a_provider_has_the_conventions_name(ours: str, theirs: str) -> None:
    assert provider_name(ours) == theirs
