"""Finds out who made what is sealed in a call, before anybody chooses who is to answer it."""

import asyncio

from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.gateway.target import Answering, Target
from llmgateway.routing.makers import Makers, holds_sealed

# Above this size a body is searched in a thread, so that others do not wait for it.
_LARGE_BYTES = 256 * 1024


class MakersLayer:
    """Costs three searches of a conversation, and nothing where no model has said anything yet: users seal nothing."""

    def __init__(self, makers: Makers, target: Target) -> None:
        self._makers = makers
        self._target = target

    def send(self, exchange: Exchange, call: Call) -> Answering:
        if call.operation != "chat" or not call.has_answers:
            return self._target.send(exchange, call)
        if len(call.body) > _LARGE_BYTES:
            return self._send_large(exchange, call)
        return self._send_found(exchange, call) if holds_sealed(call.body) else self._target.send(exchange, call)

    async def _send_large(self, exchange: Exchange, call: Call) -> Reply:
        if await asyncio.to_thread(holds_sealed, call.body):
            return await self._send_found(exchange, call)
        return await self._target.send(exchange, call)

    async def _send_found(self, exchange: Exchange, call: Call) -> Reply:
        exchange.maker = await self._makers.find(call)
        return await self._target.send(exchange, call)
