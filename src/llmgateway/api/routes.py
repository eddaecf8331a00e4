"""Every path, one line each. The model calls are found by one look-up; all else goes through Starlette's router."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
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
DOCUMENTS = "/api/v1/"
_READERS: Mapping[Operation, Callable[[bytes], Asked]] = {
    "chat": read_chat,
    "completion": read_completion,
    "embedding": read_embedding,
}


def model_calls(gateway: Gateway, times: ReplyTimes, started: Started | None = None) -> dict[str, ASGIApp]:
    """The paths that are calls of a model: behind the limits on bodies and requests in flight."""
    calls: dict[str, ASGIApp] = {
        path: ModelCalls(operation, _READERS[operation], gateway=gateway, times=times, started=started)
        for path, operation in OPERATIONS.items()
    }
    calls["/v1/route"] = ModelCalls("chat", read_chat, gateway=gateway, times=times, dry=True)
    return calls


class Paths:
    """Sends a request to what serves its path.

    Args:
        calls: The model calls by their path, as they are to be reached.
        pages: Everything else.
        documents: Everything under /api/v1.
    """

    def __init__(
        self, calls: Mapping[str, ASGIApp], pages: Sequence[BaseRoute], documents: ASGIApp | None = None
    ) -> None:
        self._calls = dict(calls)
        self._pages = Router(routes=together(pages), redirect_slashes=False)
        self._documents = documents or self._pages

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        serve = self._calls.get(path)
        if serve is None:
            serve = self._documents if path.startswith(DOCUMENTS) else self._pages
            # What Starlette does for its own applications; the router raises for unknown paths when it sees one.
            scope["app"] = self
        if scope["method"] == "POST":
            # Known before anything refuses the request: a refusal is counted as a model call's, and answered as one.
            scope["exchange"].operation = OPERATIONS.get(path)
        return serve(scope, receive, send)


def together(pages: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Make one route of all that serve the same path, so that a refused method is told of each that is served."""
    found: dict[str, list[Route]] = {}
    for page in pages:
        if isinstance(page, Route):
            found.setdefault(page.path, []).append(page)
    others = [page for page in pages if not isinstance(page, Route)]
    return [*(one[0] if len(one) == 1 else _by_method(one) for one in found.values()), *others]


def _by_method(routes: Sequence[Route]) -> Route:
    endpoints = {method: route.endpoint for route in routes for method in sorted(route.methods or ())}

    async def endpoint(request: Request) -> Response:
        response: Response = await endpoints[request.method](request)
        return response

    return Route(routes[0].path, endpoint, methods=list(endpoints))
