"""The outermost target: HTTP, dialects, document passes and Python programs all enter here."""

from collections.abc import Awaitable, Callable

from llmgateway.errors import NotFoundError
from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.gateway.target import Target
from llmgateway.gateway.virtual.asking import PREFIX
from llmgateway.gateway.virtual.target import VirtualModels


class Gateway:
    """One door for every call.

    Args:
        target: The layers around the models, put together in `app.py`.
        close: Gives back what was opened for them.
        request_s: Seconds that a call may take whose exchange names no deadline.
        explain: Answers dry runs: with the plan of a call.
        virtual: Answers models whose answer is a job, where there are any; set once jobs can be ordered.
    """

    def __init__(
        self,
        target: Target,
        close: Callable[[], Awaitable[None]],
        request_s: float | None = None,
        explain: Target | None = None,
    ) -> None:
        self._target = target
        self._explain = explain
        self._close = close
        self._request_s = request_s
        self.virtual: VirtualModels | None = None

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        """Answer a call and note its reply in the exchange.

        Raises:
            GatewayError: Whatever went wrong, with the status and the code for the client.
        """
        exchange.operation, exchange.requested_model, exchange.stream = call.operation, call.model, call.stream
        exchange.call = call
        if exchange.deadline is None and self._request_s is not None:
            exchange.deadline = exchange.started + self._request_s
        target = self.virtual if self.virtual is not None and call.model.startswith(PREFIX) else self._target
        reply = await target.send(exchange, call)
        exchange.reply = reply
        return reply

    async def explain(self, exchange: Exchange, call: Call) -> Reply:
        """Answer with the plan of a call, asking nobody. Raises: GatewayError."""
        if self._explain is None:
            raise NotFoundError("There are no dry runs here.")
        exchange.operation, exchange.requested_model, exchange.stream = call.operation, call.model, call.stream
        try:
            if self.virtual is not None and call.model.startswith(PREFIX):
                return await self.virtual.explain(exchange, call)
            return await self._explain.send(exchange, call)
        finally:
            # No call of a model: it stands in no ledger and in no figure of theirs.
            exchange.operation = None

    async def close(self) -> None:
        """Close connections; calls in flight fail."""
        await self._close()
