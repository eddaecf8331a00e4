"""Finds out who made what is sealed in a call, before anybody chooses who is to answer it."""

from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.gateway.target import Answering, Target
from llmgateway.routing.makers import Makers, holds_sealed


class MakersLayer:
    """Costs three searches where nothing is sealed."""

    def __init__(self, makers: Makers, target: Target) -> None:
        self._makers = makers
        self._target = target

    def send(self, exchange: Exchange, call: Call) -> Answering:
        if call.operation != "chat" or not holds_sealed(call.body):
            return self._target.send(exchange, call)
        return self._send_found(exchange, call)

    async def _send_found(self, exchange: Exchange, call: Call) -> Reply:
        exchange.maker = await self._makers.find(call)
        return await self._target.send(exchange, call)
