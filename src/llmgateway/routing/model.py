"""A model that clients name, as a target: it picks a deployment and lets it answer."""

from llmgateway.catalog.model import Model
from llmgateway.errors import AuthenticationError, UpstreamAuthError
from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.routing.candidates import candidates
from llmgateway.routing.retry import Retry


class RoutedModel:
    """A target for one model of the catalog. The first deployment with room answers; its failures are retried."""

    __slots__ = ("_model", "_retry")

    def __init__(self, model: Model, retry: Retry) -> None:
        self._model = model
        self._retry = retry

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        found, choice = candidates(exchange, self._model), exchange.choice
        if choice:
            exchange.route_reason = f"deployment {choice + 1}: those before it are at their limits"
        else:
            exchange.route_reason = "only deployment" if len(found) == 1 else "first deployment"
        try:
            return await self._retry.send(exchange, found[choice], call)
        except UpstreamAuthError as error:
            if exchange.caller.provider_key is None:
                raise
            # The key that was refused is the client's own.
            raise AuthenticationError(f"{found[choice].account.provider} does not take this key.") from error
