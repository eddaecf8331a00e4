"""The seam to providers: what routing may ask of every upstream."""

from typing import Protocol

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Reply


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
