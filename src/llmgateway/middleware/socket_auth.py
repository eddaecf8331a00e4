"""Lets WebSockets in by the rules of requests, for which their handshake is one; and no foreign page's."""

from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmgateway.exchange import Exchange, Header
from llmgateway.keys.origins import check_origin

# A browser cannot set headers of a handshake, but it can name subprotocols.
_BEARER = "bearer."


class SocketAuth:
    """Says who opens a WebSocket, or refuses.

    Args:
        auth: Puts around an application what decides this for requests.
        origins: Pages of which may open one beside those of this host; `*` is all.
    """

    def __init__(self, auth: Callable[[ASGIApp], ASGIApp], *, origins: Collection[str] = ()) -> None:
        self._auth = auth(_entered)
        self._origins = frozenset(origin.lower() for origin in origins)

    async def __call__(self, scope: Scope, exchange: Exchange) -> tuple[Scope, str | None]:
        """Set the exchange's caller and organization.

        Returns:
            The handshake as a request, and the subprotocol to agree on, if the key came as one.

        Raises:
            GatewayError: As a request would get it.
            PermissionDeniedError: It comes from a foreign page.
        """
        headers: list[Header] = [(name.lower(), value) for name, value in scope["headers"]]
        check_origin(headers, self._origins, "may not open this WebSocket")
        keys = [name for name in scope.get("subprotocols", ()) if name.startswith(_BEARER)]
        headers += [(b"authorization", b"Bearer " + key.removeprefix(_BEARER).encode()) for key in keys]
        asked = {
            **scope,
            "type": "http",
            "method": "GET",
            "headers": headers,
            "named_headers": dict(headers),
            "exchange": exchange,
        }
        await self._auth(asked, _silent, _unheard)
        return asked, keys[0] if keys else None


async def _entered(scope: Scope, receive: Receive, send: Send) -> None:
    """Whoever comes this far may come in."""


async def _silent() -> Message:
    raise RuntimeError("a handshake has no body")


async def _unheard(message: Message) -> None:
    raise RuntimeError(f"a handshake is not answered here: {message['type']}")
