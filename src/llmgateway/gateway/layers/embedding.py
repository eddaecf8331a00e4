"""A call that the gateway makes for itself: the vector of a text, on behalf of an exchange."""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from llmgateway.errors import GatewayError, UpstreamError
from llmgateway.exchange import Call, Complete, Exchange
from llmgateway.gateway.target import Names, Target, model_not_found


class _Vector(Struct):
    embedding: list[float]


class _Answer(Struct):
    data: list[_Vector]


_ANSWER = msgspec.json.Decoder(_Answer)
_OK = 200


class Embedder:
    """Asks a model for embeddings. It has an entry of its own in the ledger, on the same caller's account.

    Args:
        target: What is within access and sensitivity: the limits and budgets of the caller hold.
        names: Gives the catalog served at this moment.
        record: Writes the call down, however it ended.
    """

    def __init__(self, target: Target, names: Callable[[], Names], record: Callable[[Exchange], None]) -> None:
        self._target = target
        self._names = names
        self._record = record

    async def __call__(self, exchange: Exchange, text: str, model: str) -> Sequence[float]:
        """Give the vector of a text.

        Raises:
            GatewayError: Whatever went wrong; an answer without a vector is the provider's fault.
        """
        body = msgspec.json.encode({"model": model, "input": text})
        call = Call("embedding", model, body)
        inner = _on_behalf(exchange, call)
        try:
            names = self._names()
            inner.model = names.resolve(model)
            if inner.model is None:
                raise model_not_found(model, names)
            inner.model_label = inner.model.label
            inner.reply = await self._target.send(inner, call)
            inner.status = _OK
            return _vector(inner.reply.body if isinstance(inner.reply, Complete) else b"")
        except GatewayError as error:
            inner.status, inner.error_code = error.status, error.code
            raise
        finally:
            self._record(inner)


def _on_behalf(exchange: Exchange, call: Call) -> Exchange:
    return Exchange(
        method=exchange.method,
        path=exchange.path,
        caller=exchange.caller,
        organization=exchange.organization,
        deadline=exchange.deadline,
        operation=call.operation,
        requested_model=call.model,
        call=call,
        min_security=exchange.min_security,
    )


def _vector(body: bytes) -> list[float]:
    try:
        return _ANSWER.decode(body).data[0].embedding
    except (msgspec.DecodeError, IndexError) as error:
        raise UpstreamError("The answer of the model for embeddings holds no vector.") from error
