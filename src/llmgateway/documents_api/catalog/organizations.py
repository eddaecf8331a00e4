"""Organizations: the very endpoints of `/admin/organizations`, where whoever knows only `/api/v1` looks for them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from llmgateway.documents_api.asked import content_of, exchange_of
from llmgateway.documents_api.shelves.viewer import administrator
from llmgateway.keys.modes import LOCAL_ADMIN

Endpoint = Callable[[Request], Awaitable[Response]]

_THERE, _HERE = "/admin/organizations", "/api/v1/organizations"


def routes(admin: Sequence[Route]) -> list[Route]:
    """Serve `/api/v1/organizations`.

    Args:
        admin: The routes of `/admin/organizations`.
    """
    return [
        Route(route.path.replace(_THERE, _HERE), _forwarded(route), methods=[*(route.methods or ())]) for route in admin
    ]


def _forwarded(route: Route) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        administrator(request)
        response: Response = await route.endpoint(_as_admin(request))
        return response

    return endpoint


def _as_admin(request: Request) -> Request:
    """Make the request that an administrator would have sent: a person at the machine, without a key, is one too."""
    exchange, content = exchange_of(request), content_of(request)
    caller = exchange.caller if exchange.caller.kind == "admin" else LOCAL_ADMIN
    scope: Mapping[str, object] = {**request.scope, "exchange": structs.replace(exchange, caller=caller)}

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    return Request(dict(scope), receive)
