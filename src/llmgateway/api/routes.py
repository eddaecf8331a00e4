"""Every path, one line each. The model calls are found by one look-up; all else goes through Starlette's router."""

from collections.abc import Mapping, Sequence

from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.api.calls import ModelCalls, ReplyTimes
from llmgateway.gateway.gateway import Gateway
from llmgateway.wire.requests import read_chat, read_completion, read_embedding


def model_calls(gateway: Gateway, times: ReplyTimes) -> dict[str, ASGIApp]:
    """The paths that are calls of a model: behind the limits on bodies and requests in flight."""
    return {
        "/v1/chat/completions": ModelCalls("chat", read_chat, gateway=gateway, times=times),
        "/v1/completions": ModelCalls("completion", read_completion, gateway=gateway, times=times),
        "/v1/embeddings": ModelCalls("embedding", read_embedding, gateway=gateway, times=times),
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
        serve = self._calls.get(scope["path"], self._pages)
        # What Starlette does for its own applications; the router raises for unknown paths when it sees one.
        scope["app"] = self
        await serve(scope, receive, send)
