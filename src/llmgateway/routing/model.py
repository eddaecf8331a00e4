"""A model that clients name, as a target: it picks a deployment and lets it answer."""

from llmgateway.catalog.model import Model
from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.routing.retry import Retry


class RoutedModel:
    """A target for one model of the catalog. The first deployment answers; its failures are retried."""

    __slots__ = ("_model", "_retry")

    def __init__(self, model: Model, retry: Retry) -> None:
        self._model = model
        self._retry = retry

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        exchange.route_reason = "only deployment" if len(self._model.deployments) == 1 else "first deployment"
        return await self._retry.send(exchange, self._model.deployments[0], call)
