"""What OpenTelemetry's conventions for generative AI call things (semantic conventions 1.41)."""

from llmgateway.exchange import Operation

# LiteLLM's names of providers that the conventions call otherwise (gen_ai.provider.name).
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}
OPERATIONS: dict[Operation, str] = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}


def provider_name(provider: str) -> str:
    """Give `gen_ai.provider.name` of a provider by LiteLLM's name; one the conventions do not have keeps its own."""
    return _PROVIDERS.get(provider, provider)
