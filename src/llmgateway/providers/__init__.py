"""The face for Python programs: the gateway's whole pipeline in-process, no server needed.

::

    async with LLMGatewayProvider() as provider:
        request = CompletionRequest(model="demo/echo", prompt="Hello")
        async for chunk in provider.generate(request):
            print(chunk.content, end="")
"""

from llmgateway.providers.errors import (
    AuthError,
    InvalidRequestError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    TimeoutError,  # noqa: A004  the name its users import
)
from llmgateway.providers.provider import LLMGatewayProvider
from llmgateway.providers.request import Chunk, CompletionRequest

__all__ = [
    "AuthError",
    "Chunk",
    "CompletionRequest",
    "InvalidRequestError",
    "LLMGatewayProvider",
    "ProviderError",
    "ProviderUnavailableError",
    "RateLimitError",
    "TimeoutError",
]
