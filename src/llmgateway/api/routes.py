"""Every path, one line each. The model calls are found by one look-up; all else goes through Starlette's router."""

from collections.abc import Callable, Mapping, Sequence

from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.api.calls import ModelCalls, ReplyTimes, Started
from llmgateway.exchange import Operation
from llmgateway.gateway.gateway import Gateway
from llmgateway.wire.requests import Asked, read_chat, read_completion, read_embedding

OPERATIONS: Mapping[str, Operation] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
}
_READERS: Mapping[Operation, Callable[[bytes], Asked]] = {
    "chat": read_chat,
    "completion": read_completion,
    "embedding": read_embedding,
}


def model_calls(gateway: Gateway, times: ReplyTimes, started: Started | None = None) -> dict[str, ASGIApp]:
    """The paths that are calls of a model: behind the limits on bodies and requests in flight."""
    return {
        path: ModelCalls(operation, _READERS[operation], gateway=gateway, times=times, started=started)
        for path, operation in OPERATIONS.items()
    }


class Paths:
    """Sends a request to what serves its path.

    Args:
        calls: The model calls by their path, as they are to be reached.
        pages: Everything else.
    """

    def __init__(self, calls: Mapping[str, ASGIApp], pages: Sequence[BaseRoute]) -> None:
        self._calls = dict(calls)
        self._pages = Router(routes=pages, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        serve = self._calls.get(path, self._pages)
        if scope["method"] == "POST":
            # Known before anything refuses the request: a refusal is counted as a model call's, and answered as one.
            scope["exchange"].operation = OPERATIONS.get(path)
        # What Starlette does for its own applications; the router raises for unknown paths when it sees one.
        scope["app"] = self
        await serve(scope, receive, send)
