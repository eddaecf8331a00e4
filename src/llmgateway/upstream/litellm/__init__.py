"""Providers that do not speak OpenAI's wire: LiteLLM knows their formats, our own transport carries them.

The one package that imports LiteLLM, and only inside functions: the import takes seconds.
"""

from llmgateway.upstream.litellm.upstream import LiteLLMUpstream

__all__ = ["LiteLLMUpstream"]
