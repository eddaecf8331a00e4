"""Whose key it is by its looks: the shapes that providers give their keys."""

import re

# LiteLLM's name of the provider by what its keys look like; the first that fits counts. From the providers' own pages.
_SHAPES: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("anthropic", re.compile(rb"sk-ant-[\w-]{8,}")),
    ("openrouter", re.compile(rb"sk-or-[\w-]{8,}")),
    ("deepseek", re.compile(rb"sk-[0-9a-f]{32}")),
    ("openai", re.compile(rb"sk-(?:proj-|svcacct-)?[\w-]{8,}")),
    ("groq", re.compile(rb"gsk_\w{8,}")),
    ("xai", re.compile(rb"xai-[\w-]{8,}")),
    ("gemini", re.compile(rb"AIza[\w-]{8,}")),
    ("perplexity", re.compile(rb"pplx-\w{8,}")),
    ("together_ai", re.compile(rb"tgp_v1_[\w-]{8,}")),
    ("fireworks_ai", re.compile(rb"fw_\w{8,}")),
    ("cerebras", re.compile(rb"csk-\w{8,}")),
    ("nvidia_nim", re.compile(rb"nvapi-[\w-]{8,}")),
    ("huggingface", re.compile(rb"hf_\w{8,}")),
    ("replicate", re.compile(rb"r8_\w{8,}")),
)
_LONGEST_BYTES = 512


def provider_of(key: bytes) -> str | None:
    """Name the provider whose keys look like this one; `None` when nobody's do."""
    if len(key) > _LONGEST_BYTES:
        return None
    return next((provider for provider, shape in _SHAPES if shape.fullmatch(key)), None)
