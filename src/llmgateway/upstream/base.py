"""The seam to providers: what routing may ask of every upstream, and how each of them tells what was used."""

from typing import Protocol

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Reply, Usage
from llmgateway.wire.answers import CompletionDetails, PromptDetails, UsageFields


class Upstream(Protocol):
    """One way to talk to providers: OpenAI's wire, LiteLLM's translation, or the built-in demo."""

    async def send(self, deployment: Deployment, call: Call) -> Reply:
        """Ask once, without retrying; for a stream, return when its first event has arrived.

        Cancelling the wait ends the call at the provider; so does `aclose` on a stream's chunks.

        Raises:
            UpstreamError: The provider failed or refused; its message is kept, secrets and addresses are not.
            ContextLengthError: The provider says that the prompt does not fit.
            UnsupportedParameterError: The provider has no such parameter and the model does not drop it.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class Probed(Protocol):
    """An upstream whose deployments can be asked whether they live, at no cost."""

    async def probe(self, deployment: Deployment) -> bool:
        """Ask; whether our key was taken as well, where that can be told.

        Raises:
            UpstreamError: It does not answer, or only with failures of its own.
            UpstreamAuthError: It refuses our key.
        """
        ...


def usage_of(fields: UsageFields, service_tier: str | None = None) -> Usage | None:
    """Read OpenAI's usage; `None` when it holds no number: every answer has used something."""
    usage = Usage(
        prompt_tokens=fields.prompt_tokens or 0,
        completion_tokens=fields.completion_tokens or 0,
        cached_tokens=fields.prompt_cache_hit_tokens or fields.cached_tokens or 0,
        service_tier=service_tier or fields.service_tier,
    )
    if not (usage.prompt_tokens or usage.completion_tokens):
        return None
    if fields.prompt_tokens_details is not None:
        _note_prompt(usage, fields.prompt_tokens_details)
    if fields.completion_tokens_details is not None:
        _note_completion(usage, fields.completion_tokens_details, fields.total_tokens)
    return usage


def _note_prompt(usage: Usage, details: PromptDetails) -> None:
    usage.cached_tokens = details.cached_tokens or usage.cached_tokens
    usage.audio_prompt_tokens = details.audio_tokens or 0
    usage.image_prompt_tokens = details.image_tokens or 0
    written = details.cache_write_tokens or details.cache_creation_tokens
    if written:
        split = details.cache_creation_token_details
        usage.cache_write_1h_tokens = min(written, (split.ephemeral_1h_input_tokens if split else None) or 0)
        usage.cache_write_tokens = written - usage.cache_write_1h_tokens


def _note_completion(usage: Usage, details: CompletionDetails, total_tokens: int | None) -> None:
    usage.reasoning_tokens = details.reasoning_tokens or 0
    usage.audio_completion_tokens = details.audio_tokens or 0
    usage.image_completion_tokens = details.image_tokens or 0
    # xAI counts reasoning beside the completion, OpenAI within it; the total tells which.
    if (
        usage.reasoning_tokens
        and total_tokens == usage.prompt_tokens + usage.completion_tokens + usage.reasoning_tokens
    ):
        usage.completion_tokens += usage.reasoning_tokens
