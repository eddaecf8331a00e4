"""The provider: requests into the gateway's pipeline, chunks out of it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Self

from llmgateway.errors import GatewayError
from llmgateway.exchange import Call, Complete, Exchange, Reply
from llmgateway.gateway.gateway import Gateway
from llmgateway.providers.errors import translate
from llmgateway.providers.request import Chunk, CompletionRequest, call_of, chunks_of
from llmgateway.tokens import TokenCounter
from llmgateway.wire.sse import payload, split_events


class LLMGatewayProvider:
    """The gateway as an object: catalog, retries, errors and all, in this process.

    Args:
        gateway: Whose pipeline answers; its owner closes it. `None` builds one from the environment (settings,
            catalog and keys, as `llmgateway serve` reads them) at the first use, and `close` closes that one.
    """

    def __init__(self, gateway: Gateway | None = None) -> None:
        self._gateway = gateway
        self._own: Gateway | None = None
        self._counter = TokenCounter()

    async def generate(self, request: CompletionRequest) -> AsyncGenerator[Chunk]:
        """Answer a request in chunks; in one, when it does not stream.

        Closing the generator early (`contextlib.aclosing`) ends the call at the provider.

        Raises:
            AuthError: The provider refuses the key.
            RateLimitError: It limits our account; `retry_after` says for how long, in seconds.
            TimeoutError: The deadline passed.
            InvalidRequestError: The request is wrong, or there is no such model.
            ProviderUnavailableError: It failed, or its answer broke off: what came before is not whole.
        """
        exchange = Exchange(requested_model=request.model, stream=request.stream)
        if request.timeout_s is not None:
            exchange.deadline = exchange.started + request.timeout_s
        try:
            reply = await self._send(exchange, call_of(request))
            async with aclosing(_bodies(reply)) as bodies:
                async for body in bodies:
                    for chunk in chunks_of(body):
                        yield chunk
        except GatewayError as error:
            asked = exchange.attempts[-1].provider if exchange.attempts else None
            raise translate(error, provider=exchange.provider or asked, model=request.model) from error

    async def count_tokens(self, text: str, model: str) -> int:
        """Count the tokens of a text: exactly for OpenAI's models, else an estimate (`TokenCounter`)."""
        return await self._counter.count(text, model)

    async def close(self) -> None:
        """Give back connections; a gateway that was passed in stays open."""
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, exchange: Exchange, call: Call) -> Reply:
        gateway = self._gateway or self._own
        if gateway is None:
            # The one import upwards: only `app` knows the whole, and a program that wants the whole comes in here.
            from llmgateway.engine import build_gateway  # noqa: PLC0415  see above

            gateway = self._own = build_gateway()
        return await gateway.send(exchange, call)


async def _bodies(reply: Reply) -> AsyncGenerator[bytes]:
    """Yield the JSON of a whole answer, or of each event of a stream."""
    if isinstance(reply, Complete):
        yield reply.body
        return
    try:
        async for events in reply.chunks:
            for event in split_events(events):
                body = payload(event)
                if body and body != b"[DONE]":
                    yield body
    finally:
        await reply.chunks.aclose()
